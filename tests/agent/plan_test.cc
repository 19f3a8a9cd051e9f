// SPDX-License-Identifier: Apache-2.0
// The queue plan of a guest in memory: what it is made of, and what is done of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "aiolos/disk/disk_xml.h"
#include "disk_speed.h"
#include "fake_machine.h"
#include "temporary_folder.h"

namespace aiolos {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PlanFlow : public ::testing::Test {
 protected:
  void SetUp() override { open({}); }

  void open(const std::string& yaml) {
    agent_.reset();
    auto config = parse_config(yaml, "test.yaml");
    ASSERT_TRUE(config) << describe(config.error());
    config->plugins.path = {TEST_PLUGINS};
    config->state.dir = state_.path();
    Agent::Options options;
    options.config = std::move(*config);
    options.machine = std::make_unique<test::FakeMachine>(world_);
    auto agent = Agent::open(std::move(options));
    ASSERT_TRUE(agent) << describe(agent.error());
    agent_ = std::move(*agent);
  }

  void give(const std::string& target, const std::string& driver) {
    world_.disks[target] = "<disk type='file' device='disk'><driver name='qemu' type='raw' " + driver +
                           "/><source file='/" + target + "'/><target dev='" + target + "' bus='virtio'/></disk>";
  }
  PlanReport plan(bool apply) {
    auto report = agent_->plan("guest", apply);
    EXPECT_TRUE(report) << describe(report.error());
    return report ? std::move(*report) : PlanReport();
  }

  test::TemporaryFolder state_;
  test::World world_;
  std::unique_ptr<Agent> agent_;
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
