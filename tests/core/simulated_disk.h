// SPDX-License-Identifier: Apache-2.0
// A guest that keeps a disk busy, the disk's storage, and the governor between them, in simulated time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "aiolos/core/drain_governor.h"

namespace aiolos::test {

class SimulatedDisk {
 public:
  using Duration = DrainGovernor::Duration;
  using Time = DrainGovernor::Time;

  /// What the storage does: a request takes `latency`, and requests end `gap` apart at least. Together they are a disk
  /// of 1/gap IOPS that does latency/gap requests at once.
  struct Storage {
    Duration latency;
    Duration gap{0};
    double jitter = 0;     ///< Up to so much of the latency comes on top.
    unsigned hiccups = 0;  ///< One request of so many takes ten times as long; 0 for none.
    Duration pause{0};     ///< Each second no answer comes for so long, and then all at once that were due.
  };

  SimulatedDisk(const Storage& what, unsigned outstanding, DrainGovernor::Settings settings = {})
      : storage(what), depth(outstanding), governor(settings) {}

  Storage storage;
  unsigned depth;  ///< Requests that the guest keeps outstanding.
  std::uint64_t bytes = 4096;
  DrainGovernor governor;

  /// Lets time pass. @return requests that finished in a second.
  double run(Duration span) {
    const Time end = now_ + span;
    const std::uint64_t before = finished_;
    while (now_ < end) step();
    return static_cast<double>(finished_ - before) / std::chrono::duration<double>(span).count();
  }

  /// Stops the guest now. @return how long it took until nothing was in flight; then the guest goes on.
  Duration drain() {
    const Time begin = now_;
    const DrainGovernor::Mode mode = governor.mode();
    governor.set_mode(DrainGovernor::Mode::stopped);
    while (governor.in_flight() > 0) step();
    governor.set_mode(mode);
    return now_ - begin;
  }

  /// The longest of `count` drains at random times, the worst of a hundred left out.
  Duration drain_p99(int count) {
    std::vector<Duration> drains;
    for (int i = 0; i < count; ++i) {
      run(std::chrono::milliseconds(std::uniform_int_distribution(100, 400)(random_)));
      drains.push_back(drain());
    }
    std::sort(drains.begin(), drains.end());
    return drains[drains.size() * 99 / 100 - 1];
  }

 private:
  static constexpr std::chrono::microseconds kStep{20};

  void step() {
    now_ += kStep;
    const bool pauses = (now_.time_since_epoch() + storage.pause / 2) % std::chrono::seconds(1) < storage.pause;
    while (!pauses && !due_.empty() && due_.begin()->first <= now_) {
      governor.finish(due_.begin()->second, now_);
      due_.erase(due_.begin());
      ++finished_;
    }
    governor.tick(now_);
    while (due_.size() < depth && governor.admits(bytes)) begin();
  }

  void begin() {
    const auto more = Duration(static_cast<std::int64_t>(std::uniform_real_distribution(0.0, storage.jitter)(random_) *
                                                         static_cast<double>(storage.latency.count())));
    last_due_ = std::max(now_ + storage.latency + more, last_due_ + storage.gap);
    const bool hiccup = storage.hiccups > 0 && ++begun_ % storage.hiccups == 0;
    due_.emplace(last_due_ + (hiccup ? 9 * storage.latency : Duration{0}),
                 governor.start(DrainGovernor::Kind::transfer, bytes, now_));
  }

  Time now_{std::chrono::seconds(1)};
  Time last_due_{};
  std::multimap<Time, DrainGovernor::Ticket> due_;
  std::uint64_t begun_ = 0;
  std::uint64_t finished_ = 0;
  std::mt19937 random_{1};
};

}  // namespace aiolos::test
