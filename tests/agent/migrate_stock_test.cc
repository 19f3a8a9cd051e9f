// SPDX-License-Identifier: Apache-2.0
// Migration of guests with disks that QEMU serves: what is said of their drains, and when the guest may switch over.
#include "migrating_fixture.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class MigratingStockDisks : public Migrating {
 protected:
  void SetUp() override {
    Migrating::SetUp();
    here_.world.latency = 12ms;
    here_.world.migration.ticks = 20;
  }
};

TEST_F(MigratingStockDisks, TheirDrainIsForecastShownAndReported) {
  attach();
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(done->disks.at(0).drain_predicted, 12ms);
  EXPECT_EQ(done->disks.at(0).drain, std::nullopt);
  const auto is_shown = [](const MigrationStatus& status) { return status.drain == 12ms; };
  EXPECT_TRUE(std::any_of(shown_.begin(), shown_.end(), is_shown));
  EXPECT_GE(done->downtime_predicted, 12ms);
}

TEST_F(MigratingStockDisks, QemuIsAskedWhatIsInFlightOnlyWhereThatIsAllowed) {
  attach();
  request_.ask_qemu = request_.dry_run = true;
  ASSERT_TRUE(migrate());
  EXPECT_THAT(here_.world.events, Not(Contains("ask QEMU what is in flight"))) << "a rehearsal leaves no mark";
  request_.dry_run = false;
  ASSERT_TRUE(migrate());
  EXPECT_THAT(here_.world.events, Contains("ask QEMU what is in flight"));
}

TEST_F(MigratingStockDisks, ARehearsalSaysWhatADrainWouldTake) {
  attach();
  request_.dry_run = true;
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(done->disks.at(0).drain_predicted, 12ms);
  EXPECT_THAT(here_.world.events, IsEmpty());
}

TEST_F(MigratingStockDisks, AreHeldUntilTheirDrainIsShortEnough) {
  attach();
  request_.max_drain = 20ms;
  request_.deadline = 3600s;
  here_.world.latency = 130ms;
  here_.world.migration.on_tick = [this](unsigned tick) {
    if (tick == 100) here_.world.latency = 10ms;
  };
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_GE(done->result.iterations, 100U);
  EXPECT_THAT(here_.world.events, Contains("hold"));
  EXPECT_LE(done->disks.at(0).drain_predicted, 20ms);
}

TEST_F(MigratingStockDisks, AreGivenUpWhenTheirDrainStaysTooLong) {
  attach();
  request_.max_drain = 20ms;
  request_.deadline = 5s;
  here_.world.latency = 130ms;
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::retry);
  EXPECT_THAT(error.message, HasSubstr("130.0 ms"));
}

TEST_F(MigratingStockDisks, AreHeldWhileTheyCannotBeSeen) {
  attach();
  request_.max_drain = 20ms;
  request_.deadline = 3600s;
  here_.world.migration.on_tick = [this](unsigned tick) { here_.world.statistics_fail = tick >= 5 && tick < 100; };
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_GE(done->result.iterations, 100U);
}

TEST_F(MigratingStockDisks, ALimitThatNobodyCanForecastForIsRefused) {
  attach();
  request_.max_drain = 20ms;
  here_.world.latency.reset();
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::refused);
  EXPECT_THAT(error.message, HasSubstr("vdb"));
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(MigratingStockDisks, OfAGuestWithoutVolumesAreItsOtherDisks) {
  here_.world.disks["vda"] =
      "<disk type='file' device='disk'><source file='/root.img'/><target dev='vda' bus='virtio'/></disk>";
  request_.max_drain = 20ms;
  const auto done = migrate();
  EXPECT_TRUE(done) << describe(done.error());
}

TEST_F(MigratingStockDisks, TheSlowestOfBothDataPlanesCounts) {
  open(", data_plane: engine");
  for (TestHost* const host : {&here_, &there_}) host->world.engines.shared_memory = true;
  attach();
  here_.world.xml_head = "<memoryBacking><access mode='shared'/></memoryBacking>";
  here_.world.disks["vda"] =
      "<disk type='file' device='disk'><source file='/root.img'/><target dev='vda' bus='virtio'/></disk>";
  here_.world.drain.forecast = 5ms;
  here_.world.latency = 40ms;
  request_.max_drain = 20ms;
  request_.deadline = 5s;
  EXPECT_THAT(failure().message, HasSubstr("40.0 ms"));
  here_.world.latency = 10ms;
  const auto done = migrate();
  EXPECT_TRUE(done) << describe(done.error());
}

TEST_F(MigratingStockDisks, ARehearsalSaysWhyADrainIsNotBounded) {
  attach();
  request_.dry_run = true;
  auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  ASSERT_TRUE(done->disks.at(0).outlook);
  EXPECT_FALSE(done->disks[0].outlook->bounded);
  EXPECT_THAT(done->disks[0].outlook->helps, Contains(HasSubstr("plan.storage")));
  open(", plan: {storage: {scripted: {iops: 50000, latency_ms: 5}}}");
  done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_TRUE(done->disks.at(0).outlook->bounded);
  EXPECT_EQ(done->disks[0].outlook->longest, 5120us);
}

// ---- thread pools ---------------------------------------------------------------------------------------------------

/// A guest with two disks on threads, whose pool is QEMU's own.
class RaisingPools : public MigratingStockDisks {
 protected:
  void SetUp() override {
    MigratingStockDisks::SetUp();
    open(", plan: {automatic: false}");
    for (TestHost* const host : {&here_, &there_}) host->world.allocation = Allocation::sparse;
    attach();
    here_.world.disks["vdc"] =
        "<disk type='file' device='disk'><driver name='qemu' type='raw' io='threads'/><source file='/vdc'/>"
        "<target dev='vdc' bus='virtio'/></disk>";
    here_.world.migration.on_tick = [this](unsigned) { while_it_moves_ = pool(); };
  }
  std::uint64_t pool() {
    const auto found = here_.world.set.find("0 thread_pool_max");
    return found == here_.world.set.end() ? kPoolPerDisk : found->second;
  }

  std::uint64_t while_it_moves_ = 0;
};

TEST_F(RaisingPools, TooSmallOnesAreLargerWhileTheGuestMoves) {
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(while_it_moves_, 128U);
  EXPECT_THAT(done->notes, Contains(HasSubstr("thread_pool_max of main loop raised from 64 to 128 while it moves")));
}

TEST_F(RaisingPools, ArePutBackIfTheGuestStays) {
  here_.world.migration.fails = Error{ErrorKind::hypervisor, "no memory there", "add some", {}};
  failure();
  EXPECT_EQ(while_it_moves_, 128U);
  EXPECT_EQ(pool(), 64U);
}

TEST_F(RaisingPools, ALargerOneOfTheMainLoopIsSetThereAgain) {
  here_.world.set["0 thread_pool_max"] = 300;
  ASSERT_TRUE(migrate());
  EXPECT_EQ(there_.world.set["0 thread_pool_max"], 300U);
}

TEST_F(RaisingPools, NotWhereTheOperatorForbidsIt) {
  request_.raise_pools = false;
  ASSERT_TRUE(migrate());
  EXPECT_EQ(while_it_moves_, 64U);
  EXPECT_THAT(here_.world.set, IsEmpty());
}

TEST_F(RaisingPools, NotWhereQemusOwnIsEnough) {
  here_.world.disks.erase("vdc");
  ASSERT_TRUE(migrate());
  EXPECT_THAT(here_.world.set, IsEmpty());
}

TEST_F(RaisingPools, AlsoOneThatTheOperatorHasMadeSmallerThanQemusOwn) {
  here_.world.engines.engines.push_back({1, {}, 8, {}, {}});
  here_.world.disks["vdb"].replace(here_.world.disks["vdb"].find("<driver "), 8, "<driver iothread='1' ");
  std::uint64_t raised = 0;
  here_.world.migration.on_tick = [&](unsigned) { raised = here_.world.set["1 thread_pool_max"]; };
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(raised, 64U);
}

TEST_F(RaisingPools, AGuestMovesWithThePoolItHasWhereQemuRefuses) {
  here_.world.set_engine_fails = Error{ErrorKind::hypervisor, "QEMU said no", "look at its log", {}};
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(done->notes, Contains(HasSubstr("thread pools stay as they are while it moves: QEMU said no")));
}

TEST_F(RaisingPools, WhatWasRaisedBeforeAnErrorIsPutBackToo) {
  here_.world.engines.engines.push_back({1, {}, {}, {}, {}});
  for (const char* const target : {"vdd", "vde"})
    here_.world.disks[target] = fmt::format(
        "<disk type='file' device='disk'><driver name='qemu' type='raw' io='threads' iothread='1'/>"
        "<source file='/{0}'/><target dev='{0}' bus='virtio'/></disk>",
        target);
  here_.world.migration.fails = Error{ErrorKind::hypervisor, "no memory there", "add some", {}};
  here_.world.set_engine_fails = Error{ErrorKind::hypervisor, "QEMU said no", "look at its log", {}};
  here_.world.set_engine_works = 1;
  here_.world.migration.on_tick = [this](unsigned) {
    while_it_moves_ = pool();
    here_.world.set_engine_fails.reset();
  };
  failure();
  EXPECT_EQ(while_it_moves_, 128U);
  EXPECT_EQ(pool(), 64U);
}

TEST_F(RaisingPools, WhatSomebodyElseHasSetMeanwhileStays) {
  here_.world.migration.fails = Error{ErrorKind::hypervisor, "no memory there", "add some", {}};
  here_.world.migration.on_tick = [this](unsigned) { here_.world.set["0 thread_pool_max"] = 500; };
  failure();
  EXPECT_EQ(pool(), 500U);
}

// ---- nr_requests in the guest ---------------------------------------------------------------------------------------

class LoweringQueues : public MigratingStockDisks {
 protected:
  const std::string kPath = "/sys/block/vda/queue/nr_requests";

  void SetUp() override {
    MigratingStockDisks::SetUp();
    open(", plan: {storage: {scripted: {iops: 500, latency_ms: 10}}}");
    request_.guest_agent = true;
    for (TestHost* const host : {&here_, &there_})
      host->world.guest_files = {{{"/sys/block/vda/serial", "serial-1"}, {kPath, "256"}}};
    const auto arrives = here_.world.migration.arrives;
    here_.world.migration.arrives = [this, arrives](const MigrationOrder& order) {
      there_.world.guest_files = here_.world.guest_files;
      arrives(order);
    };
    here_.world.migration.on_tick = [this](unsigned) { lowest_ = std::min(lowest_, std::stoi(depth(here_))); };
    attach();
  }

  std::string depth(TestHost& host) { return (*host.world.guest_files)[kPath]; }

  /// By a migration that fails, of a guest whose agent is silent by then.
  void leave_lowered() {
    here_.world.migration.fails = Error{ErrorKind::hypervisor, "no memory there", "add some", {}};
    auto files = here_.world.guest_files;
    here_.world.migration.on_tick = [&](unsigned tick) {
      if (tick == 2) files = std::exchange(here_.world.guest_files, std::nullopt);
    };
    failure();
    here_.world.guest_files = files;
    EXPECT_EQ(depth(here_), "7");
    here_.world.migration.fails.reset();
    here_.world.migration.on_tick = [](unsigned) {};
  }

  int lowest_ = 1000;
};

TEST_F(LoweringQueues, AreLoweredWhileTheGuestMovesAndPutBackThere) {
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(lowest_, 7) << "1.25 times 500 IOPS x 10 ms";
  EXPECT_EQ(depth(there_), "256");
  EXPECT_THAT(done->notes, Contains(HasSubstr("nr_requests of 'vdb' lowered from 256 to 7")));
  EXPECT_THAT(here_.reconciled(), IsEmpty());
  EXPECT_THAT(there_.reconciled(), ::testing::ElementsAre("kept"));
}

TEST_F(LoweringQueues, OnlyIfTheOperatorAllowsIt) {
  request_.guest_agent = false;
  ASSERT_TRUE(migrate());
  EXPECT_EQ(lowest_, 256);
}

TEST_F(LoweringQueues, ArePutBackHereIfTheMigrationFails) {
  here_.world.migration.fails = Error{ErrorKind::hypervisor, "no memory there", "add some", {}};
  failure();
  EXPECT_EQ(lowest_, 7);
  EXPECT_EQ(depth(here_), "256");
  EXPECT_THAT(here_.reconciled(), ::testing::ElementsAre("kept"));
  EXPECT_THAT(there_.reconciled(), IsEmpty());
}

TEST_F(LoweringQueues, ArePutBackByReconcileWhereTheGuestIs) {
  dies_at_ = "arrived";
  ASSERT_TRUE(migrate());
  EXPECT_EQ(depth(there_), "7");
  EXPECT_THAT(there_.reconciled(), ::testing::ElementsAre("kept", "finished"));
  EXPECT_EQ(depth(there_), "256");
  EXPECT_THAT(there_.reconciled(), ::testing::ElementsAre("kept"));
}

TEST_F(LoweringQueues, StayToBePutBackUntilTheAgentAnswers) {
  dies_at_ = "arrived";
  ASSERT_TRUE(migrate());
  const auto files = std::exchange(there_.world.guest_files, std::nullopt);
  EXPECT_THAT(there_.reconciled(), ::testing::ElementsAre("kept", "left"));
  there_.world.guest_files = files;
  EXPECT_THAT(there_.reconciled(), ::testing::ElementsAre("kept", "finished"));
  EXPECT_EQ(depth(there_), "256");
}

TEST_F(LoweringQueues, WhatSomebodyElseHasSetMeanwhileStays) {
  dies_at_ = "arrived";
  ASSERT_TRUE(migrate());
  (*there_.world.guest_files)[kPath] = "32";
  EXPECT_THAT(there_.reconciled(), ::testing::ElementsAre("kept", "finished"));
  EXPECT_EQ(depth(there_), "32");
}

TEST_F(LoweringQueues, ADiskThatHasTheNameOfAnotherIsLeftAlone) {
  dies_at_ = "arrived";
  ASSERT_TRUE(migrate());
  (*there_.world.guest_files)["/sys/block/vda/serial"] = "another";
  EXPECT_THAT(there_.reconciled(), ::testing::ElementsAre("kept", "finished"));
  EXPECT_EQ(depth(there_), "7");
}

TEST_F(LoweringQueues, ThatAnEarlierMigrationLeftLoweredArePutBackToWhatTheyWere) {
  leave_lowered();
  ASSERT_TRUE(migrate());
  EXPECT_EQ(depth(there_), "256");
}

TEST_F(LoweringQueues, ThatAnEarlierMigrationLeftLoweredArePutBackAlsoWhereNoneIsLowered) {
  leave_lowered();
  request_.guest_agent = false;
  ASSERT_TRUE(migrate());
  EXPECT_EQ(depth(there_), "256");
}

TEST_F(LoweringQueues, AGuestWithoutAnAgentMovesAsItIs) {
  here_.world.guest_files.reset();
  here_.world.migration.on_tick = [](unsigned) {};
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(done->notes, Contains(HasSubstr("the guest has no agent")));
}

TEST_F(LoweringQueues, AnAgentThatTakesItsTimeIsNotWaitedForLong) {
  here_.world.agent_takes = 10s;
  here_.world.migration.on_tick = [](unsigned) {};
  there_.world.agent_takes = 10s;
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(done->notes, Contains(HasSubstr("not answered all within 30 s")));
  EXPECT_EQ(depth(there_), "256");
}

TEST_F(LoweringQueues, AnAgentThatRefusesIsNoted) {
  for (const char* const command : {"guest-get-disks", "guest-file-read"}) {
    here_.world.agent_refuses = command;
    request_.dry_run = false;
    here_.world.migration.fails = Error{ErrorKind::hypervisor, "no memory there", "add some", {}};
    failure();
    EXPECT_EQ(depth(here_), "256") << command;
  }
}

TEST_F(LoweringQueues, OfStorageThatNobodyHasDescribedAreLeft) {
  open("");
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(lowest_, 256);
  EXPECT_THAT(done->notes, Contains(HasSubstr("plan.storage.scripted")));
}

}  // namespace
}  // namespace aiolos
