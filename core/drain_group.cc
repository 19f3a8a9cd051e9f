// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/drain_group.h"

#include <algorithm>

namespace aiolos {

using Mode = DrainGovernor::Mode;

void DrainGroup::logging(DiskId disk, bool on) {
  disks_[disk].logging = on;
  if (state() == State::normal) near_ = false;  // the hint was for the migration that is over
}

void DrainGroup::stopping(DiskId disk, Time now) {
  Disk& which = disks_[disk];
  if (which.stopping) return;  // disable and GET_VRING_BASE of each ring of the same stop
  which.stopping = true;
  quiesced_ = now;
}

void DrainGroup::started(DiskId disk) {
  disks_[disk].stopping = false;
  quiesced_.reset();
}

void DrainGroup::draining(Time now) {
  if (quiesced_) quiesced_ = now;
}

void DrainGroup::tick(Time now) {
  const Duration patience = 3 * target_.value_or(DrainGovernor::Settings{}.target);
  if (quiesced_ && now - *quiesced_ > patience && !all_stopping()) quiesced_.reset();
}

bool DrainGroup::is_stopping(DiskId disk) const {
  const auto found = disks_.find(disk);
  return found != disks_.end() && found->second.stopping;
}

bool DrainGroup::all_stopping() const {
  return std::all_of(disks_.begin(), disks_.end(), [](const auto& each) { return each.second.stopping; });
}

DrainGroup::State DrainGroup::state() const {
  if (quiesced_) return all_stopping() ? State::stopped : State::quiesce;
  const bool migrates = std::any_of(disks_.begin(), disks_.end(), [](const auto& each) { return each.second.logging; });
  if (!migrates) return State::normal;
  return near_ ? State::clamp : State::track;
}

Mode DrainGroup::mode(DiskId disk) const {
  if (is_stopping(disk)) return Mode::stopped;
  switch (state()) {
    case State::normal:
      return Mode::free;
    case State::track:
      return target_ ? Mode::tracked : Mode::free;
    case State::clamp:
      return target_ ? Mode::clamped : Mode::free;
    case State::quiesce:
    case State::stopped:
      return Mode::stopped;
  }
  return Mode::free;
}

std::string_view to_string(DrainGroup::State state) {
  switch (state) {
    case DrainGroup::State::normal:
      return "normal";
    case DrainGroup::State::track:
      return "track";
    case DrainGroup::State::clamp:
      return "clamp";
    case DrainGroup::State::quiesce:
      return "quiesce";
    case DrainGroup::State::stopped:
      return "stopped";
  }
  return {};
}

}  // namespace aiolos
