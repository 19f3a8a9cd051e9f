// SPDX-License-Identifier: Apache-2.0
// What one disk may have in flight so that a drain, whenever it comes, ends within a bound. Pure: time comes in by the
// calls. The rules and why they are so: docs/drain.md.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "aiolos/core/in_flight_epochs.h"

namespace aiolos {

/// Learns what a disk's storage can do, and while it is told to, holds requests back of which a drain would have to
/// wait for too long. For one thread.
class DrainGovernor {
 public:
  using Duration = std::chrono::nanoseconds;
  using Time = std::chrono::steady_clock::time_point;

  struct Settings {
    Duration target = std::chrono::milliseconds(20);   ///< A drain shall take no longer.
    Duration overhead = std::chrono::milliseconds(1);  ///< Of it, what passes besides the requests in flight.
  };

  enum class Mode {
    free,     ///< Measures only.
    tracked,  ///< Holds the bound, and gives up no more throughput than that takes.
    clamped,  ///< Switchover is near: half of that, and nothing beside a heavy request.
    stopped,  ///< Starts nothing.
  };

  enum class Kind {
    transfer,
    heavy,  ///< Flush, discard, write zeroes: what takes as long as it takes, whatever its size.
  };

  /// A request in flight, for finish().
  struct Ticket {
    Time begun;
    std::uint64_t bytes = 0;
    InFlightEpochs::Epoch epoch = 0;
    Kind kind = Kind::transfer;
    bool shallow = false;  ///< With so few ahead of it that its time is the storage's latency.
  };

  /// What a drain would take.
  struct Forecast {
    Duration drain{0};     ///< If it began now; one of many may take longer.
    Duration bound{0};     ///< Whenever it begins, while tracked.
    bool feasible = true;  ///< Whether that bound is the target: one request alone may take longer.
  };

  DrainGovernor() : DrainGovernor(Settings{}) {}
  explicit DrainGovernor(const Settings& settings) : settings_(settings) {}

  void set_target(Duration target) { settings_.target = target; }
  void set_mode(Mode mode);
  Mode mode() const { return mode_; }

  /// Whether a request may start now. One may always be in flight, unless stopped. A refusal is remembered: it says
  /// that the guest wants more than the bound allows.
  /// @param bytes of a transfer; the kind of a request is known only once it has been taken.
  bool admits(std::uint64_t bytes);
  /// Counts a request that starts, admitted or not.
  Ticket start(Kind kind, std::uint64_t bytes, Time now);
  void finish(const Ticket& ticket, Time now);
  /// To be called often, every millisecond or two while there is I/O. Probes and adjusts at its own pace.
  void tick(Time now);

  unsigned in_flight() const { return in_flight_; }
  Forecast forecast() const;
  /// Larger transfers had better be split, for one alone would take a quarter of the target; nullopt while not known.
  std::optional<std::uint64_t> largest_piece() const;

 private:
  /// The largest value of the last 10 to 20 s.
  struct Peak {
    double last = 0;
    double now = 0;
    double before = 0;
    void take(double value) {
      last = value;
      now = now > value ? now : value;
    }
    void rotate() {
      before = now;
      now = 0;
    }
    void forget() {
      before = 0;
      now = last;
    }
    double value() const { return now > before ? now : before; }
  };

  double work(std::uint64_t transfers, std::uint64_t bytes, unsigned heavy) const;
  double work() const { return work(in_flight_ - heavy_, bytes_, heavy_); }
  double work_with(std::uint64_t bytes) const { return work(in_flight_ - heavy_ + 1, bytes_ + bytes, heavy_); }
  double work_limit() const;
  double shallow_limit() const;
  double bound(double latency) const;
  double bound() const { return bound(latency_); }
  bool bounded() const { return mode_ == Mode::tracked || mode_ == Mode::clamped; }
  bool exploring() const { return bounded() && !latency_known_since_; }
  void probe(Time now);
  void settle_probes(Time now);
  void adjust();
  void cut();
  void measure(Time now);
  void judge_latency(Time now);
  void forget_latency();

  Settings settings_;
  Mode mode_ = Mode::free;

  // In flight.
  unsigned in_flight_ = 0;
  unsigned heavy_ = 0;
  std::uint64_t bytes_ = 0;

  // What the storage can do.
  Peak transfers_per_second_;
  Peak bytes_per_second_;
  double heavy_seconds_ = 0;     ///< Smoothed time of a heavy request.
  double transfer_seconds_ = 0;  ///< What a transfer takes, its queue included; smoothed.

  // Seconds of one transfer with so few ahead of it that they do not account for a target. How long one takes among
  // many says nothing: by Little's law a queue looks like a latency.
  double latency_ = 0;      ///< The median, which the storage's hiccups do not move; 0 while not known.
  double latency_p99_ = 0;  ///< And what has to be promised.
  std::optional<Time> latency_known_since_;
  std::array<float, 256> latencies_{};
  std::size_t latency_count_ = 0;
  std::size_t judged_count_ = 0;

  // This window of measurement, and this part of the peaks' memory.
  std::optional<Time> window_begun_;
  Time peaks_begun_{};
  Time transferred_{};  ///< When the last transfer finished.
  std::uint64_t window_transfers_ = 0;
  std::uint64_t window_bytes_ = 0;

  // Shadow drains: each probe is the end of an epoch, and lasts until what was in flight then has finished.
  struct Probe {
    InFlightEpochs::Epoch epoch;
    Time begun;
  };
  InFlightEpochs epochs_;
  InFlightEpochs::Epoch unbounded_ = 0;  ///< The last epoch in which nothing was held back.
  std::deque<Probe> probes_;
  std::optional<Time> probed_;
  std::vector<double> drains_;  ///< What probes took that ended since the last adjustment, in seconds.
  bool held_back_ = false;      ///< Something was refused since then.
  bool overdue_ = false;        ///< An overdue probe has been answered already.
  double allowance_ = 0.5;      ///< Of the bound, how much work may be in flight; the feedback's result.
};

}  // namespace aiolos
