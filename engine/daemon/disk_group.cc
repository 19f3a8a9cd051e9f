// SPDX-License-Identifier: Apache-2.0
#include "disk_group.h"

#include <algorithm>

namespace aiolos::engine {

void DiskGroup::add(DrainGovernor& governor) {
  group_.add(id(governor));
  governors_.push_back(&governor);
  if (target()) governor.set_target(*target());
  apply();
}

void DiskGroup::remove(DrainGovernor& governor) {
  group_.remove(id(governor));
  std::erase(governors_, &governor);
  apply();
}

void DiskGroup::set_target(std::optional<Duration> target) {
  group_.set_target(target);
  if (target)
    for (DrainGovernor* governor : governors_) governor->set_target(*target);
  apply();
}

void DiskGroup::logging(DrainGovernor& disk, bool on) {
  group_.logging(id(disk), on);
  apply();
}

void DiskGroup::stopping(DrainGovernor& disk, Time now) {
  group_.stopping(id(disk), now);
  apply();
}

void DiskGroup::started(DrainGovernor& disk) {
  group_.started(id(disk));
  apply();
}

void DiskGroup::disconnected(DrainGovernor& disk) {
  group_.remove(id(disk));
  group_.add(id(disk));
  apply();
}

void DiskGroup::switchover_near(bool near) {
  group_.switchover_near(near);
  apply();
}

void DiskGroup::tick(Time now) {
  if (group_.state() != DrainGroup::State::quiesce) return;
  // Only of disks that QEMU waits for: another one's storage may hang, and its guest would stand still with it.
  const auto drains = [this](const DrainGovernor* each) {
    return group_.is_stopping(id(*each)) && each->in_flight() > 0;
  };
  if (std::any_of(governors_.begin(), governors_.end(), drains)) group_.draining(now);
  group_.tick(now);
  apply();
}

void DiskGroup::apply() {
  for (DrainGovernor* governor : governors_) governor->set_mode(group_.mode(id(*governor)));
}

}  // namespace aiolos::engine
