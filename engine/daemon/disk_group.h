// SPDX-License-Identifier: Apache-2.0
// The disks of one guest: what happens to one of them is what the governors of all have to know. Belongs to a reactor.
#pragma once

#include <optional>
#include <vector>

#include "aiolos/core/drain_governor.h"
#include "aiolos/core/drain_group.h"

namespace aiolos::engine {

class DiskGroup {
 public:
  using Duration = DrainGovernor::Duration;
  using Time = DrainGovernor::Time;

  /// @param target as for DrainGroup::set_target.
  explicit DiskGroup(std::optional<Duration> target) : group_(target) {}

  void add(DrainGovernor& governor);
  void remove(DrainGovernor& governor);
  bool empty() const { return governors_.empty(); }

  void set_target(std::optional<Duration> target);
  std::optional<Duration> target() const { return group_.target(); }
  DrainGroup::State state() const { return group_.state(); }

  void logging(DrainGovernor& disk, bool on);
  void stopping(DrainGovernor& disk, Time now);
  void started(DrainGovernor& disk);
  /// Its front end has gone.
  void disconnected(DrainGovernor& disk);
  void switchover_near(bool near);
  void tick(Time now);

 private:
  static DrainGroup::DiskId id(const DrainGovernor& governor) {
    return reinterpret_cast<DrainGroup::DiskId>(&governor);
  }
  void apply();

  DrainGroup group_;
  std::vector<DrainGovernor*> governors_;
};

}  // namespace aiolos::engine
