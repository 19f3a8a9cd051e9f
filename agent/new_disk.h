// SPDX-License-Identifier: Apache-2.0
// A disk on its way to a guest: which engine is to serve it, and what it takes of the host's AIO budget.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attachment_flows.h"

namespace aiolos {

class AttachmentFlows::NewDisk final : public Placement {
 public:
  /// Borrows flows and volume. @param attachment the volume's record, in whose name is reserved; nullopt for a
  /// rehearsal, which reserves nothing.
  NewDisk(AttachmentFlows& flows, const Volume& volume, const DomainState& domain,
          std::optional<std::int64_t> attachment)
      : flows_(flows), volume_(volume), domain_(domain), attachment_(attachment) {}

  /// Other attaches of this host wait meanwhile, so that no two of them count the same context.
  Result<AioRoom> room(const HostFacts& host) override;
  Result<void> place(disk::DiskConfig& disk, const HostFacts& host, std::vector<std::string>& notes) override;

 private:
  Result<PlannedGuest*> guest();
  /// The guest with this disk.
  PlanDomain with_disk(const PlannedGuest& guest, std::optional<AioMode> mode) const;

  AttachmentFlows& flows_;
  const Volume& volume_;
  const DomainState domain_;
  const std::optional<std::int64_t> attachment_;
  std::optional<PlannedGuest> guest_;
  std::optional<PlannedDisk> native_;  ///< Where it goes as a native disk, if the host has room for that.
};

}  // namespace aiolos
