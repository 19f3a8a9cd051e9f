// SPDX-License-Identifier: Apache-2.0
// Migration between two machines in memory: what is done on which, in which order, and who has what after each failure.
#include "migrating_fixture.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

TEST_F(Migrating, TheVolumeIsConnectedThereBeforeAndDisconnectedHereAfterwards) {
  attach();
  there_.world.on_event = [this](const std::string& event) {
    EXPECT_EQ(event, "connect");
    EXPECT_THAT(here_.world.events, IsEmpty());
  };
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(here_.world.events, ElementsAre("migrate to qemu+ssh://there/system", "migrated", "disconnect"));
  EXPECT_THAT(there_.world.events, ElementsAre("connect"));
  EXPECT_THAT(asked_, ElementsAre("prepare", "begin", "arrived"));
  EXPECT_THAT(here_.states(), IsEmpty());
  EXPECT_THAT(there_.states(), ElementsAre("attached"));
  EXPECT_THAT(there_.reconciled(), ElementsAre("kept"));
  EXPECT_GE(done->result.iterations, 3U);
  EXPECT_THAT(done->notes, IsEmpty());
}

TEST_F(Migrating, TheModeIsDecidedAnewAndTheGuestSeesTheSameDevice) {
  attach();
  there_.world.allocation = Allocation::sparse;
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  ASSERT_THAT(done->disks, SizeIs(1));
  EXPECT_EQ(done->disks[0].before, AioMode::native);
  EXPECT_EQ(done->disks[0].after, AioMode::threads);
  const std::string& xml = there_.world.disks.at("vdb");
  EXPECT_THAT(xml, HasSubstr("io='threads'"));
  EXPECT_THAT(xml, HasSubstr("slot='0x07'"));
  EXPECT_THAT(xml, HasSubstr("virtio-disk1"));
}

TEST_F(Migrating, TheDefinitionGoesAlong) {
  attach();
  here_.world.definition = "<domain><devices>" + here_.world.disks.at("vdb") + "</devices></domain>";
  there_.world.allocation = Allocation::sparse;
  std::string persistent;
  const auto arrives = here_.world.migration.arrives;
  here_.world.migration.arrives = [&](const MigrationOrder& order) {
    persistent = order.persistent_xml;
    arrives(order);
  };
  ASSERT_TRUE(migrate());
  EXPECT_THAT(persistent, HasSubstr("io=\"threads\""));
}

TEST_F(Migrating, ShowsHowFarItIs) {
  attach();
  ASSERT_TRUE(migrate());
  ASSERT_GE(shown_.size(), 3U);
  EXPECT_EQ(shown_.front().phase, MigrationStatus::Phase::preparing);
  EXPECT_EQ(shown_.back().phase, MigrationStatus::Phase::settling);
}

TEST_F(Migrating, ARehearsalChangesNothing) {
  attach();
  request_.dry_run = true;
  there_.world.allocation = Allocation::sparse;
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(done->disks.at(0).after, AioMode::threads);
  EXPECT_THAT(here_.world.events, IsEmpty());
  EXPECT_THAT(there_.world.events, IsEmpty());
  EXPECT_THAT(there_.states(), IsEmpty());
}

TEST_F(Migrating, WhatTheDestinationCannotConnectKeepsTheGuestHere) {
  attach();
  request_.connections = {{"vdb", {{"connection_info", volume({{"fail", "connect"}})}}}};
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::storage);
  EXPECT_THAT(error.message, HasSubstr("'vdb' on the destination: "));
  EXPECT_THAT(there_.world.events, ElementsAre("connect", "disconnect"));
  EXPECT_THAT(there_.states(), IsEmpty());
  EXPECT_THAT(here_.world.events, IsEmpty()) << "libvirt was not asked";
}

TEST_F(Migrating, AFailedMigrationIsUndoneThere) {
  attach();
  here_.world.migration.fails = Error{ErrorKind::hypervisor, "no memory there", "add some", {}};
  EXPECT_EQ(failure().message, "no memory there");
  EXPECT_THAT(there_.world.events, ElementsAre("connect", "disconnect"));
  EXPECT_THAT(there_.states(), IsEmpty());
  EXPECT_THAT(here_.reconciled(), ElementsAre("kept"));
}

TEST_F(Migrating, AGuestThatArrivedThoughTheAnswerWasLostHasMoved) {
  attach();
  here_.world.migration.fails = Error{ErrorKind::retry, "the connection broke", "ask both hosts", {}};
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(done->notes, Contains(HasSubstr("the connection broke")));
  EXPECT_THAT(here_.states(), IsEmpty());
  EXPECT_THAT(there_.states(), ElementsAre("attached"));
}

TEST_F(Migrating, WhereTheGuestIsNotKnownNothingIsDisconnected) {
  attach();
  here_.world.migration.fails = Error{ErrorKind::retry, "the connection broke", "ask both hosts", {}};
  dies_at_ = "has_guest";
  const auto done = migrate();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::retry);
  EXPECT_THAT(done.error().next, HasSubstr("reconcile on both"));
  EXPECT_THAT(here_.states(), ElementsAre("attached"));
  EXPECT_THAT(there_.states(), ElementsAre("attached"));
  EXPECT_THAT(here_.reconciled(), ElementsAre("undone"));
  EXPECT_THAT(there_.reconciled(), ElementsAre("kept"));
}

TEST_F(Migrating, APeerThatDiesBeforeTheGuestLeavesIsSettledByReconcile) {
  for (const char* const step : {"prepare", "begin"}) {
    if (here_.states().empty()) attach();
    dies_at_ = step;
    EXPECT_THAT(failure().message, HasSubstr("does not answer"));
    EXPECT_THAT(here_.world.events, IsEmpty());
    there_.reconciled();
    EXPECT_THAT(there_.states(), IsEmpty());
  }
}

TEST_F(Migrating, APeerThatDiesAfterTheGuestHasLeftCostsNothing) {
  attach();
  dies_at_ = "arrived";
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(done->notes, Contains(HasSubstr("does not answer")));
  EXPECT_THAT(here_.states(), IsEmpty());
  EXPECT_THAT(there_.reconciled(), ElementsAre("kept"));
}

TEST_F(Migrating, APeerThatCannotCancelIsSaidToBeLeft) {
  attach();
  here_.world.migration.fails = Error{ErrorKind::hypervisor, "no memory there", "add some", {}};
  dies_at_ = "cancel";
  EXPECT_THAT(failure().next, HasSubstr("reconcile on the destination"));
  EXPECT_THAT(there_.reconciled(), ElementsAre("undone"));
}

TEST_F(Migrating, IsEndedWhenAsked) {
  attach();
  here_.world.migration.ticks = 1'000'000;
  watch_.stop = [this] { return shown_.size() > 3; };
  const Error error = failure();
  EXPECT_THAT(error.message, HasSubstr("ended as asked"));
  EXPECT_THAT(here_.world.events, Contains("abort"));
  EXPECT_THAT(there_.states(), IsEmpty());
}

TEST_F(Migrating, IsGivenUpAtTheDeadline) {
  attach();
  here_.world.migration.ticks = 1'000'000;
  request_.deadline = 2s;
  EXPECT_THAT(failure().message, HasSubstr("not moved within 2 s"));
  EXPECT_THAT(there_.states(), IsEmpty());
}

TEST_F(Migrating, RaisesTheDowntimeLimitInSteps) {
  attach();
  here_.world.migration.ticks = 30;
  here_.world.migration.downtime_ms = 200;
  request_.settings.downtime_limit_ms = 300;
  request_.settings.downtime_steps = 3;
  request_.settings.downtime_step_delay = 1s;
  ASSERT_TRUE(migrate());
  EXPECT_THAT(here_.world.events, Contains("downtime limit 200 ms"));
}

TEST_F(Migrating, PostCopyBeginsWhenItsTimeHasCome) {
  attach();
  here_.world.migration.ticks = 1'000'000;
  request_.settings.post_copy = true;
  request_.post_copy_after = 1s;
  ASSERT_TRUE(migrate());
  EXPECT_THAT(here_.world.events, Contains("post-copy"));
}

TEST_F(Migrating, PostCopyMayBeginAtOnce) {
  attach();
  here_.world.migration.ticks = 1'000'000;
  request_.settings.post_copy = true;
  request_.post_copy_after = 0s;
  ASSERT_TRUE(migrate());
  EXPECT_THAT(here_.world.events, Contains("post-copy"));
}

/// A guest whose definition stays when it moves.
class MigratingDefined : public Migrating {
 protected:
  Result<MigrationReport> migrate_and_leave(bool running) {
    attach();
    here_.world.definition = "<domain><devices>" + here_.world.disks.at("vdb") + "</devices></domain>";
    request_.settings.persistent = false;
    here_.world.migration.arrives = [this, running, arrives = here_.world.migration.arrives](const MigrationOrder& order) {
      arrives(order);
      here_.world.gone = false;
      here_.world.running = running;
    };
    return migrate();
  }
};

TEST_F(MigratingDefined, ADefinitionThatStaysKeepsNoVolumeConnected) {
  const auto done = migrate_and_leave(/*running=*/false);
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(here_.states(), IsEmpty());
  EXPECT_THAT(here_.world.events, Contains("disconnect"));
}

TEST_F(MigratingDefined, WhatAQemuThatLibvirtCouldNotEndMayUseStaysConnected) {
  const auto done = migrate_and_leave(/*running=*/true);
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(here_.states(), ElementsAre("attached"));
  EXPECT_THAT(here_.world.events, Not(Contains("disconnect")));
  EXPECT_THAT(done->notes, Contains(HasSubstr("libvirt still has a QEMU of it here")));
}

TEST_F(Migrating, AVolumeOfAGuestThatIsOnItsWayIsNotTakenAway) {
  attach();
  std::optional<Error> refused;
  here_.world.migration.on_tick = [&](unsigned tick) {
    if (tick != 1) return;
    if (const auto done = there_.agent->detach("uuid-1", "vdb", /*force=*/true); !done) refused = done.error();
  };
  ASSERT_TRUE(migrate());
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->kind, ErrorKind::retry);
  EXPECT_THAT(there_.states(), ::testing::ElementsAre("attached"));
}

TEST_F(Migrating, AMigrationOfOthersIsLeftAlone) {
  attach();
  here_.world.migration.others = true;
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::retry);
  EXPECT_THAT(error.next, HasSubstr("virsh domjobabort guest"));
  EXPECT_THAT(here_.world.events, IsEmpty());
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(Migrating, WhatFailsBeforeLibvirtIsAskedEndsNoMigration) {
  attach();
  dies_at_ = "begin";
  there_.world.migration.others = here_.world.migration.others = false;
  watch_.show = [&](const MigrationStatus& status) {
    if (status.phase == MigrationStatus::Phase::settling) here_.world.migration.others = true;
  };
  failure();
  EXPECT_THAT(here_.world.events, Not(Contains("abort")));
}

TEST_F(Migrating, AGuestThatIsThereThoughItFailedKeepsItsVolumesThereAndThatIsSaid) {
  attach();
  here_.world.migration.fails = Error{ErrorKind::hypervisor, "the link broke", "mend it", {}};
  here_.world.migration.on_tick = [&](unsigned) { there_.world.gone = false; };
  const Error error = failure();
  EXPECT_THAT(error.message, HasSubstr("keeps its volumes there"));
  EXPECT_THAT(error.next, HasSubstr("reconcile"));
}

TEST_F(Migrating, AWriteCacheThatTheGuestDoesNotHaveIsNotGivenIt) {
  open(", disk_cachemodes: {file: directsync}");
  attach();
  there_.open("");
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(there_.world.disks.at("vdb"), HasSubstr("cache='directsync'"));
}

TEST_F(Migrating, ARehearsalLeavesWhatAnEarlierAttemptLeft) {
  attach();
  dies_at_ = "begin";
  failure();
  dies_at_.clear();
  there_.world.events.clear();
  request_.dry_run = true;
  const auto done = migrate();
  EXPECT_TRUE(done) << describe(done.error());
  EXPECT_THAT(there_.world.events, IsEmpty());
  EXPECT_THAT(there_.states(), ElementsAre("attached"));
}

TEST_F(Migrating, ReconcileLeavesAGuestOnItsWayAlone) {
  attach();
  std::vector<std::string> seen;
  here_.world.migration.on_tick = [&](unsigned tick) {
    if (tick != 1) return;
    seen = here_.reconciled();
    const auto also = there_.reconciled();
    seen.insert(seen.end(), also.begin(), also.end());
  };
  ASSERT_TRUE(migrate());
  EXPECT_THAT(seen, ElementsAre("left", "left"));
}

TEST_F(Migrating, SecretsAreGivenAgain) {
  const Json info = volume({{"auth_password", "hunter2"}});
  attach(info);
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::refused);
  EXPECT_THAT(error.next, HasSubstr("--connections"));
  EXPECT_THAT(asked_, IsEmpty());
  request_.connections = {{"vdb", {{"connection_info", info}}}};
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(there_.states(), ElementsAre("attached"));
}

TEST_F(Migrating, AnotherVolumeIsNotGivenToTheGuest) {
  attach();
  Json other = volume();
  other["serial"] = "serial-2";
  request_.connections = {{"vdb", {{"connection_info", other}}}};
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::refused);
  EXPECT_THAT(error.message, HasSubstr("another volume"));
  EXPECT_EQ(error.where, "connections/vdb");
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(Migrating, ConnectionsOfNoDiskAreAMistake) {
  attach();
  request_.connections = {{"vdc", {{"connection_info", volume()}}}};
  EXPECT_EQ(failure().where, "connections/vdc");
  request_.connections = {{"vdb", volume()}};
  EXPECT_EQ(failure().where, "connections/vdb");
  request_.connections = {{"vdb", {{"connection_info", volume()}, {"disk_info", {{"dev", "vdz"}}}}}};
  EXPECT_THAT(failure().message, HasSubstr("disk_info is not of 'vdb'"));
}

TEST_F(Migrating, AVolumeThatIsNotWhatItWasDoesNotMove) {
  attach(volume({{"fail", "verify later"}}));
  EXPECT_THAT(failure().message, HasSubstr("another volume"));
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(Migrating, AnUnsettledVolumeDoesNotMove) {
  attach();
  here_.world.detach_fails = Error{ErrorKind::retry, "the guest does not answer", "wait", {}};
  ASSERT_FALSE(here_.agent->detach("guest", "vdb", false));
  here_.world.events.clear();
  EXPECT_THAT(failure().next, HasSubstr("reconcile"));
}

TEST_F(Migrating, TheEmbeddedDriverCannotMigrate) {
  attach();
  here_.open_embedded();
  const auto done = migrate();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::refused);
  EXPECT_THAT(done.error().message, HasSubstr("embedded"));
}

TEST_F(Migrating, AGuestThatRunsThereAlreadyIsNotTakenIn) {
  attach();
  there_.world.gone = false;
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::refused);
  EXPECT_THAT(error.message, HasSubstr("already"));
  EXPECT_THAT(there_.world.events, IsEmpty());
}

TEST_F(Migrating, WhatAnEarlierAttemptLeftThereIsUndoneFirst) {
  attach();
  dies_at_ = "begin";
  failure();
  EXPECT_THAT(there_.states(), ElementsAre("attached"));
  dies_at_.clear();
  there_.world.events.clear();
  ASSERT_TRUE(migrate());
  EXPECT_THAT(there_.world.events, ElementsAre("disconnect", "connect"));
  EXPECT_THAT(there_.states(), ElementsAre("attached"));
}

TEST_F(Migrating, WhatLibvirtForgetsIsSetAgain) {
  here_.world.engines.engines.push_back({1, {}, {}, 4000, 16});
  there_.world.engines.engines.push_back({1, {}, {}, 32768, 0});
  attach();
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(there_.world.events, Contains("set poll_max_ns of 1 to 4000"));
  EXPECT_THAT(there_.world.events, Contains("set aio_max_batch of 1 to 16"));
  EXPECT_THAT(done->notes, Contains(HasSubstr("poll_max_ns of iothread 1 set to 4000 again")));
}

// ---- aiolos-engine --------------------------------------------------------------------------------------------------

class MigratingEngineDisks : public Migrating {
 protected:
  void SetUp() override {
    Migrating::SetUp();
    open(", data_plane: engine");
    for (TestHost* const host : {&here_, &there_}) host->world.engines.shared_memory = true;
  }

  /// The guest's XML as libvirt makes it has the memory as well.
  void attach_engine_disk() {
    attach();
    here_.world.xml_head = "<memoryBacking><access mode='shared'/></memoryBacking>";
  }
};

TEST_F(MigratingEngineDisks, TheOtherEngineServesTheDisk) {
  attach_engine_disk();
  here_.world.drain.forecast = 3ms;
  here_.world.drain.bound = 20ms;
  here_.world.migration.on_tick = [this](unsigned tick) {
    if (tick != 3) return;
    here_.world.drain.count = 1;
    here_.world.drain.last = 4ms;
    here_.world.drain.stopped = true;
    here_.world.drain.forecast = 0ms;
  };
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(there_.world.events, ElementsAre("connect", "serve /images/vol"));
  EXPECT_THAT(here_.world.served, IsEmpty());
  EXPECT_THAT(there_.world.served, SizeIs(1));
  EXPECT_THAT(here_.world.events, Contains("switchover is near"));
  ASSERT_THAT(done->disks, SizeIs(1));
  EXPECT_TRUE(done->disks[0].engine);
  EXPECT_EQ(done->disks[0].drain_predicted, 3ms);
  EXPECT_EQ(done->disks[0].drain_bound, 20ms);
  EXPECT_EQ(done->disks[0].drain, 4ms);
}

TEST_F(MigratingEngineDisks, ARehearsalSaysWhatADrainWouldTake) {
  attach_engine_disk();
  here_.world.drain.forecast = 3ms;
  here_.world.drain.bound = 20ms;
  request_.dry_run = true;
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(done->disks.at(0).drain_predicted, 3ms);
  EXPECT_EQ(done->disks.at(0).drain_bound, 20ms);
}

TEST_F(MigratingEngineDisks, AreNotBoundedByAnEngineWithoutATarget) {
  attach_engine_disk();
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  ASSERT_TRUE(done->disks.at(0).outlook);
  EXPECT_FALSE(done->disks.at(0).outlook->bounded);
}

TEST_F(MigratingEngineDisks, IsHeldWhileTheDrainIsTooLong) {
  attach_engine_disk();
  request_.max_drain = 20ms;
  request_.deadline = 3600s;
  here_.world.migration.ticks = 20;
  here_.world.drain.forecast = 40ms;
  here_.world.migration.on_tick = [this](unsigned tick) {
    if (tick == 100) here_.world.drain.forecast = 10ms;
  };
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_GE(done->result.iterations, 100U);
  EXPECT_THAT(here_.world.events, Contains("hold"));
  EXPECT_THAT(here_.world.events, Contains("downtime limit 300 ms"));
}

TEST_F(MigratingEngineDisks, IsGivenUpWhenTheDrainStaysTooLong) {
  attach_engine_disk();
  request_.max_drain = 20ms;
  request_.deadline = 5s;
  here_.world.drain.forecast = 43ms;
  here_.world.migration.ticks = 20;
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::retry);
  EXPECT_THAT(error.message, HasSubstr("43.0 ms"));
  EXPECT_THAT(there_.states(), IsEmpty());
  EXPECT_THAT(there_.world.served, IsEmpty());
}

TEST_F(MigratingEngineDisks, ALimitOfAnUnknownDrainIsRefused) {
  open("");
  attach();
  request_.max_drain = 20ms;
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::refused);
  EXPECT_THAT(error.message, HasSubstr("vdb"));
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(MigratingEngineDisks, ADiskStaysWithTheDataPlaneThatItHas) {
  attach_engine_disk();
  there_.open("");
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_THAT(there_.world.served, SizeIs(1));
}

TEST_F(MigratingEngineDisks, AnotherDeviceIsRefused) {
  attach_engine_disk();
  there_.open(", aio: {profile: nova}");
  EXPECT_THAT(failure().message, HasSubstr("aiolos-engine does the I/O of 'vdb' on the source"));
  EXPECT_THAT(there_.states(), IsEmpty());
}

}  // namespace
}  // namespace aiolos
