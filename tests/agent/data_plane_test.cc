// SPDX-License-Identifier: Apache-2.0
// The flows where aiolos-engine does the disks' I/O, on a machine in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent_fixture.h"
#include "aiolos/disk/disk_xml.h"

namespace aiolos {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DataPlaneFlows : public test::AgentFixture {
 protected:
  void SetUp() override {
    world_.engines.shared_memory = true;
    open("data_plane: engine");
  }

  Result<Explanation> attach(const Json& more_disk_info = Json::object(), const Json& more_data = Json::object()) {
    Json disk_info{{"bus", "virtio"}, {"dev", "vdb"}};
    disk_info.update(more_disk_info);
    Json info = {{"driver_volume_type", "scripted"},
                 {"serial", "b5f4c4a5-6f37-4d5e-9a0e-0a4a2b1c3d4e"},
                 {"data", {{"path", "/images/vol"}}}};
    info["data"].update(more_data);
    return agent_->attach("guest", info, disk_info, false);
  }

  /// Why attaching is refused.
  std::string refusal(const Json& more_disk_info = Json::object(), const Json& more_data = Json::object()) {
    const auto result = attach(more_disk_info, more_data);
    if (result) return "not refused";
    EXPECT_EQ(result.error().kind, ErrorKind::refused);
    EXPECT_THAT(result.error().next, HasSubstr("data_plane"));
    EXPECT_THAT(world_.served, IsEmpty());
    return result.error().message;
  }
};

TEST_F(DataPlaneFlows, AttachServesTheVolumeAndGivesTheGuestItsSocket) {
  world_.engines.vcpus = 16;
  const auto result = attach();
  ASSERT_TRUE(result) << describe(result.error());
  EXPECT_THAT(world_.events, ElementsAre("connect", "serve /images/vol", "attach vdb"));
  EXPECT_EQ(result->xml,
            "<disk type='vhostuser' device='disk' snapshot='no'>\n"
            "  <driver name='qemu' type='raw' queues='4'/>\n"
            "  <source type='unix' path='/run/aiolos/disks/uuid-1-vdb'>\n"
            "    <reconnect enabled='yes' timeout='1'/>\n"
            "  </source>\n"
            "  <target dev='vdb' bus='virtio'/>\n"
            "</disk>\n");
  ASSERT_EQ(world_.served.size(), 1U);
  const DataPlaneDisk& disk = world_.served.at("uuid-1-vdb");
  EXPECT_EQ(disk.socket, "/run/aiolos/disks/uuid-1-vdb");
  EXPECT_EQ(disk.group, "uuid-1");
  EXPECT_EQ(disk.serial, "b5f4c4a5-6f37-4d5e-9") << "what virtio has room for";
  EXPECT_EQ(disk.aio, AioMode::native);
  EXPECT_EQ(disk.queues, 4U);
  EXPECT_TRUE(disk.direct);
  EXPECT_FALSE(disk.read_only);
}

TEST_F(DataPlaneFlows, WhoDoesTheIoIsSaidByDiskThenByStorageThenForAll) {
  open("data_plane: {default: qemu, storage: {scripted: engine}}");
  ASSERT_TRUE(attach());
  EXPECT_EQ(world_.served.size(), 1U);
  ASSERT_TRUE(attach({{"dev", "vdc"}, {"data_plane", "qemu"}}, {{"path", "/images/other"}}));
  EXPECT_EQ(world_.served.size(), 1U);
  open("data_plane: {default: engine, storage: {scripted: qemu}}");
  ASSERT_TRUE(attach({{"dev", "vdd"}}, {{"path", "/images/third"}}));
  EXPECT_EQ(world_.served.size(), 1U);
  const auto unknown = attach({{"dev", "vde"}, {"data_plane", "dpdk"}});
  EXPECT_EQ(unknown.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(unknown.error().where, "disk_info/data_plane");
}

TEST_F(DataPlaneFlows, ExplainSaysWhoWillDoTheIo) {
  const Json info = {{"driver_volume_type", "scripted"}, {"data", {{"path", "/images/vol"}}}};
  const auto explained = agent_->explain(info, {{"bus", "virtio"}, {"dev", "vdb"}});
  ASSERT_TRUE(explained);
  EXPECT_THAT(explained->notes, testing::Contains(HasSubstr("aiolos-engine does its I/O")));
  EXPECT_THAT(explained->xml, HasSubstr("type='file'"));
}

TEST_F(DataPlaneFlows, ARehearsalServesNothing) {
  const Json info = {{"driver_volume_type", "scripted"}, {"data", {{"path", "/images/vol"}}}};
  const auto rehearsed = agent_->attach("guest", info, {{"bus", "virtio"}, {"dev", "vdb"}}, /*dry_run=*/true);
  ASSERT_TRUE(rehearsed) << describe(rehearsed.error());
  EXPECT_THAT(rehearsed->xml, HasSubstr("type='vhostuser'"));
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(DataPlaneFlows, ProfileNovaDoesAsNova) {
  open("{data_plane: engine, aio: {profile: nova}}");
  ASSERT_TRUE(attach());
  EXPECT_THAT(world_.served, IsEmpty());
}

TEST_F(DataPlaneFlows, DetachWithdrawsBeforeItDisconnects) {
  ASSERT_TRUE(attach());
  world_.events.clear();
  ASSERT_TRUE(agent_->detach("guest", "vdb", false));
  EXPECT_THAT(world_.events, ElementsAre("detach vdb", "withdraw", "disconnect"));
  EXPECT_THAT(*agent_->attachments(), IsEmpty());
}

TEST_F(DataPlaneFlows, AVolumeStaysConnectedWhileTheEngineMayServeIt) {
  ASSERT_TRUE(attach());
  world_.events.clear();
  world_.data_plane_fails = Error{ErrorKind::retry, "aiolos-engine cannot be reached", "start it", {}};
  EXPECT_EQ(agent_->detach("guest", "vdb", false).error().kind, ErrorKind::retry);
  EXPECT_THAT(world_.events, ElementsAre("detach vdb", "withdraw"));
  world_.data_plane_fails.reset();
  EXPECT_TRUE(agent_->detach("guest", "vdb", false)) << "goes on where it stopped";
  EXPECT_THAT(*agent_->attachments(), IsEmpty());
}

TEST_F(DataPlaneFlows, DetachByForceDoesWithoutTheEngine) {
  ASSERT_TRUE(attach());
  world_.data_plane_fails = Error{ErrorKind::retry, "aiolos-engine cannot be reached", "start it", {}};
  EXPECT_TRUE(agent_->detach("guest", "vdb", true));
  EXPECT_THAT(*agent_->attachments(), IsEmpty());
}

TEST_F(DataPlaneFlows, FailedServeLeavesNothing) {
  world_.data_plane_fails = Error{ErrorKind::retry, "aiolos-engine cannot be reached", "start it", {}};
  world_.on_event = [&](const std::string& event) {
    if (event == "withdraw") world_.data_plane_fails.reset();
  };
  const auto result = attach();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "aiolos-engine cannot be reached");
  EXPECT_THAT(world_.events, ElementsAre("connect", "serve /images/vol", "withdraw", "disconnect"));
  EXPECT_THAT(*agent_->attachments(), IsEmpty());
}

TEST_F(DataPlaneFlows, FailedAttachIsWithdrawn) {
  world_.attach_fails = Error{ErrorKind::hypervisor, "no room", "make some", {}};
  ASSERT_FALSE(attach());
  EXPECT_THAT(world_.events, ElementsAre("connect", "serve /images/vol", "attach vdb", "withdraw", "disconnect"));
  EXPECT_THAT(world_.served, IsEmpty());
}

TEST_F(DataPlaneFlows, ReconcileWithdrawsWhatNoGuestHas) {
  ASSERT_TRUE(attach());
  world_.disks.clear();
  world_.events.clear();
  EXPECT_EQ(agent_->reconcile()->front().outcome, ReconcileEntry::Outcome::undone);
  EXPECT_THAT(world_.events, ElementsAre("release leftovers", "withdraw", "disconnect"));
}

TEST_F(DataPlaneFlows, AttachingAgainIsTheSameAnswer) {
  const auto first = attach();
  ASSERT_TRUE(first);
  world_.events.clear();
  const auto second = attach();
  ASSERT_TRUE(second) << describe(second.error());
  EXPECT_EQ(second->xml, first->xml);
  EXPECT_EQ(second->decision.mode, AioMode::native);
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(DataPlaneFlows, TheSameVolumeIsNotGivenToTheGuestTwice) {
  ASSERT_TRUE(attach());
  for (const char* const plane : {"engine", "qemu"}) {
    const auto again = attach({{"dev", "vdc"}, {"data_plane", plane}});
    ASSERT_FALSE(again);
    EXPECT_THAT(again.error().message, HasSubstr("has this volume already, as 'vdb'"));
  }
  EXPECT_EQ(world_.served.size(), 1U);
}

TEST_F(DataPlaneFlows, ExtendTellsTheEngine) {
  ASSERT_TRUE(attach());
  world_.events.clear();
  ASSERT_TRUE(agent_->extend("guest", "vdb", 1 << 30));
  EXPECT_THAT(world_.events, ElementsAre("extend", "resize /images/vol"));
}

TEST_F(DataPlaneFlows, LimitsOfAnAttachedDiskAreRefused) {
  ASSERT_TRUE(attach());
  const auto limited = agent_->set_qos("guest", "vdb", {{"total_iops_sec", 100}});
  EXPECT_EQ(limited.error().kind, ErrorKind::refused);
  EXPECT_THAT(limited.error().next, HasSubstr("data_plane"));
}

TEST_F(DataPlaneFlows, RefusesWhatTheEngineOrTheGuestCannotDo) {
  EXPECT_THAT(refusal({{"bus", "scsi"}}), HasSubstr("bus virtio, not scsi"));
  EXPECT_THAT(refusal(Json::object(), {{"format", "qcow2"}}), HasSubstr("format is qcow2"));
  EXPECT_THAT(refusal(Json::object(), {{"qos_specs", {{"total_iops_sec", 100}}}}), HasSubstr("limits"));
  world_.engines.shared_memory = false;
  EXPECT_THAT(refusal(), HasSubstr("memory of domain 'guest' is not shared"));
}

TEST_F(DataPlaneFlows, AReadOnlyVolumeIsReadOnlyInTheEngine) {
  ASSERT_TRUE(attach(Json::object(), {{"access_mode", "ro"}}));
  EXPECT_TRUE(world_.served.at("uuid-1-vdb").read_only);
}

TEST_F(DataPlaneFlows, CachesWhereTheStorageRefusesODirect) {
  world_.o_direct = false;
  ASSERT_TRUE(attach());
  EXPECT_FALSE(world_.served.at("uuid-1-vdb").direct);
}

}  // namespace
}  // namespace aiolos
