// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/queue_plan.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <numeric>

namespace aiolos {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = PlanChange::Kind;

DiskSpeed speed(double iops, double latency_ms) { return {iops, latency_ms, "a test"}; }

PlanDisk disk(const std::string& target, std::optional<AioMode> mode, DiskSpeed speed = {}) {
  PlanDisk made;
  made.target = target;
  made.mode = mode;
  made.speed = std::move(speed);
  return made;
}

PlanDisk new_disk(const std::string& target, std::optional<AioMode> mode, DiskSpeed speed = {}) {
  PlanDisk made = disk(target, mode, std::move(speed));
  made.attached = false;
  return made;
}

PlanHost host() {
  PlanHost made;
  made.cpus = 8;
  made.iothreads = {true, false, false};
  made.contexts_left = 64;
  return made;
}

PlanDomain guest(std::vector<PlanDisk> disks, std::vector<unsigned> iothreads = {}) {
  PlanDomain made;
  made.name = "guest";
  made.vcpus = 4;
  made.disks = std::move(disks);
  for (const unsigned id : iothreads) made.engines.push_back({id, {}, {}, {}, {}});
  return made;
}

/// "thread_pool_max of main loop 64->256" of the changes that are, or are not, live.
std::vector<std::string> changes(const QueuePlan& plan, bool live = true) {
  std::vector<std::string> texts;
  for (const PlanChange& change : plan.changes)
    if (change.live == live)
      texts.push_back(
          fmt::format("{} {}->{}", describe(change), change.from ? std::to_string(*change.from) : "none", change.to));
  return texts;
}

PlanSettings no_iothreads() { return {0, 1024, 0}; }

// ---- how deep
// ---------------------------------------------------------------------------------------------------------

struct DepthCase {
  const char* name;
  DiskSpeed speed;
  unsigned depth;
};

class UsefulDepth : public testing::TestWithParam<DepthCase> {};

TEST_P(UsefulDepth, IsTheKneeWithHeadroom) { EXPECT_EQ(useful_depth(GetParam().speed), GetParam().depth); }

INSTANTIATE_TEST_SUITE_P(Table, UsefulDepth,
                         testing::Values(DepthCase{"nothing known", {}, 64}, DepthCase{"slow", speed(500, 10), 7},
                                         DepthCase{"far", speed(640, 100), 80}, DepthCase{"idle", speed(10, 1), 4},
                                         DepthCase{"throttled", {100.0, std::nullopt, "its <iotune>"}, 13},
                                         DepthCase{"throttled high", {100'000.0, std::nullopt, "its <iotune>"}, 64},
                                         DepthCase{"enormous", speed(1e9, 1000), 1024}),
                         [](const auto& test) {
                           std::string name = test.param.name;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

// ---- pools
// ------------------------------------------------------------------------------------------------------------

TEST(QueuePlanPools, GrowWithTheDisksThatShareThem) {
  std::vector<PlanDisk> disks;
  for (unsigned count = 1; count <= 4; ++count) {
    disks.push_back(disk(fmt::format("vd{}", count), AioMode::threads));
    const QueuePlan plan = plan_queues(guest(disks), host(), no_iothreads());
    EXPECT_EQ(plan.engine(kMainLoop)->pool_max, 64 * count);
    EXPECT_EQ(plan.engine(kMainLoop)->threads_depth, 64 * count);
  }
}

TEST(QueuePlanPools, OneDiskNeedsNoChange) {
  EXPECT_THAT(changes(plan_queues(guest({disk("vda", AioMode::threads)}), host(), no_iothreads())), IsEmpty());
}

TEST(QueuePlanPools, CountOnlyDisksWhoseIoIsDoneByThreads) {
  PlanDisk rbd = disk("vdd", std::nullopt);
  rbd.network = true;
  const QueuePlan plan =
      plan_queues(guest({disk("vda", AioMode::native), disk("vdb", AioMode::io_uring), disk("vdc", std::nullopt), rbd}),
                  host(), no_iothreads());
  EXPECT_EQ(plan.engine(kMainLoop)->threads_depth, 64U) << "a disk without io= runs on threads, as vdc does";
  EXPECT_EQ(plan.engine(kMainLoop)->native_depth, 64U);
}

TEST(QueuePlanPools, AreNoLargerThanTheStorageCanUse) {
  const QueuePlan plan = plan_queues(
      guest({disk("vda", AioMode::threads, speed(500, 10)), disk("vdb", AioMode::threads, speed(2000, 100))}), host(),
      no_iothreads());
  EXPECT_EQ(plan.engine(kMainLoop)->pool_max, 7U + 250U);
}

TEST(QueuePlanPools, ObeyTheLimit) {
  std::vector<PlanDisk> disks;
  for (int i = 0; i < 40; ++i) disks.push_back(disk(fmt::format("vd{}", i), AioMode::threads));
  const QueuePlan plan = plan_queues(guest(disks), host(), {0, 512, 0});
  EXPECT_EQ(plan.engine(kMainLoop)->pool_max, 512U);
  EXPECT_THAT(plan.engine(kMainLoop)->reasons, Contains(HasSubstr("plan.max_threads allows 512")));
}

TEST(QueuePlanPools, GiveBackWhatADiskThatWentHadNeeded) {
  PlanDomain domain = guest({disk("vda", AioMode::threads), disk("vdb", AioMode::threads)});
  domain.engines.push_back({kMainLoop, 200, 256, {}, {}});
  // QEMU refuses a minimum above the maximum, so going down the minimum goes first.
  EXPECT_THAT(changes(plan_queues(domain, host(), no_iothreads())),
              ElementsAre("thread_pool_min of main loop 200->128", "thread_pool_max of main loop 256->128"));
}

TEST(QueuePlanPools, ThatQemuCannotChangeAreLeft) {
  PlanHost old = host();
  old.iothreads.thread_pool = false;
  const QueuePlan plan =
      plan_queues(guest({disk("vda", AioMode::threads), disk("vdb", AioMode::threads)}), old, no_iothreads());
  EXPECT_THAT(changes(plan), IsEmpty());
  EXPECT_EQ(plan.engine(kMainLoop)->pool_max, 64U);
  EXPECT_THAT(plan.notes, Contains(HasSubstr("QEMU 7.1")));
}

// ---- iothreads
// --------------------------------------------------------------------------------------------------------

struct EnginesCase {
  const char* name;
  unsigned disks;
  DiskSpeed speed;
  unsigned cpus;
  unsigned wanted;
};

class Engines : public testing::TestWithParam<EnginesCase> {};

TEST_P(Engines, FollowFromDisksAndCpus) {
  std::vector<PlanDisk> disks;
  for (unsigned i = 0; i < GetParam().disks; ++i)
    disks.push_back(disk(fmt::format("vd{}", i), AioMode::threads, GetParam().speed));
  PlanHost on = host();
  on.cpus = GetParam().cpus;
  const QueuePlan plan = plan_queues(guest(disks), on, {});
  EXPECT_EQ(plan.engines.size() - 1, GetParam().wanted);
}

INSTANTIATE_TEST_SUITE_P(Table, Engines,
                         testing::Values(EnginesCase{"none", 0, {}, 8, 0}, EnginesCase{"one", 1, {}, 8, 0},
                                         EnginesCase{"two", 2, {}, 8, 1},
                                         EnginesCase{"room_for_one_more", 15, {}, 8, 1},
                                         EnginesCase{"full", 16, {}, 8, 2},
                                         EnginesCase{"fast", 4, speed(90'000, 0.1), 8, 4},
                                         EnginesCase{"fast_on_few_cpus", 4, speed(90'000, 0.1), 2, 2},
                                         EnginesCase{"no_more_than_disks", 2, speed(900'000, 0.1), 8, 2},
                                         EnginesCase{"no_more_than_allowed", 16, speed(90'000, 0.1), 64, 4}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(QueuePlanPlacement, PutsTheLongestFirstOnTheLeastLoaded) {
  PlanDomain domain =
      guest({new_disk("vda", AioMode::threads, speed(1000, 1)), new_disk("vdb", AioMode::threads, speed(4000, 1)),
             new_disk("vdc", AioMode::threads, speed(3000, 1)), new_disk("vdd", AioMode::threads, speed(2000, 1))},
            {1, 2});
  domain.running = false;
  const QueuePlan plan = plan_queues(domain, host(), {});
  EXPECT_EQ(plan.disk("vdb")->engine, 1U);
  EXPECT_EQ(plan.disk("vdc")->engine, 2U);
  EXPECT_EQ(plan.disk("vdd")->engine, 2U);
  EXPECT_EQ(plan.disk("vda")->engine, 1U);
}

TEST(QueuePlanPlacement, LeavesWhatARunningGuestHasAndSaysWhatARestartWouldDo) {
  const QueuePlan plan =
      plan_queues(guest({disk("vda", AioMode::threads), new_disk("vdb", AioMode::threads)}, {1}), host(), {});
  EXPECT_EQ(plan.disk("vda")->engine, kMainLoop);
  EXPECT_EQ(plan.disk("vdb")->engine, 1U);
  EXPECT_THAT(changes(plan, false), ElementsAre("iothread of vda 0->1"));
}

TEST(QueuePlanPlacement, DoesNotShuffleWhatIsBalanced) {
  PlanDomain domain = guest({disk("vda", AioMode::threads), disk("vdb", AioMode::threads)}, {1, 2});
  domain.disks[0].engine = 2;
  domain.disks[1].engine = 1;
  EXPECT_THAT(changes(plan_queues(domain, host(), {}), false), IsEmpty());
  domain.disks[0].engine = 1;
  EXPECT_THAT(changes(plan_queues(domain, host(), {}), false), ElementsAre("iothread of vdb 1->2"));
}

TEST(QueuePlanPlacement, AddsIothreadsBeforeAnythingElse) {
  PlanDomain domain = guest({disk("vda", AioMode::threads), disk("vdb", AioMode::threads)});
  EXPECT_THAT(changes(plan_queues(domain, host(), {})),
              ElementsAre("iothread 1 none->1", "thread_pool_max of main loop 64->128"));
}

// ---- queues
// -----------------------------------------------------------------------------------------------------------

struct QueueCase {
  const char* name;
  DiskSpeed speed;
  std::optional<unsigned> queues;
  std::optional<unsigned> queue_size;
};

class Queues : public testing::TestWithParam<QueueCase> {};

TEST_P(Queues, AreNoDeeperThanTheKnee) {
  const QueuePlan plan = plan_queues(guest({new_disk("vda", AioMode::native, GetParam().speed)}), host(), {});
  EXPECT_EQ(plan.disk("vda")->queues, GetParam().queues);
  EXPECT_EQ(plan.disk("vda")->queue_size, GetParam().queue_size);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Queues,
    testing::Values(QueueCase{"not_known", {}, std::nullopt, std::nullopt}, QueueCase{"slow", speed(500, 10), 1, 32},
                    QueueCase{"far", speed(2000, 100), 1, 256}, QueueCase{"very_deep", speed(1e6, 100), 4, 256},
                    QueueCase{"deepest", speed(20'000, 1000), 1, 1024}, QueueCase{"fast", speed(150'000, 0.2), 3, 32}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(QueuePlanQueues, NeverReachTheNumberThatKillsQemu) {
  PlanDomain domain = guest({new_disk("vda", AioMode::native)});
  domain.disks[0].queues = 1025;
  domain.vcpus = 4096;
  EXPECT_EQ(plan_queues(domain, host(), {}).disk("vda")->queues, 1024U);
  domain.disks[0].speed = speed(1e9, 1);
  EXPECT_EQ(plan_queues(domain, host(), {}).disk("vda")->queues, 1024U);
}

TEST(QueuePlanQueues, OfAttachedDisksNeedARestart) {
  const QueuePlan plan = plan_queues(guest({disk("vda", AioMode::native, speed(500, 10))}), host(), {});
  EXPECT_THAT(changes(plan, true), IsEmpty());
  EXPECT_THAT(changes(plan, false), ElementsAre("queues of vda none->1", "queue_size of vda none->32"));
}

TEST(QueuePlanQueues, AreSpreadOverIothreadsWhereQemuCan) {
  PlanDomain domain = guest({new_disk("vda", AioMode::io_uring, speed(300'000, 0.1))}, {1, 2, 3, 4});
  PlanHost on = host();
  EXPECT_THAT(plan_queues(domain, on, {}).disk("vda")->mapping, IsEmpty());
  on.iothreads.queue_mapping = true;
  const QueuePlan plan = plan_queues(domain, on, {});
  const auto& mapping = plan.disk("vda")->mapping;
  ASSERT_EQ(mapping.size(), 3U);
  EXPECT_EQ(plan.disk("vda")->queues, 4U);
  EXPECT_THAT(mapping[0].queues, ElementsAre(0, 3));
  EXPECT_THAT(mapping[1].queues, ElementsAre(1));
  EXPECT_THAT(mapping[2].queues, ElementsAre(2));
}

// ---- polling and batches
// ------------------------------------------------------------------------------------------------

TEST(QueuePlanPolling, StopsWhereStorageTakesLonger) {
  PlanDomain domain = guest({disk("vda", AioMode::native, speed(500, 10))}, {1});
  domain.disks[0].engine = 1;
  EXPECT_THAT(changes(plan_queues(domain, host(), {})), ElementsAre("poll_max_ns of iothread 1 32768->0"));
  domain.disks[0].speed = speed(50'000, 0.1);
  domain.engines[0].poll_max_ns = 0;
  EXPECT_THAT(changes(plan_queues(domain, host(), {})), ElementsAre("poll_max_ns of iothread 1 0->32768"));
  domain.disks[0].speed = {};
  EXPECT_THAT(changes(plan_queues(domain, host(), {})), IsEmpty()) << "of storage that nobody knows nothing follows";
}

TEST(QueuePlanBatch, IsWhatTheOperatorSaysWhereNativeDisksAre) {
  PlanDomain domain = guest({disk("vda", AioMode::native), disk("vdb", AioMode::threads)}, {1});
  domain.disks[1].engine = 1;
  PlanSettings settings;
  settings.aio_max_batch = 16;
  EXPECT_THAT(changes(plan_queues(domain, host(), settings)), ElementsAre("aio_max_batch of main loop 0->16"));
}

// ---- SCSI
// ---------------------------------------------------------------------------------------------------------------

PlanDisk scsi_disk(const std::string& target, DiskSpeed speed = {}) {
  PlanDisk made = disk(target, AioMode::threads, std::move(speed));
  made.bus = PlanBus::scsi;
  return made;
}

TEST(QueuePlanScsi, DisksAreWhereTheirControllerIs) {
  PlanDomain domain = guest({scsi_disk("sda"), scsi_disk("sdb")}, {1});
  domain.controllers = {{0, true, 1, {}, {}, {}}};
  domain.disks[0].engine = domain.disks[1].engine = 1;
  domain.disks.push_back(scsi_disk("sdc"));
  domain.disks[2].attached = false;
  const QueuePlan plan = plan_queues(domain, host(), {});
  EXPECT_EQ(plan.disk("sdc")->engine, 1U);
  EXPECT_EQ(plan.engine(1)->pool_max, 192U);
  EXPECT_EQ(plan.engine(kMainLoop)->pool_max, 64U);
  EXPECT_EQ(plan.controllers[0].units_used, 3U);
  EXPECT_EQ(plan.controllers[0].units_most, 16'384U);
}

TEST(QueuePlanScsi, ControllersGetAnIothreadAndAFittingDepthAtTheNextStart) {
  PlanDomain domain = guest({scsi_disk("sda", speed(500, 10)), scsi_disk("sdb", speed(200, 100))}, {1});
  domain.controllers = {{0, true, {}, 2000, {}, {}}};
  const QueuePlan plan = plan_queues(domain, host(), {});
  EXPECT_THAT(changes(plan, false),
              ElementsAre("iothread of SCSI controller 0 none->1", "queues of SCSI controller 0 2000->4",
                          "cmd_per_lun of SCSI controller 0 128->25"));
}

TEST(QueuePlanScsi, OtherControllersTakeNoIothread) {
  PlanDomain domain = guest({scsi_disk("sda")}, {1});
  domain.controllers = {{0, false, {}, {}, {}, {}}};
  const QueuePlan plan = plan_queues(domain, host(), {});
  EXPECT_EQ(plan.controllers[0].iothread, std::nullopt);
  EXPECT_EQ(plan.controllers[0].units_most, 7U);
}

// ---- the host's AIO budget
// ----------------------------------------------------------------------------------------------

TEST(NativeContexts, CountTheMainLoopOnceAndEachIothread) {
  EXPECT_EQ(native_contexts({}), 0U);
  EXPECT_EQ(native_contexts({kMainLoop}), 1U);
  EXPECT_EQ(native_contexts({1}), 2U);
  EXPECT_EQ(native_contexts({kMainLoop, 1, 2}), 3U);
}

struct BudgetCase {
  const char* name;
  unsigned left;
  bool io_uring;
  AioMode mode;
  unsigned engine;
  unsigned contexts;
};

class Budget : public testing::TestWithParam<BudgetCase> {};

TEST_P(Budget, DecidesWhereANewNativeDiskGoes) {
  PlanHost on = host();
  on.contexts_left = GetParam().left;
  on.io_uring_usable = GetParam().io_uring;
  const QueuePlan plan = plan_queues(guest({new_disk("vda", AioMode::native)}, {1}), on, {});
  EXPECT_EQ(plan.disk("vda")->mode, GetParam().mode);
  EXPECT_EQ(plan.disk("vda")->engine, GetParam().engine);
  EXPECT_EQ(plan.contexts, GetParam().contexts);
}

INSTANTIATE_TEST_SUITE_P(Table, Budget,
                         testing::Values(BudgetCase{"enough", 2, false, AioMode::native, 1, 2},
                                         BudgetCase{"only_for_the_main_loop", 1, false, AioMode::native, 0, 1},
                                         BudgetCase{"none", 0, false, AioMode::threads, 1, 0},
                                         BudgetCase{"none_but_io_uring", 0, true, AioMode::io_uring, 1, 0}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(QueuePlanBudget, CountsWhatTheGuestHoldsAlready) {
  PlanHost full = host();
  full.contexts_left = 0;
  PlanDomain domain = guest({disk("vda", AioMode::native), new_disk("vdb", AioMode::native)});
  domain.contexts = 1;
  const QueuePlan plan = plan_queues(domain, full, no_iothreads());
  EXPECT_EQ(plan.disk("vdb")->mode, AioMode::native);
  EXPECT_EQ(plan.contexts, 1U);
}

/// A host as large as they get: every second disk is native, and nobody has a context yet.
std::vector<PlanDomain> crowd(unsigned domains, unsigned disks) {
  std::vector<PlanDomain> made;
  for (unsigned i = 0; i < domains; ++i) {
    made.push_back(guest({}, {1, 2}));
    made.back().name = fmt::format("guest-{}", i);
    for (unsigned j = 0; j < disks; ++j)
      made.back().disks.push_back(new_disk(fmt::format("vd{}", j), j % 2 == 0 ? AioMode::native : AioMode::threads,
                                           j % 4 == 0 ? DiskSpeed{} : speed(100.0 * (i % 50 + 1), 10)));
  }
  return made;
}

TEST(QueuePlanBudget, IsNeverPassedByAHostOfThousandGuestsWhereQemusDefaultsPassIt) {
  constexpr unsigned kLeft = 65'536 / kAioEventsPerContext;  // fs.aio-max-nr as Linux has it
  std::vector<PlanDomain> domains = crowd(1000, 16);
  PlanHost on = host();
  on.contexts_left = kLeft;
  const std::vector<QueuePlan> plans = plan_host(domains, on, {});
  ASSERT_EQ(plans.size(), domains.size());
  unsigned contexts = 0;
  unsigned native = 0;
  for (const QueuePlan& plan : plans) {
    contexts += plan.contexts;
    for (const PlannedDisk& each : plan.disks) {
      native += each.mode == AioMode::native;
      EXPECT_LE(each.queue_size.value_or(0), kLargestQueue);
      EXPECT_LE(each.queues.value_or(0), kMostQueues);
    }
  }
  EXPECT_LE(contexts, kLeft);
  EXPECT_GT(contexts, kLeft - 3) << "contexts that could be used are not";
  EXPECT_GT(native, 0U);

  for (PlanDomain& domain : domains)
    for (PlanDisk& each : domain.disks) each.engine = kMainLoop;  // where stock QEMU has them
  EXPECT_GT(contexts_of_defaults(domains), kLeft);
}

TEST(QueuePlanBudget, GoesToThoseWhoDoTheMost) {
  std::vector<PlanDomain> domains{guest({new_disk("vda", AioMode::native, speed(100, 1))}),
                                  guest({new_disk("vda", AioMode::native, speed(9000, 1))})};
  PlanHost on = host();
  on.contexts_left = 1;
  const auto plans = plan_host(domains, on, {});
  EXPECT_EQ(plans[0].disk("vda")->mode, AioMode::threads);
  EXPECT_EQ(plans[1].disk("vda")->mode, AioMode::native);
}

TEST(QueuePlanJson, HasBeforeAndAfterWithReasons) {
  const Json json = to_json(
      plan_queues(guest({disk("vda", AioMode::threads), disk("vdb", AioMode::threads)}), host(), no_iothreads()));
  EXPECT_EQ(json["engines"][0]["engine"], "main loop");
  EXPECT_EQ(json["engines"][0]["after"]["thread_pool_max"], 128);
  EXPECT_FALSE(json["engines"][0]["reasons"].empty());
  EXPECT_EQ(json["changes"][0]["from"], 64);
  EXPECT_EQ(json["changes"][0]["to"], 128);
  EXPECT_EQ(json["changes"][0]["when"], "live");
  EXPECT_THAT(json["changes"][0]["because"].get<std::string>(), HasSubstr("share this pool"));
}

}  // namespace
}  // namespace aiolos
