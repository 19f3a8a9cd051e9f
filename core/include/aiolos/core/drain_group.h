// SPDX-License-Identifier: Apache-2.0
// The disks of one guest on their way to a switchover: when each of them is to hold back, and when all are to stop.
// Pure: time comes in by the calls.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string_view>

#include "aiolos/core/drain_governor.h"

namespace aiolos {

/// QEMU stops a guest's disks one after another and waits for each. The first stop therefore stops them all, so that
/// the guest waits for the slowest disk and not for the sum. For one thread.
class DrainGroup {
 public:
  using DiskId = std::size_t;
  using Duration = DrainGovernor::Duration;
  using Time = DrainGovernor::Time;

  enum class State {
    normal,   ///< No migration.
    track,    ///< A disk's dirty pages are logged: pre-copy has begun.
    clamp,    ///< Whoever migrates the guest has said that switchover is near.
    quiesce,  ///< A disk is being stopped: nothing is started on any.
    stopped,  ///< All have been stopped.
  };

  explicit DrainGroup(std::optional<Duration> target = DrainGovernor::Settings{}.target) : target_(target) {}

  /// @param target nullopt: nothing is held back before the first stop.
  void set_target(std::optional<Duration> target) { target_ = target; }
  std::optional<Duration> target() const { return target_; }

  /// A disk of the guest, running or not yet started.
  void add(DiskId disk) { disks_.try_emplace(disk); }
  /// Its front end has gone, or the disk has.
  void remove(DiskId disk) { disks_.erase(disk); }
  bool empty() const { return disks_.empty(); }

  /// VHOST_F_LOG_ALL was set or taken back: migration has begun, or is over or has failed.
  void logging(DiskId disk, bool on);
  /// The hint from outside. Without it `track` is what there is: the bound holds all the same.
  void switchover_near(bool near) { near_ = near; }
  /// A ring of the disk was disabled or its GET_VRING_BASE has come.
  void stopping(DiskId disk, Time now);
  /// A ring of the disk was started.
  void started(DiskId disk);
  /// Requests are in flight on a disk that is stopping: the stop of the others comes when QEMU has waited for these.
  void draining(Time now);
  /// To be called often. A stop that is not followed by those of the other disks within three times the target after
  /// nothing was in flight any more was not the guest's: a reset of one disk, or a failed switchover. The others go on
  /// then.
  void tick(Time now);

  /// Whether QEMU waits for this disk, or has done so.
  bool is_stopping(DiskId disk) const;
  State state() const;
  /// What a disk's governor is to do.
  DrainGovernor::Mode mode(DiskId disk) const;

 private:
  struct Disk {
    bool logging = false;
    bool stopping = false;
  };
  bool all_stopping() const;

  std::optional<Duration> target_;
  std::map<DiskId, Disk> disks_;
  bool near_ = false;
  std::optional<Time> quiesced_;  ///< Since when all have but to wait for the stop of the others.
};

/// "normal", "track", ...
std::string_view to_string(DrainGroup::State state);

}  // namespace aiolos
