// SPDX-License-Identifier: Apache-2.0
// A disk whose I/O aiolos-engine does: what the guest gets then, and what the engine is asked to serve.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attachment_flows.h"

namespace aiolos {

class AttachmentFlows::EngineDisk final : public Placement {
 public:
  /// Borrows flows and volume.
  EngineDisk(AttachmentFlows& flows, const Volume& volume, const DomainState& domain)
      : flows_(flows), volume_(volume), domain_(domain) {}

  /// The engine has its contexts already, or takes one.
  Result<AioRoom> room(const HostFacts& host) override;
  /// Makes it a vhost-user disk. ErrorKind::refused with the reason if the engine cannot serve the volume, or the guest
  /// cannot have such a disk.
  Result<void> place(disk::DiskConfig& disk, const HostFacts& host, std::vector<std::string>& notes) override;

  /// What to serve, once it was placed.
  const std::optional<DataPlaneDisk>& served() const { return served_; }

 private:
  Result<void> check_able(const disk::DiskConfig& disk) const;

  AttachmentFlows& flows_;
  const Volume& volume_;
  const DomainState domain_;
  std::optional<DataPlaneDisk> served_;
};

/// The name that the engine has for a disk; nullopt for a disk that it does not serve.
/// @param disk_xml as the journal keeps it; may be empty.
std::optional<std::string> engine_disk_name(const std::string& disk_xml);

}  // namespace aiolos
