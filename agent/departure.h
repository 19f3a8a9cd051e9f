// SPDX-License-Identifier: Apache-2.0
// The source of a migration: from the guest's records to the guest on another host, or back to where it was.
#pragma once

#include <future>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aiolos/core/stock_drain.h"
#include "aiolos/core/switchover.h"
#include "attachment_flows.h"

namespace aiolos {

/// Of one migration. Holds its lock and those of the guest's disks, so that nobody attaches or detaches meanwhile.
class AttachmentFlows::Departure {
 public:
  /// Borrows all of it.
  Departure(AttachmentFlows& flows, const MigrationRequest& request, MigrationPeer& peer, const MigrationWatch& watch)
      : flows_(flows), request_(request), peer_(peer), watch_(watch) {}

  Result<MigrationReport> run();

 private:
  enum class Place { here, there, nowhere, unknown };

  // Before anything is begun.
  Result<void> look();
  Result<void> check_not_moving();
  Result<void> take_records();
  Result<void> take_record(const AttachmentRecord& listed, const GuestDisks& guest);
  Result<MovingVolume> moving_volume(const AttachmentRecord& record) const;
  Result<void> check_connections() const;
  Result<void> check_drains_known();
  Result<void> read_guest();
  Result<std::vector<LoweredQueue>> lowered_now() const;
  /// Whose drains are bounded, and by what.
  void look_ahead();
  /// What the guest's agent is to do, if it may.
  void plan_queues();
  Result<void> check_unchanged();

  // While it moves.
  Result<MigrationResult> move(const PreparedGuest& prepared);
  /// Until migrate() has returned.
  void watch(std::future<Result<MigrationResult>>& moving);
  void steer(const MigrationProgress& progress);
  void tell(const SwitchoverOrder& order);
  void give_up(Error reason);
  Error overdue_error(const SwitchoverView& view) const;
  /// The longest drain that was forecast lately; nullopt where nobody forecasts.
  std::optional<std::chrono::microseconds> drain_lately();
  /// The same of the disks that aiolos-engine serves.
  std::optional<std::chrono::microseconds> engine_drain_lately();
  /// At the disks that QEMU serves.
  Result<GuestCounters> look_at_stock_disks();
  void watch_before(std::chrono::milliseconds time);
  void show(MigrationStatus::Phase phase, const SwitchoverView& view) const;
  bool is_stopped() const { return watch_.stop && watch_.stop(); }

  // After it.
  Place find_place(bool may_run);
  Error settle_failed(Error error);
  MigrationReport settle_moved(const MigrationResult& result);
  void settle_here(std::vector<std::string>& notes);
  void disconnect_all(std::vector<std::string>& notes);
  MigrationReport report() const;

  AttachmentFlows& flows_;
  const MigrationRequest& request_;
  MigrationPeer& peer_;
  const MigrationWatch& watch_;

  DomainState domain_;
  Lock lock_;
  std::vector<Lock> disk_locks_;
  std::vector<AttachmentRecord> records_;
  std::map<std::string, std::optional<AioMode>> modes_;  ///< Of QEMU's disks as they are, by target.
  MovingGuest guest_;
  std::vector<LoweredQueue> lowered_;
  std::vector<PlanChange> raised_;  ///< Thread pools.
  std::map<std::string, DrainOutlook> outlooks_;  ///< By target.
  std::vector<std::string> notes_;
  std::vector<PreparedDisk> prepared_;

  SwitchoverSettings settings_;
  SwitchoverOrder told_;  ///< What QEMU and the engine have been told.
  std::chrono::steady_clock::time_point began_;
  bool asked_ = false;                       ///< libvirt, to migrate.
  std::optional<Error> reason_;              ///< Why it was given up.
  std::map<std::string, DiskDrain> first_;   ///< Before the guest moved, by disk.
  std::map<std::string, DiskDrain> drains_;  ///< As they were last seen while it moved, by disk.
  std::vector<std::pair<std::chrono::steady_clock::time_point, std::chrono::microseconds>> lately_;
  StockDrains stock_;
  std::optional<std::chrono::microseconds> downtime_;
  bool is_engine_ = false;  ///< aiolos-engine serves disks of the guest.
  bool is_stock_ = false;   ///< QEMU serves disks of it that move.
};

}  // namespace aiolos
