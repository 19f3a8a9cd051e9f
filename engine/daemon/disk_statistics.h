// SPDX-License-Identifier: Apache-2.0
// What a disk has done. Each figure has one thread that writes it, its reactor unless it says otherwise; all may read.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <utility>

#include "io_request.h"

namespace aiolos::engine {

/// A number that one thread writes and others read: no locked instruction.
class Figure {
 public:
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }
  void set(std::uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  void add(std::uint64_t more) { set(get() + more); }
  void raise_to(std::uint64_t value) {
    if (value > get()) set(value);
  }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// Latencies, counted by powers of two of microseconds.
struct LatencyHistogram {
  static constexpr std::size_t kBuckets = 25;  ///< The last one, from 2^23 us (8 s), has no upper end.

  void add(std::chrono::nanoseconds latency) {
    const auto us = static_cast<std::uint64_t>(latency.count()) / 1000;
    buckets[std::min<std::size_t>(std::bit_width(us), kBuckets - 1)].add(1);
    sum_ns.add(static_cast<std::uint64_t>(latency.count()));
  }
  /// Bucket i holds latencies below this many microseconds.
  static constexpr std::uint64_t upper_us(std::size_t i) { return 1ULL << i; }

  std::array<Figure, kBuckets> buckets;
  Figure sum_ns;
};

struct OperationStatistics {
  Figure requests;
  Figure bytes;
  Figure errors;
  LatencyHistogram latency;
};

/// As the admin socket and the metrics call them.
inline constexpr std::array<std::pair<Operation, const char*>, 5> kOperationNames{{
    {Operation::read, "read"},
    {Operation::write, "write"},
    {Operation::flush, "flush"},
    {Operation::discard, "discard"},
    {Operation::write_zeroes, "write_zeroes"},
}};

struct DiskStatistics {
  std::array<OperationStatistics, kOperationNames.size()> operations;  ///< By Operation.

  Figure pops;       ///< Requests taken from the rings.
  Figure connected;  ///< 1 while a front end is connected.
  Figure connections;
  Figure in_flight;
  Figure most_in_flight;
  Figure share;  ///< Of the engine's queue, as last shared out.
  Figure window;
  Figure broken_rings;
  Figure drains;             ///< Times that a front end took all rings away.
  Figure drain_last_ns;      ///< How long the front end waited for the last one,
  Figure drain_most_ns;      ///< and the longest.
  Figure drain_state;        ///< A DrainGroup::State.
  Figure drain_target_ns;    ///< 0 for none.
  Figure drain_forecast_ns;  ///< What a drain would take now.
  Figure drain_bound_ns;     ///< What it takes at most while tracked; more than the target where that is infeasible.
  Figure drains_over_target;
  Figure last_completion_ns;  ///< On the monotonic clock.

  OperationStatistics& of(Operation operation) { return operations[static_cast<std::size_t>(operation)]; }
};

}  // namespace aiolos::engine
