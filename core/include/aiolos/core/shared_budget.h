// SPDX-License-Identifier: Apache-2.0
// How the disks of one AIO engine share what it can hold in flight. Pure: time comes in by the calls.
#pragma once

#include <chrono>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace aiolos {

/// What one disk asks of a budget.
struct BudgetClaim {
  unsigned want = 0;    ///< Requests in flight; more would not be used.
  double weight = 1.0;  ///< Of what is left after the floors.
};

/// Shares of `capacity`: `floor` for everyone, and the rest max-min fair by weight, nobody over their want.
/// @param floor is lowered to capacity / claims, but not below 1, where the capacity does not reach for it.
/// @return one share a claim, in order; together at most max(capacity, number of claims).
std::vector<unsigned> divide_budget(unsigned capacity, unsigned floor, std::span<const BudgetClaim> claims);

/// The queue budget of one AIO engine: who may start a request now. For one thread.
///
/// - A disk may always have its floor in flight, whatever the others do; so none starves.
/// - Its share is what it can use by Little's law: 1.25 times the IOPS it is given times its unloaded latency. Its
///   window grows towards the share by doubling, and shrinks towards it as completions give credit back.
/// - What nobody uses is lent to whoever asks. As soon as a disk waits for credit inside its own window, nothing more
///   is lent, and the completions of the borrowers pay it back.
class SharedBudget {
 public:
  using Duration = std::chrono::nanoseconds;
  using DiskId = std::size_t;

  struct Disk {
    unsigned slots = 0;  ///< Places in all its rings together.
    double weight = 1.0;
    unsigned clamp = std::numeric_limits<unsigned>::max();  ///< No more than this, whatever is free.
    unsigned want = 0;
    unsigned share = 0;
    unsigned window = 0;
    unsigned in_flight = 0;
    double iops = 0;                           ///< Completions a second, smoothed.
    std::optional<Duration> unloaded_latency;  ///< The least of the last 10 to 20 s.

   private:
    friend class SharedBudget;
    bool present = true;
    bool pressed = false;   ///< Asked for more than it got, or than its window, since the last rebalance.
    bool asking = false;    ///< Asked for more than its floor since the last rebalance,
    bool hungry = false;    ///< or in the time before that: its window is kept for it.
    unsigned finished = 0;  ///< Since the last rebalance, as are:
    Duration spent{0};      ///< the latencies of these together,
    bool unloaded = false;  ///< and at the last one, whether they were as good as unloaded.
    std::optional<Duration> least_now;
    std::optional<Duration> least_before;
  };

  /// @param capacity requests that the engine's storage and kernel can take at once. @param floor for each disk.
  explicit SharedBudget(unsigned capacity, unsigned floor = 4) : capacity_(capacity), floor_(floor) {}

  /// @param slots places in all rings of the disk; 0 while it has none. Rebalances.
  DiskId add(unsigned slots, double weight = 1.0);
  /// The disk starts nothing any more; what it has in flight still counts until finished. Rebalances.
  void remove(DiskId id);
  void set_slots(DiskId id, unsigned slots);
  /// Bounds a disk from outside, as a drain controller does; nullopt ends it.
  void clamp(DiskId id, std::optional<unsigned> most);

  /// Asks for one more request in flight. @return whether it may start now; then it counts.
  bool start(DiskId id);
  /// Gives back what start() took. @param latency of the request; nullopt if it never reached the storage.
  void finish(DiskId id, std::optional<Duration> latency);

  /// Measures and shares out anew; to be called about every 100 ms. @param elapsed since the last call.
  void rebalance(Duration elapsed);

  /// What all disks together may have in flight: the size the engine needs.
  unsigned limit() const;
  const Disk& disk(DiskId id) const { return disks_[id]; }

 private:
  unsigned most(const Disk& disk) const { return disk.clamp < disk.slots ? disk.clamp : disk.slots; }
  unsigned held(const Disk& disk) const;
  unsigned promised(const Disk& disk) const;
  unsigned room() const;
  unsigned want_of(const Disk& disk) const;
  template <typename Change>
  void change(Disk& disk, Change apply);
  void share_out();
  void measure(Disk& disk, Duration elapsed);

  unsigned capacity_;
  unsigned floor_;
  unsigned floor_now_ = 1;  ///< The floor, or what the capacity leaves of it.
  unsigned present_ = 0;    ///< Disks.
  unsigned held_ = 0;       ///< The sums of held() and promised() over all disks.
  unsigned promised_ = 0;
  Duration since_rotation_{0};
  std::vector<Disk> disks_;
};

}  // namespace aiolos
