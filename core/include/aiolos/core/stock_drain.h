// SPDX-License-Identifier: Apache-2.0
// What a drain of the disks that QEMU serves by itself would take, from what QEMU counts of them. Pure: time comes in
// by the calls. The rules and what they were measured against: docs/drain.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/result.h"

namespace aiolos {

/// Requests of one kind that a disk has answered.
struct RequestCount {
  std::uint64_t requests = 0;
  std::chrono::nanoseconds time{0};  ///< Of all of them together, from the guest's ring to the answer.

  bool operator==(const RequestCount&) const = default;
};

/// What QEMU has counted of one disk since it has it.
struct DiskCounters {
  std::string target;  ///< "vdb"
  RequestCount reads;
  RequestCount writes;
  RequestCount flushes;
  std::optional<unsigned> in_flight;  ///< Taken from its rings and not answered yet; nullopt: not asked.
};

/// One look at the disks of a guest.
struct GuestCounters {
  /// It stands still for the end of its migration: what is answered now says nothing of what a drain takes. A guest
  /// that somebody has paused has nothing in flight, which its counters say like any others.
  bool switching_over = false;
  std::vector<DiskCounters> disks;
};

/// Where the counters of running guests come from.
class DiskStatistics {
 public:
  virtual ~DiskStatistics() = default;
  /// Of all disks whose I/O QEMU does and counts, which are not those of vhost-user. Works while the guest migrates.
  /// @param ask_qemu also what is in flight; marks the guest as tainted ("custom-monitor"). Where QEMU cannot say that
  /// (virtio-scsi; QEMU before 7.2) it stays out. @return ErrorKind::bad_input if there is no such domain, otherwise
  /// libvirt's error. May take as long as libvirt's other work with the guest (30 s at most).
  virtual Result<GuestCounters> look(const std::string& domain, bool ask_qemu) = 0;
};

/// One disk, seen again and again: at best every 20 to 100 ms. For one thread.
class StockDrain {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Forecast {
    double rate = 0;                       ///< Requests a second, as last seen.
    double in_flight = 0;                  ///< As QEMU says, else by Little's law.
    std::chrono::microseconds latency{0};  ///< Mean, of the slowest kind of request.
    std::chrono::microseconds drain{0};    ///< As it is now.
    std::chrono::microseconds longest{
        0};  ///< Of the last second: what a guest that may switch over at any time is held by.
  };

  /// Counters that went back begin anew.
  void see(Time now, const DiskCounters& counters);

  /// nullopt until it has been seen twice.
  const std::optional<Forecast>& forecast() const { return forecast_; }

 private:
  struct Seen {
    Time when;
    DiskCounters counters;
  };
  struct Rate {
    Time when;
    double requests_a_second = 0;
  };
  struct Estimate {
    Time when;
    std::chrono::microseconds drain{0};
  };

  void learn_rate(Time now, const DiskCounters& counters);
  std::chrono::microseconds estimate(Time now, const DiskCounters& counters) const;
  std::chrono::microseconds from_answers(Time now, const DiskCounters& counters) const;

  std::optional<Seen> last_;
  std::optional<Seen> window_;  ///< Where the window began by which the rate is measured.
  std::deque<Rate> rates_;      ///< Of windows in which it was busy.
  std::deque<Estimate> lately_;
  Time answered_{};                     ///< When it was last seen to have answered something.
  std::chrono::microseconds usual_{0};  ///< The latency then.
  std::optional<Forecast> forecast_;
};

/// All disks of a guest. QEMU drains them at the same time, so the slowest counts. For one thread.
class StockDrains {
 public:
  /// A look at a guest that switches over is left out.
  void see(StockDrain::Time now, const GuestCounters& seen);

  /// Of the slowest disk; nullopt until there is a forecast for one of them.
  std::optional<std::chrono::microseconds> longest() const;
  /// nullopt where there is none.
  std::optional<StockDrain::Forecast> of(const std::string& target) const;

 private:
  std::map<std::string, StockDrain> disks_;
};

}  // namespace aiolos
