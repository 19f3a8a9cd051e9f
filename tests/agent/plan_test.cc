// SPDX-License-Identifier: Apache-2.0
// The queue plan of a guest in memory: what it is made of, and what is done of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent_fixture.h"
#include "aiolos/disk/disk_xml.h"
#include "disk_speed.h"
#include "journal.h"

namespace aiolos {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class PlanFlow : public test::AgentFixture {
 protected:
  void give(const std::string& target, const std::string& driver) {
    world_.disks[target] = "<disk type='file' device='disk'><driver name='qemu' type='raw' " + driver +
                           "/><source file='/" + target + "'/><target dev='" + target + "' bus='virtio'/></disk>";
  }
  PlanReport plan(bool apply) {
    auto report = agent_->plan("guest", apply);
    EXPECT_TRUE(report) << describe(report.error());
    return report ? std::move(*report) : PlanReport();
  }
};

TEST_F(PlanFlow, LooksAndChangesNothing) {
  give("vda", "io='threads'");
  give("vdb", "io='threads'");
  const PlanReport report = plan(false);
  EXPECT_EQ(report.plan.engine(kMainLoop)->pool_max, 128U);
  EXPECT_THAT(report.applied, IsEmpty());
  EXPECT_THAT(world_.events, ElementsAre("ask QEMU"));
}

TEST_F(PlanFlow, AppliesWhatIsLiveInOrderAndOnce) {
  give("vda", "io='threads'");
  give("vdb", "io='threads'");
  const PlanReport report = plan(true);
  EXPECT_EQ(report.applied.size(), 2U);
  EXPECT_THAT(world_.events, ElementsAre("ask QEMU", "add iothread 1", "set thread_pool_max of 0 to 128", "ask QEMU"));
  world_.events.clear();
  EXPECT_THAT(plan(true).applied, IsEmpty()) << "again is once";
}

TEST_F(PlanFlow, SaysWhichChangeFailedAndWhatStays) {
  give("vda", "io='threads'");
  give("vdb", "io='threads'");
  world_.set_engine_fails = Error{ErrorKind::hypervisor, "QEMU said no", "look at its log", {}};
  const auto report = agent_->plan("guest", true);
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message, HasSubstr("thread_pool_max of main loop could not be set to 128: QEMU said no"));
  EXPECT_THAT(report.error().next, HasSubstr("1 changes before it were made and stay"));
}

TEST_F(PlanFlow, AppliesNothingToAGuestThatIsShutOff) {
  world_.running = false;
  const auto applied = agent_->plan("guest", true);
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().kind, ErrorKind::refused);
  EXPECT_TRUE(agent_->plan("guest", false));
}

TEST_F(PlanFlow, ComparesWantedWithReal) {
  world_.engines.engines = {{kMainLoop, {}, {}, {}, {}}, {1, {}, {}, {}, {}}};
  give("vda", "cache='none' io='native'");
  give("vdb", "cache='none' io='native' iothread='1'");
  world_.process = ProcessAio{2, 0};
  EXPECT_THAT(plan(false).differences, IsEmpty());
  world_.process = ProcessAio{1, 0};
  const PlanReport report = plan(false);
  EXPECT_EQ(report.wanted_contexts, 2U);
  ASSERT_EQ(report.differences.size(), 1U);
  EXPECT_THAT(report.differences[0], HasSubstr("1 of the 2 AIO contexts"));
  EXPECT_THAT(report.differences[0], HasSubstr("vdb run on threads"));
}

TEST_F(PlanFlow, KnowsStorageByTheTypeOfTheVolumeThatTheJournalHas) {
  open("plan: {storage: {scripted: {iops: 500, latency_ms: 10}}}");
  const Json info = {{"driver_volume_type", "scripted"}, {"serial", "s-1"}, {"data", {{"path", "/images/vol"}}}};
  ASSERT_TRUE(agent_->attach("guest", info, {{"bus", "virtio"}, {"dev", "vdb"}, {"type", "disk"}}, false));
  const PlanReport report = plan(false);
  EXPECT_EQ(report.plan.disk("vdb")->depth, 7U);
  EXPECT_THAT(report.plan.disk("vdb")->reasons, Contains(HasSubstr("plan.storage.scripted")));
}

/// Attaching: where a disk goes, and what it reserves.
class Placing : public PlanFlow {
 protected:
  Result<Explanation> attach(const std::string& dev = "vdb", bool dry_run = false) {
    const Json info = {{"driver_volume_type", "scripted"}, {"serial", dev}, {"data", {{"path", "/images/" + dev}}}};
    return agent_->attach("guest", info, {{"bus", "virtio"}, {"dev", dev}, {"type", "disk"}}, dry_run);
  }
  void give_iothread(unsigned id) { world_.engines.engines.push_back({id, {}, {}, {}, {}}); }
  void leave_contexts(unsigned count) { world_.host.aio_nr = *world_.host.aio_max_nr - count * kAioEventsPerContext; }
  std::vector<ReservedContexts> reserved() { return agent_->aio_budget()->reserved; }
};

TEST_F(Placing, TakesTheMainLoopWhereThereIsNoIothreadAndAddsNone) {
  const auto attached = attach();
  ASSERT_TRUE(attached) << describe(attached.error());
  EXPECT_THAT(attached->xml, Not(HasSubstr("iothread")));
  EXPECT_THAT(attached->xml, Not(HasSubstr("queue")));
  EXPECT_THAT(world_.events, Not(Contains(HasSubstr("iothread"))));
}

TEST_F(Placing, TakesTheIothreadThatHasLeastToDo) {
  give_iothread(1);
  give_iothread(2);
  give("vda", "cache='none' io='native' iothread='1'");
  world_.process = ProcessAio{2, 0};
  const auto rehearsed = attach("vdb", /*dry_run=*/true);
  const auto attached = attach();
  ASSERT_TRUE(attached) << describe(attached.error());
  EXPECT_THAT(attached->xml, HasSubstr("io='native' iothread='2'"));
  EXPECT_EQ(rehearsed->xml, attached->xml);
}

TEST_F(Placing, FallsBackToTheMainLoopBeforeItGivesNativeUp) {
  give_iothread(1);
  world_.process = ProcessAio{0, 0};
  leave_contexts(1);
  const auto attached = attach();
  ASSERT_TRUE(attached) << describe(attached.error());
  EXPECT_EQ(attached->decision.mode, AioMode::native);
  EXPECT_THAT(attached->xml, Not(HasSubstr("iothread")));
}

TEST_F(Placing, NovaPlacesNothing) {
  open("aio: {profile: nova}\nplan: {storage: {scripted: {iops: 500, latency_ms: 10}}}");
  give_iothread(1);
  const auto attached = attach();
  ASSERT_TRUE(attached) << describe(attached.error());
  EXPECT_THAT(attached->xml, Not(HasSubstr("iothread")));
  EXPECT_THAT(attached->xml, Not(HasSubstr("queue")));
}

TEST_F(Placing, MakesQueuesNoDeeperThanTheStoragesKnee) {
  open("plan: {storage: {scripted: {iops: 500, latency_ms: 10}}}");
  const auto attached = attach();
  ASSERT_TRUE(attached) << describe(attached.error());
  EXPECT_THAT(attached->xml, HasSubstr("queues='1' queue_size='32'"));
}

TEST_F(Placing, SpreadsQueuesWhereLibvirtAndQemuCan) {
  open("plan: {storage: {scripted: {iops: 300000, latency_ms: 0.1}}}\naio: {prefer: io_uring}");
  give_iothread(1);
  give_iothread(2);
  world_.engines.vcpus = 8;
  EXPECT_THAT(attach("vdb", true)->xml, Not(HasSubstr("<iothreads>")));
  world_.host.libvirt = version(10, 0);
  world_.host.qemu = version(9, 0);
  const auto attached = attach();
  ASSERT_TRUE(attached) << describe(attached.error());
  EXPECT_THAT(attached->xml, HasSubstr("queues='6'"));
  EXPECT_THAT(attached->xml, HasSubstr("<iothread id='1'>\n        <queue id='0'/>\n        <queue id='2'/>"));
  EXPECT_THAT(attached->xml, Not(HasSubstr("iothread=")));
}

TEST_F(Placing, ReservesUntilQemuHasTakenIt) {
  world_.process = ProcessAio{0, 0};
  ASSERT_TRUE(attach("vdb", /*dry_run=*/true));
  EXPECT_THAT(reserved(), IsEmpty()) << "a rehearsal reserves nothing";
  ASSERT_TRUE(attach());
  ASSERT_EQ(reserved().size(), 1U);
  EXPECT_EQ(reserved()[0].target, "vdb");
  EXPECT_EQ(reserved()[0].contexts, 1U);
  ASSERT_TRUE(attach("vdc"));
  EXPECT_EQ(reserved().size(), 1U) << "both are served by one context";
  world_.process = ProcessAio{1, 0};
  EXPECT_THAT(reserved(), IsEmpty());
  world_.process.reset();
  EXPECT_THAT(reserved(), IsEmpty()) << "with its QEMU gone nothing is wanted any more";
}

TEST_F(Placing, GivesBackWhatAFailedAttachReserved) {
  world_.process = ProcessAio{0, 0};
  world_.attach_fails = Error{ErrorKind::hypervisor, "no", "try", {}};
  ASSERT_FALSE(attach());
  EXPECT_THAT(reserved(), IsEmpty());
}

TEST_F(Placing, DoesNotTakeTheLastContextTwice) {
  world_.process = ProcessAio{0, 0};
  leave_contexts(1);
  {  // another process, which attaches to another guest
    test::FakeClock clock;
    const auto journal = Journal::open(state_.path(), clock);
    AttachmentRecord other;
    other.hypervisor = "qemu:///system";
    other.domain_uuid = "uuid-2";
    other.target = "vdb";
    const auto id = (*journal)->open_attachment(other);
    ASSERT_TRUE((*journal)->reserve_aio(*id, std::nullopt, 1));
  }
  EXPECT_EQ(agent_->aio_budget()->contexts_left(), 0U);
  const auto attached = attach();
  ASSERT_TRUE(attached) << describe(attached.error());
  EXPECT_EQ(attached->decision.mode, AioMode::io_uring);
  ASSERT_FALSE(attached->decision.rejected.empty());
  EXPECT_THAT(attached->decision.rejected[0].because, HasSubstr("1024 are reserved by other attaches"));
  EXPECT_THAT(attached->decision.rejected[0].because, HasSubstr("sysctl fs.aio-max-nr=131072 helps"));
}

TEST_F(Placing, HostSaysWhoHasWhat) {
  world_.process = ProcessAio{3, 2};
  const auto budget = agent_->aio_budget();
  ASSERT_TRUE(budget);
  ASSERT_EQ(budget->domains.size(), 1U);
  EXPECT_EQ(budget->domains[0].name, "guest");
  EXPECT_EQ(budget->domains[0].aio.contexts, 3U);
  EXPECT_EQ(to_json(*budget)["domains"][0]["events"], 3072);
  EXPECT_EQ(to_json(*budget)["contexts_left"], 64);
}

/// What attach and detach do of it by themselves.
class Replanning : public Placing {
 protected:
  void SetUp() override {
    Placing::SetUp();
    world_.allocation = Allocation::sparse;  // so that disks run on threads
  }
  std::vector<std::string> settings() const {
    std::vector<std::string> done;
    for (const std::string& event : world_.events)
      if (event.starts_with("set ") || event == "ask QEMU") done.push_back(event);
    return done;
  }
};

TEST_F(Replanning, GrowsWithEachDiskAndGivesBackWhenItGoes) {
  ASSERT_TRUE(attach("vdb"));
  EXPECT_THAT(settings(), IsEmpty()) << "one disk needs no more than QEMU's default, so QEMU is not asked";
  const auto second = attach("vdc");
  ASSERT_TRUE(second);
  EXPECT_THAT(second->notes, Contains(HasSubstr("thread_pool_max of main loop raised from 64 to 128")));
  ASSERT_TRUE(attach("vdd"));
  EXPECT_THAT(settings(), ElementsAre("ask QEMU", "set thread_pool_max of 0 to 128", "ask QEMU",
                                      "set thread_pool_max of 0 to 192"));
  world_.events.clear();
  ASSERT_TRUE(agent_->detach("guest", "vdd", false));
  ASSERT_TRUE(agent_->detach("guest", "vdc", false));
  ASSERT_TRUE(agent_->detach("guest", "vdb", false));
  EXPECT_THAT(settings(),
              ElementsAre("ask QEMU", "set thread_pool_max of 0 to 128", "ask QEMU", "set thread_pool_max of 0 to 64"));
}

TEST_F(Replanning, AddsNoIothread) {
  ASSERT_TRUE(attach("vdb"));
  ASSERT_TRUE(attach("vdc"));
  EXPECT_THAT(world_.events, Not(Contains(HasSubstr("add iothread"))));
}

TEST_F(Replanning, LeavesASizeThatSomebodyElseHasSet) {
  ASSERT_TRUE(attach("vdb"));
  ASSERT_TRUE(attach("vdc"));
  world_.set["0 thread_pool_max"] = 500;
  ASSERT_TRUE(agent_->detach("guest", "vdc", false));
  EXPECT_EQ(world_.set["0 thread_pool_max"], 500U);
  ASSERT_TRUE(attach("vdc"));
  EXPECT_EQ(world_.set["0 thread_pool_max"], 500U);
}

TEST_F(Replanning, IsLeftToTheOperatorWhereTheConfigurationSaysSo) {
  for (const char* yaml : {"plan: {automatic: false}", "aio: {profile: nova}"}) {
    open(yaml);
    ASSERT_TRUE(attach("vdb"));
    ASSERT_TRUE(attach("vdc"));
    ASSERT_TRUE(agent_->detach("guest", "vdc", false));
    ASSERT_TRUE(agent_->detach("guest", "vdb", false));
    EXPECT_THAT(settings(), IsEmpty()) << yaml;
  }
}

TEST_F(Replanning, CostsNoAttachWhenItFails) {
  ASSERT_TRUE(attach("vdb"));
  world_.set_engine_fails = Error{ErrorKind::hypervisor, "QEMU said no", "look at its log", {}};
  const auto attached = attach("vdc");
  ASSERT_TRUE(attached) << describe(attached.error());
  EXPECT_THAT(attached->notes, Contains(HasSubstr("not sized anew: QEMU said no")));
  ASSERT_TRUE(agent_->detach("guest", "vdc", false));
}

TEST(PlanDiskOf, ReadsWhatTheXmlSays) {
  const auto parse = [](const std::string& xml) { return disk::parse(xml)->disk; };
  const auto throttled = parse(
      "<disk type='file' device='disk'><driver name='qemu' io='threads' iothread='2' queues='3' "
      "queue_size='64'/><target "
      "dev='vdb' bus='virtio'/><iotune><read_iops_sec>100</read_iops_sec><write_iops_sec>50</write_iops_sec></iotune>"
      "</disk>");
  const PlanDisk disk = plan_disk(throttled, {}, {});
  EXPECT_EQ(disk.engine, 2U);
  EXPECT_EQ(disk.queues, 3U);
  EXPECT_EQ(disk.queue_size, 64U);
  EXPECT_EQ(disk.speed.iops, 150);
  EXPECT_EQ(disk.speed.source, "its <iotune>");
  EXPECT_EQ(plan_disk(throttled, {}, {100.0, 1.0, "plan.storage.nfs"}).speed.source, "plan.storage.nfs")
      << "a limit above what the storage does says nothing";

  const auto scsi = parse(
      "<disk type='network' device='disk'><target dev='sda' bus='scsi'/><address type='drive' controller='1' bus='0' "
      "target='0' unit='4'/></disk>");
  const PlanDisk on_controller = plan_disk(scsi, {{0, true, {}, {}, {}, {}}, {1, true, 3, {}, {}, {}}}, {});
  EXPECT_EQ(on_controller.engine, 3U);
  EXPECT_TRUE(on_controller.network);
  EXPECT_FALSE(is_planned(parse("<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>")));
  EXPECT_FALSE(is_planned(parse("<disk type='vhostuser' device='disk'><target dev='vda' bus='virtio'/></disk>")));
}

}  // namespace
}  // namespace aiolos
