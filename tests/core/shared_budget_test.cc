// SPDX-License-Identifier: Apache-2.0
// The budget by ticks of a simulated machine: no clock and no I/O.
#include "aiolos/core/shared_budget.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <deque>
#include <numeric>
#include <random>

#include "aiolos/core/in_flight_epochs.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

TEST(DivideBudget, GivesWhatIsWantedWhereItFits) {
  const BudgetClaim claims[] = {{10}, {3}, {20}};
  EXPECT_THAT(divide_budget(100, 4, claims), ElementsAre(10, 3, 20));
}

TEST(DivideBudget, SharesTheRestEquallyAmongTheHungry) {
  const BudgetClaim claims[] = {{100}, {5}, {100}};
  EXPECT_THAT(divide_budget(45, 4, claims), ElementsAre(20, 5, 20));
}

TEST(DivideBudget, WeighsWhatIsOverTheFloors) {
  const BudgetClaim claims[] = {{100, 3}, {100, 1}};
  EXPECT_THAT(divide_budget(48, 4, claims), ElementsAre(34, 14));
}

TEST(DivideBudget, SharesOutFractionsToo) {
  const BudgetClaim claims[] = {{100}, {100}, {100}};
  const auto shares = divide_budget(50, 4, claims);
  EXPECT_EQ(std::accumulate(shares.begin(), shares.end(), 0U), 50U);
  EXPECT_LE(*std::max_element(shares.begin(), shares.end()) - *std::min_element(shares.begin(), shares.end()), 1U);
}

TEST(DivideBudget, LowersTheFloorWhereTheCapacityIsSmall) {
  const BudgetClaim claims[] = {{9}, {9}, {9}};
  EXPECT_THAT(divide_budget(6, 4, claims), ElementsAre(2, 2, 2));
  EXPECT_THAT(divide_budget(2, 4, claims), ElementsAre(1, 1, 1));
}

/// Storage that serves up to `parallel` requests at once, each in `latency` ticks of 1 ms, first come first served.
struct Storage {
  struct Request {
    SharedBudget::DiskId disk;
    int began;
    int due = -1;
  };
  unsigned parallel;
  int latency;
  std::deque<Request> requests{};
};

/// Closed loops: each disk keeps `depth` requests in its ring, and starts them as the budget lets it.
class Machine {
 public:
  Machine(SharedBudget& budget, Storage storage) : budget_(budget), storage_(std::move(storage)) {}

  void add(unsigned depth, unsigned slots = 256) {
    disks_.push_back({budget_.add(slots), depth});
    finished.push_back(0);
  }
  void set_depth(std::size_t disk, unsigned depth) { disks_[disk].depth = depth; }

  void run(int ticks) {
    for (int end = now_ + ticks; now_ < end; ++now_) {
      complete();
      begin();
      if (now_ % 100 == 99) budget_.rebalance(100ms);
    }
  }

  unsigned in_flight() const { return static_cast<unsigned>(storage_.requests.size()); }

  std::vector<int> finished;

 private:
  struct Disk {
    SharedBudget::DiskId id;
    unsigned depth;
  };

  void complete() {
    for (std::size_t i = 0; i < storage_.requests.size();) {
      const auto request = storage_.requests[i];
      if (request.due != now_) {
        ++i;
        continue;
      }
      storage_.requests.erase(storage_.requests.begin() + static_cast<std::ptrdiff_t>(i));
      budget_.finish(request.disk, std::chrono::milliseconds(now_ - request.began));
      for (std::size_t disk = 0; disk < disks_.size(); ++disk) finished[disk] += disks_[disk].id == request.disk;
    }
  }

  void begin() {
    for (std::size_t turn = 0; turn < disks_.size(); ++turn) {
      const Disk& disk = disks_[(turn + static_cast<std::size_t>(now_)) % disks_.size()];
      while (budget_.disk(disk.id).in_flight < disk.depth && budget_.start(disk.id))
        storage_.requests.push_back({disk.id, now_});
    }
    for (std::size_t i = 0; i < std::min<std::size_t>(storage_.parallel, storage_.requests.size()); ++i)
      if (storage_.requests[i].due < 0) storage_.requests[i].due = now_ + storage_.latency;
  }

  SharedBudget& budget_;
  Storage storage_;
  std::vector<Disk> disks_;
  int now_ = 0;
};

TEST(SharedBudget, FifteenQuietDisksKeepTheirIopsBesideABusyOne) {
  int alone = 0;
  {
    SharedBudget budget(128);
    Machine machine(budget, {128, 10});
    machine.add(1);
    machine.run(10'000);
    alone = machine.finished[0];
  }
  SharedBudget budget(128);
  Machine machine(budget, {128, 10});
  machine.add(256);
  for (int i = 0; i < 15; ++i) machine.add(1);
  machine.run(10'000);
  for (int i = 1; i < 16; ++i) EXPECT_GE(machine.finished[i], alone * 0.9) << "disk " << i;
  EXPECT_GE(machine.finished[0], 60 * alone) << "what the quiet ones leave is the busy one's";
}

TEST(SharedBudget, ADiskAloneHasAllOfIt) {
  SharedBudget budget(100);
  Machine machine(budget, {1000, 10});
  machine.add(256);
  machine.add(0);
  machine.run(20);
  EXPECT_EQ(budget.disk(0).in_flight, 96U) << "all but the other one's floor";
}

TEST(SharedBudget, BorrowersPayBackByTheirCompletions) {
  SharedBudget budget(100);
  Machine machine(budget, {1000, 50});
  machine.add(256);
  machine.add(0);
  machine.run(2000);
  machine.set_depth(1, 256);
  machine.run(1);
  EXPECT_EQ(budget.disk(0).in_flight, 96U) << "nothing is taken away";
  machine.run(2000);
  machine.finished = {0, 0};
  machine.run(1000);
  EXPECT_NEAR(machine.finished[0], 1000, 100) << "half of what 100 in flight give at 50 ms";
  EXPECT_NEAR(machine.finished[1], 1000, 100);
}

TEST(SharedBudget, TheWindowGrowsByDoubling) {
  SharedBudget budget(1000);
  Machine machine(budget, {1000, 10});
  machine.add(256);
  std::vector<unsigned> windows;
  for (int i = 0; i < 8; ++i) {
    machine.run(100);
    windows.push_back(budget.disk(0).window);
  }
  EXPECT_THAT(windows, ElementsAre(8, 16, 32, 64, 128, 256, 256, 256));
}

TEST(SharedBudget, WantsNoMoreThanASaturatedDiskCanUse) {
  SharedBudget budget(1000);
  Machine machine(budget, {5, 10});  // 500 IOPS at 10 ms
  machine.add(64);
  machine.run(3000);
  EXPECT_EQ(budget.disk(0).unloaded_latency, 10ms);
  EXPECT_NEAR(budget.disk(0).iops, 500, 20);
  EXPECT_LE(budget.disk(0).want, 7U);
  EXPECT_GE(budget.disk(0).want, 6U);
}

TEST(SharedBudget, TheWindowShrinksOnlyAsCompletionsGiveCreditBack) {
  SharedBudget budget(64);
  Machine machine(budget, {1000, 10});
  machine.add(64);
  machine.run(2000);
  ASSERT_EQ(budget.disk(0).window, 64U);
  budget.add(256);
  EXPECT_EQ(budget.disk(0).window, 64U);
  budget.clamp(0, 8);
  const unsigned before = budget.disk(0).window;
  budget.finish(0, 10ms);
  EXPECT_EQ(budget.disk(0).window, before - 1);
}

TEST(SharedBudget, AClampHoldsAndEnds) {
  SharedBudget budget(64);
  const auto disk = budget.add(64);
  budget.clamp(disk, 2);
  EXPECT_TRUE(budget.start(disk));
  EXPECT_TRUE(budget.start(disk));
  EXPECT_FALSE(budget.start(disk));
  budget.clamp(disk, std::nullopt);
  EXPECT_TRUE(budget.start(disk));
}

TEST(SharedBudget, TheLimitFollowsTheRingsUpToTheCapacity) {
  SharedBudget budget(200);
  EXPECT_EQ(budget.limit(), 1U);
  const auto first = budget.add(128);
  EXPECT_EQ(budget.limit(), 128U);
  budget.add(128);
  EXPECT_EQ(budget.limit(), 200U);
  budget.remove(first);
  EXPECT_EQ(budget.limit(), 128U);
}

TEST(SharedBudget, ARemovedDiskCountsUntilItsRequestsAreDone) {
  SharedBudget budget(8, 4);
  const auto first = budget.add(64);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(budget.start(first));
  budget.remove(first);
  const auto second = budget.add(64);
  EXPECT_NE(first, second);
  EXPECT_FALSE(budget.start(first));
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(budget.start(second)) << "the floor";
  EXPECT_FALSE(budget.start(second));
  for (int i = 0; i < 8; ++i) budget.finish(first, 1ms);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(budget.start(second));
  EXPECT_EQ(budget.add(1), first) << "its place is free again";
}

TEST(SharedBudget, HoldsItsPromisesWhateverHappens) {
  std::mt19937 random(7);
  SharedBudget budget(40);
  std::vector<SharedBudget::DiskId> disks;
  std::vector<SharedBudget::DiskId> running;
  for (int step = 0; step < 200'000; ++step) {
    const unsigned dice = random() % 100;
    if (dice < 55 && !disks.empty()) {
      const auto id = disks[random() % disks.size()];
      const bool owed = budget.disk(id).in_flight < 1;
      const bool started = budget.start(id);
      ASSERT_TRUE(started || !owed) << "a disk with nothing in flight was refused";
      if (started) running.push_back(id);
    } else if (dice < 97 && !running.empty()) {
      std::swap(running[random() % running.size()], running.back());
      budget.finish(running.back(), std::chrono::microseconds(random() % 1000));
      running.pop_back();
    } else if (dice == 97) {
      budget.rebalance(100ms);
    } else if (dice == 98 && disks.size() < 60) {
      disks.push_back(budget.add(1 + random() % 256));
    } else if (dice == 99 && random() % 4 == 0 && !disks.empty()) {
      std::swap(disks[random() % disks.size()], disks.back());
      budget.remove(disks.back());
      disks.pop_back();
    }
    ASSERT_GE(budget.limit(), disks.size());
  }
}

TEST(InFlightEpochs, AnEpochIsFinishedWhenAllUpToItAre) {
  InFlightEpochs epochs;
  const auto first = epochs.begin();
  EXPECT_EQ(epochs.advance(), first);
  const auto second = epochs.begin();
  EXPECT_FALSE(epochs.finished(first));
  epochs.advance();
  epochs.end(second);
  EXPECT_FALSE(epochs.finished(second)) << "the first one's request is still in flight";
  epochs.end(first);
  EXPECT_TRUE(epochs.finished(first));
  EXPECT_TRUE(epochs.finished(second));
}

TEST(InFlightEpochs, HoldsNothingWhileNothingIsInFlight) {
  InFlightEpochs epochs;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(epochs.finished(epochs.advance()));
  EXPECT_EQ(epochs.current(), 1000U);
}

}  // namespace
}  // namespace aiolos
