// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/shared_budget.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace aiolos {
namespace {

/// Of Little's law, so that a disk at its want can still show that it could do more.
constexpr double kWantHeadroom = 1.25;
/// How long the least latency of a disk counts as its unloaded one.
constexpr std::chrono::seconds kLatencyMemory{10};
/// Of the newest measurement in the smoothed IOPS.
constexpr double kSmoothing = 0.5;

unsigned fitting_floor(unsigned capacity, unsigned floor, std::size_t disks) {
  return disks * floor <= capacity ? floor : std::max<unsigned>(1, capacity / static_cast<unsigned>(disks));
}

}  // namespace

std::vector<unsigned> divide_budget(unsigned capacity, unsigned floor, std::span<const BudgetClaim> claims) {
  if (claims.empty()) return {};
  floor = fitting_floor(capacity, floor, claims.size());
  std::vector<unsigned> shares(claims.size());
  for (std::size_t i = 0; i < claims.size(); ++i) shares[i] = std::min(std::max(claims[i].want, 1U), floor);
  const unsigned given = std::accumulate(shares.begin(), shares.end(), 0U);
  unsigned left = capacity > given ? capacity - given : 0;

  // Water-filling: who wants no more than an equal part of what is left gets it, and the others share the rest anew.
  std::vector<std::size_t> hungry(claims.size());
  std::iota(hungry.begin(), hungry.end(), 0);
  const auto satisfied = [&](std::size_t i) { return shares[i] >= claims[i].want; };
  std::erase_if(hungry, satisfied);
  while (left > 0 && !hungry.empty()) {
    const unsigned pot = left;
    double weights = 0;
    for (const std::size_t i : hungry) weights += claims[i].weight;
    for (const std::size_t i : hungry) {
      // At least one, so that fractions end; the first come first then.
      const auto part = std::max(1U, static_cast<unsigned>(pot * claims[i].weight / weights));
      const unsigned more = std::min({part, claims[i].want - shares[i], left});
      shares[i] += more;
      left -= more;
    }
    std::erase_if(hungry, satisfied);
  }
  return shares;
}

SharedBudget::DiskId SharedBudget::add(unsigned slots, double weight) {
  const auto unused =
      std::find_if(disks_.begin(), disks_.end(), [](const Disk& disk) { return !disk.present && disk.in_flight == 0; });
  const auto id = static_cast<DiskId>(unused - disks_.begin());
  if (unused == disks_.end()) disks_.emplace_back();
  disks_[id] = Disk{};
  disks_[id].slots = slots;
  disks_[id].weight = weight;
  ++present_;
  share_out();
  return id;
}

void SharedBudget::remove(DiskId id) {
  disks_[id].present = false;
  disks_[id].slots = 0;
  --present_;
  share_out();
}

void SharedBudget::set_slots(DiskId id, unsigned slots) {
  disks_[id].slots = slots;
  share_out();
}

void SharedBudget::clamp(DiskId id, std::optional<unsigned> most) {
  disks_[id].clamp = most.value_or(std::numeric_limits<unsigned>::max());
  share_out();
}

bool SharedBudget::start(DiskId id) {
  Disk& disk = disks_[id];
  if (disk.in_flight >= most(disk)) return false;
  if (disk.in_flight >= floor_now_) {
    disk.asking = true;
    if (!disk.hungry) change(disk, [](Disk& d) { d.hungry = true; });
    const bool inside = disk.in_flight < disk.window;
    const bool room_left = (inside ? held_ : promised_) < room();
    if (!inside || !room_left) disk.pressed = true;
    if (!room_left) return false;
  }
  change(disk, [](Disk& d) { ++d.in_flight; });
  return true;
}

void SharedBudget::finish(DiskId id, std::optional<Duration> latency) {
  Disk& disk = disks_[id];
  change(disk, [](Disk& d) {
    --d.in_flight;
    if (d.window > d.share) --d.window;
  });
  if (!latency) return;
  ++disk.finished;
  disk.spent += *latency;
  disk.least_now = std::min(disk.least_now.value_or(*latency), *latency);
}

void SharedBudget::rebalance(Duration elapsed) {
  since_rotation_ += elapsed;
  const bool rotate = since_rotation_ >= kLatencyMemory;
  if (rotate) since_rotation_ = Duration{0};
  for (Disk& disk : disks_) {
    disk.hungry = std::exchange(disk.asking, false);
    measure(disk, elapsed);
    if (rotate) {
      disk.least_before = disk.least_now;
      disk.least_now.reset();
    }
  }
  share_out();
}

unsigned SharedBudget::limit() const {
  unsigned slots = 0;
  for (const Disk& disk : disks_) slots += std::max(disk.slots, disk.in_flight);
  return std::max({1U, present_, std::min(capacity_, slots)});
}

/// What nobody else can have now. A floor is kept free also for a disk that asks for nothing.
unsigned SharedBudget::held(const Disk& disk) const {
  return disk.present ? std::max(disk.in_flight, floor_now_) : disk.in_flight;
}

/// What is not lent to others.
unsigned SharedBudget::promised(const Disk& disk) const {
  return disk.present && disk.hungry ? std::max(held(disk), disk.window) : held(disk);
}

template <typename Change>
void SharedBudget::change(Disk& disk, Change apply) {
  held_ -= held(disk);
  promised_ -= promised(disk);
  apply(disk);
  held_ += held(disk);
  promised_ += promised(disk);
}

/// Every disk is let have one, so many disks may pass a small capacity.
unsigned SharedBudget::room() const { return std::max(capacity_, present_); }

unsigned SharedBudget::want_of(const Disk& disk) const {
  const double latency = std::chrono::duration<double>(disk.unloaded_latency.value_or(Duration{0})).count();
  auto want = static_cast<unsigned>(std::ceil(kWantHeadroom * disk.iops * latency));
  // Asked for more, and was answered as fast as ever: it is short of its knee, so look further.
  if (disk.pressed && disk.unloaded) want = std::max(want, disk.window * 2);
  return std::min(most(disk), std::max(want, floor_now_));
}

void SharedBudget::share_out() {
  floor_now_ = present_ > 0 ? fitting_floor(capacity_, floor_, present_) : floor_;
  std::vector<BudgetClaim> claims;
  for (Disk& disk : disks_) {
    disk.want = disk.present ? want_of(disk) : 0;
    if (disk.present) claims.push_back({disk.want, disk.weight});
  }
  const std::vector<unsigned> shares = divide_budget(capacity_, floor_now_, claims);
  auto share = shares.begin();
  held_ = promised_ = 0;
  for (Disk& disk : disks_) {
    disk.share = disk.present ? std::min(*share++, disk.want) : 0;
    disk.window = std::max(disk.window, std::min(disk.share, std::max(disk.pressed ? 2 * disk.window : 0, floor_now_)));
    disk.pressed = false;
    held_ += held(disk);
    promised_ += promised(disk);
  }
}

void SharedBudget::measure(Disk& disk, Duration elapsed) {
  const double seconds = std::chrono::duration<double>(elapsed).count();
  if (seconds > 0) disk.iops += kSmoothing * (disk.finished / seconds - disk.iops);
  disk.unloaded_latency = disk.least_now && disk.least_before ? std::min(disk.least_now, disk.least_before)
                          : disk.least_now                    ? disk.least_now
                                                              : disk.least_before;
  disk.unloaded = disk.finished > 0 && disk.spent <= disk.finished * kWantHeadroom * *disk.unloaded_latency;
  disk.finished = 0;
  disk.spent = Duration{0};
}

}  // namespace aiolos
