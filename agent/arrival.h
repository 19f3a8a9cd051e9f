// SPDX-License-Identifier: Apache-2.0
// The destination of a migration: a guest's volumes are connected and its disks decided before it comes.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "attachment_flows.h"
#include "incoming_domain.h"

namespace aiolos {

/// Holds the lock of the guest's migration, so that reconcile leaves what is connected for it alone.
class AttachmentFlows::Arrival final : public MigrationPeer {
 public:
  /// Borrows flows.
  explicit Arrival(AttachmentFlows& flows) : flows_(flows) {}

  Result<PreparedGuest> prepare(const MovingGuest& guest, bool rehearse) override;
  Result<void> begin() override;
  Result<bool> has_guest() override;
  Result<std::vector<std::string>> arrived() override;
  Result<void> cancel() override;

 private:
  /// That it may come here. Undoes what an earlier attempt has left, unless it is a rehearsal.
  Result<void> check_may_come(const MovingGuest& guest, bool rehearse);
  /// Whether the guest is here once libvirt is done with one that does not come after all.
  Result<bool> stays();
  /// The flows as if the guest were here.
  void open_flows(const MovingGuest& guest, GuestDisks disks);
  Result<PreparedDisk> prepare_disk(const MovingVolume& volume, const disk::DiskConfig& before, bool rehearse);
  Result<std::vector<PreparedDisk>> prepare_disks(const MovingGuest& guest, const GuestDisks& disks, bool rehearse);
  Result<PreparedGuest> make_guest(const MovingGuest& guest, std::vector<PreparedDisk> disks) const;
  Error undo(Error error);
  Result<void> check_has_disks(const std::string& uuid);
  Result<void> restore_engine(const PlanEngine& before, const PlanEngine& now, std::vector<std::string>& notes);
  void restore_engines(std::vector<std::string>& notes);

  AttachmentFlows& flows_;
  Lock lock_;
  std::string uuid_;  ///< Empty: nothing is prepared.
  std::string name_;
  std::vector<PlanEngine> engines_;              ///< As the source had them.
  std::map<std::string, std::string> prepared_;  ///< Disks that are attached, by target.
  // The flows on a machine that has the guest already.
  Config config_;
  std::optional<IncomingDomain> hypervisor_;
  std::optional<IncomingMachine> machine_;
  std::optional<Decider> decider_;
  std::optional<AttachmentFlows> incoming_;
};

}  // namespace aiolos
