// SPDX-License-Identifier: Apache-2.0
// What drains of QEMU's own disks take, forecast from counters of simulated storage, by ticks.
#include "aiolos/core/stock_drain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

namespace aiolos {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;
using std::chrono::nanoseconds;

/// A guest that keeps `depth` requests outstanding on a disk; what storage and QEMU make of them.
class Disk {
 public:
  nanoseconds latency = 10ms;
  nanoseconds gap{0};    ///< Two answers are that far apart: 1/gap IOPS.
  unsigned threads = 0;  ///< Of QEMU's pool; 0: all begin at once.
  unsigned depth = 1;
  bool asked = false;      ///< QEMU says what is in flight.
  unsigned writes_of = 0;  ///< One request of so many is a write,
  nanoseconds write_latency{0};
  StockDrain forecast;

  /// Lets time pass, with a look every so often.
  void run(nanoseconds span, nanoseconds look = 20ms) {
    for (const auto end = now_ + span; now_ < end;) {
      step();
      if (now_ - looked_ < look) continue;
      looked_ = now_;
      forecast.see(now_, counters());
    }
  }

  microseconds drain_forecast() const { return forecast.forecast().value().drain; }
  microseconds longest() const { return forecast.forecast().value().longest; }

  /// What it would take if the guest stopped now.
  nanoseconds drain() const {
    Disk copy = *this;
    copy.depth = 0;
    while (!copy.queue_.empty() || !copy.due_.empty()) copy.step();
    return copy.now_ - now_;
  }

 private:
  struct Request {
    StockDrain::Time begun;
    bool write = false;
  };

  DiskCounters counters() const {
    DiskCounters now{"vdb", reads_, writes_, {}, {}};
    if (asked) now.in_flight = static_cast<unsigned>(queue_.size() + due_.size());
    return now;
  }

  void step() {
    now_ += 100us;
    while (!due_.empty() && due_.begin()->first <= now_) {
      const Request& done = due_.begin()->second;
      RequestCount& count = done.write ? writes_ : reads_;
      ++count.requests;
      count.time += now_ - done.begun;
      due_.erase(due_.begin());
    }
    while (queue_.size() + due_.size() < depth) queue_.push_back({now_, writes_of != 0 && ++number_ % writes_of == 0});
    while (!queue_.empty() && (threads == 0 || due_.size() < threads)) {
      const Request next = queue_.front();
      queue_.erase(queue_.begin());
      next_answer_ = std::max(now_ + (next.write ? write_latency : latency), next_answer_ + gap);
      due_.emplace(gap == 0ns ? now_ + (next.write ? write_latency : latency) : next_answer_, next);
    }
  }

  StockDrain::Time now_{1h};
  StockDrain::Time looked_{1h};
  StockDrain::Time next_answer_{};
  std::vector<Request> queue_;
  std::multimap<StockDrain::Time, Request> due_;
  RequestCount reads_;
  RequestCount writes_;
  unsigned number_ = 0;
};

void expect_right(const Disk& disk) {
  const double said = std::chrono::duration<double, std::milli>(disk.drain_forecast()).count();
  const double took = std::chrono::duration<double, std::milli>(disk.drain()).count();
  EXPECT_NEAR(said, took, std::max(5.0, 0.3 * took));
}

/// At some moments, far from any beat.
void expect_right_at_any_time(Disk disk) {
  disk.run(2s);
  for (int i = 0; i < 20; ++i) {
    disk.run(373ms);
    expect_right(disk);
  }
}

TEST(StockDrain, KnowsNothingBeforeASecondLook) {
  StockDrain drain;
  EXPECT_FALSE(drain.forecast());
  drain.see(StockDrain::Time(1s), {});
  EXPECT_FALSE(drain.forecast());
  drain.see(StockDrain::Time(2s), {});
  ASSERT_TRUE(drain.forecast());
  EXPECT_EQ(drain.forecast()->drain, 0us) << "an idle disk has nothing to wait for";
}

TEST(StockDrain, OfASaturatedDiskIsAllThatWaits) {
  for (const bool asked : {false, true}) {
    Disk disk;
    disk.gap = 2ms;
    disk.depth = 64;
    disk.asked = asked;
    disk.run(2s);
    EXPECT_NEAR(static_cast<double>(disk.drain_forecast().count()), 128'000, 5'000);
    expect_right_at_any_time(disk);
  }
}

TEST(StockDrain, OfADiskThatDoesAllAtOnceIsItsLatency) {
  for (const bool asked : {false, true})
    for (const unsigned depth : {1U, 8U, 200U}) {
      Disk disk;
      disk.depth = depth;
      disk.asked = asked;
      disk.run(2s);
      EXPECT_NEAR(static_cast<double>(disk.drain_forecast().count()), 10'000, 1'500) << depth << asked;
    }
}

TEST(StockDrain, CountsWhatWaitsForAThread) {
  for (const bool asked : {false, true}) {
    Disk disk;
    disk.latency = 100ms;
    disk.threads = 64;
    disk.depth = 256;
    disk.asked = asked;
    disk.run(2s);
    EXPECT_NEAR(static_cast<double>(disk.drain_forecast().count()), 400'000, 40'000);
  }
}

TEST(StockDrain, WaitsForTheSlowestKindOfRequest) {
  Disk disk;
  disk.depth = 16;
  disk.latency = 1ms;
  disk.writes_of = 20;
  disk.write_latency = 60ms;
  disk.run(2s);
  EXPECT_NEAR(static_cast<double>(disk.drain_forecast().count()), 60'000, 5'000);
}

TEST(StockDrain, ABurstThatIsOverIsNotForecastButCountsForASecond) {
  Disk disk;
  disk.gap = 2ms;
  disk.depth = 64;
  disk.run(2s);
  disk.depth = 0;
  disk.run(500ms);
  EXPECT_GT(disk.longest(), 100ms);
  EXPECT_EQ(disk.drain_forecast(), 0us);
  disk.run(1s);
  EXPECT_EQ(disk.longest(), 0us);
}

TEST(StockDrain, OfABurstIsKnownAtOnceWhereQemuSaysWhatIsInFlight) {
  for (const bool asked : {false, true}) {
    Disk disk;
    disk.gap = 2ms;
    disk.depth = 64;
    disk.asked = asked;
    disk.run(2s);
    disk.depth = 0;
    disk.run(3s);
    disk.depth = 64;
    disk.run(25ms);
    EXPECT_EQ(disk.drain_forecast() > 100ms, asked);
  }
}

TEST(StockDrain, OfOneRequestNowAndThenIsThatRequest) {
  Disk disk;
  disk.asked = true;
  for (int i = 0; i < 20; ++i) {
    disk.depth = 1;
    disk.run(5ms);
    disk.depth = 0;
    disk.run(200ms);
  }
  EXPECT_NEAR(static_cast<double>(disk.longest().count()), 10'000, 5'000);
}

TEST(StockDrain, OfStorageThatStandsStillGrowsWhereQemuSaysThatSomethingIsInFlight) {
  Disk disk;
  disk.asked = true;
  disk.depth = 4;
  disk.run(2s);
  disk.latency = 100s;
  disk.run(3s);
  EXPECT_GT(disk.drain_forecast(), 2s);
}

TEST(StockDrain, OfRequestsThatTakeLongerThanASecondStaysKnownBetweenTheirAnswers) {
  Disk disk;
  disk.latency = 3s;
  disk.run(10s);
  disk.run(2s);
  EXPECT_NEAR(std::chrono::duration<double>(disk.drain_forecast()).count(), 3, 0.1);
}

TEST(StockDrain, BeginsAnewWhenTheCountersDo) {
  Disk disk;
  disk.run(2s);
  disk.forecast.see(StockDrain::Time(1h + 1min), {});
  EXPECT_FALSE(disk.forecast.forecast());
}

TEST(StockDrain, DoesNotDependOnHowOftenIsLooked) {
  for (const auto look : {20ms, 100ms, 1000ms})
    for (const auto gap : {0ms, 2ms})
      for (const bool asked : {false, true}) {
        Disk disk;
        disk.gap = gap;
        disk.depth = gap == 0ms ? 8 : 64;
        disk.asked = asked;
        disk.run(4s, look);
        // Not what it takes at that moment: these requests all end together, and a drain takes what is left of one.
        EXPECT_NEAR(static_cast<double>(disk.drain_forecast().count()), gap == 0ms ? 10'000 : 128'000, 5'000);
      }
}

TEST(StockDrains, TheSlowestDiskCounts) {
  StockDrains drains;
  EXPECT_FALSE(drains.longest());
  const auto look = [](std::uint64_t requests, nanoseconds each) {
    return RequestCount{requests, static_cast<std::int64_t>(requests) * each};
  };
  for (const unsigned i : {1U, 2U})
    drains.see(StockDrain::Time(i * 100ms),
               {false, {{"vda", look(10 * i, 3ms), {}, {}, {}}, {"vdb", {}, look(5 * i, 40ms), {}, {}}}});
  EXPECT_EQ(drains.longest(), 40ms);
  EXPECT_EQ(drains.of("vda")->drain, 3ms);
  EXPECT_FALSE(drains.of("vdc"));
}

TEST(StockDrains, ALookWhileTheGuestSwitchesOverChangesNothing) {
  StockDrains drains;
  drains.see(StockDrain::Time(1s), {false, {{"vda", {10, 100ms}, {}, {}, {}}}});
  drains.see(StockDrain::Time(1100ms), {false, {{"vda", {20, 200ms}, {}, {}, {}}}});
  drains.see(StockDrain::Time(9s), {true, {{"vda", {20, 200ms}, {}, {}, {}}}});
  EXPECT_EQ(drains.longest(), 10ms);
}

}  // namespace
}  // namespace aiolos
