// SPDX-License-Identifier: Apache-2.0
// The flows on a machine in memory: what is done, in which order, and that a failure leaves nothing behind.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>

#include "agent_fixture.h"
#include "aiolos/disk/disk_xml.h"

namespace aiolos {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class Flows : public test::AgentFixture {
 protected:
  static Json volume(const std::string& fail = {}) {
    Json info = {{"driver_volume_type", "scripted"},
                 {"serial", "b5f4c4a5-6f37-4d5e-9a0e-0a4a2b1c3d4e"},
                 {"data", {{"path", "/images/vol"}, {"auth_password", "hunter2"}}}};
    if (!fail.empty()) info["data"]["fail"] = fail;
    return info;
  }
  static Json disk(const std::string& dev = "vdb") { return {{"bus", "virtio"}, {"dev", dev}, {"type", "disk"}}; }

  /// "connect done, attach intent, ...": the journal's steps, in order.
  std::vector<std::string> steps() const {
    SQLite::Database database(state_.path() + "/journal.sqlite");
    SQLite::Statement query(database, "SELECT step || ' ' || phase FROM steps ORDER BY id");
    std::vector<std::string> list;
    while (query.executeStep()) list.push_back(query.getColumn(0).getString());
    return list;
  }
  std::vector<std::string> states() const {
    SQLite::Database database(state_.path() + "/journal.sqlite");
    SQLite::Statement query(database, "SELECT state FROM attachments ORDER BY id");
    std::vector<std::string> list;
    while (query.executeStep()) list.push_back(query.getColumn(0).getString());
    return list;
  }
};

TEST_F(Flows, AttachConnectsDecidesAndAttaches) {
  const auto result = agent_->attach("guest", volume(), disk(), false);
  ASSERT_TRUE(result) << describe(result.error());
  EXPECT_EQ(result->decision.mode, AioMode::native);
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb"));
  EXPECT_THAT(result->xml, HasSubstr("io='native'"));
  EXPECT_EQ(world_.disks["vdb"], result->xml);
  EXPECT_THAT(steps(), ElementsAre("connect done", "attach done"));
  EXPECT_THAT(states(), ElementsAre("attached"));
}

TEST_F(Flows, EverySideEffectIsInTheJournalBeforeItHappens) {
  std::vector<std::string> seen;
  world_.on_event = [&](const std::string& event) { seen.push_back(event + ": " + steps().back()); };
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  ASSERT_TRUE(agent_->extend("guest", "vdb", 1 << 20));
  ASSERT_TRUE(agent_->detach("guest", "vdb", false));
  EXPECT_THAT(seen, ElementsAre("connect: connect intent", "attach vdb: attach intent", "extend: extend intent",
                                "resize vdb 1048576: resize intent", "detach vdb: detach intent",
                                "disconnect: disconnect intent"));
  EXPECT_THAT(steps(), ElementsAre("connect done", "attach done", "extend done", "resize done", "detach done",
                                   "disconnect done"));
  EXPECT_THAT(states(), ElementsAre("closed"));
}

TEST_F(Flows, JournalHoldsNoSecret) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  SQLite::Database database(state_.path() + "/journal.sqlite");
  const std::string row = database.execAndGet("SELECT connection_info FROM attachments").getString();
  EXPECT_THAT(row, Not(HasSubstr("hunter2")));
  EXPECT_THAT(row, HasSubstr("/images/vol"));
}

TEST_F(Flows, FailedConnectLeavesNothing) {
  const auto result = agent_->attach("guest", volume("connect"), disk(), false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::storage);
  EXPECT_THAT(result.error().message, HasSubstr("fail connect"));
  EXPECT_THAT(world_.events, ElementsAre("connect", "disconnect")) << "it may have been done in part";
  EXPECT_THAT(steps(), ElementsAre("connect failed", "disconnect done"));
  EXPECT_THAT(states(), ElementsAre("closed"));
}

TEST_F(Flows, FailedConnectThatCannotBeUndoneStaysInTheJournal) {
  const auto result = agent_->attach("guest", volume("connect disconnect"), disk(), false);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("fail connect"));
  EXPECT_THAT(result.error().message, HasSubstr("undoing what was done of it failed too"));
  EXPECT_THAT(result.error().next, HasSubstr("aiolos reconcile"));
  EXPECT_THAT(steps(), ElementsAre("connect failed", "disconnect failed"));
  EXPECT_THAT(states(), ElementsAre("opened"));
}

/// What reconcile makes of the one volume in the journal: "undone: the guest is gone".
std::string only_outcome(Agent& agent) {
  const auto entries = agent.reconcile();
  if (!entries) return "error: " + describe(entries.error());
  if (entries->size() != 1) return fmt::format("{} entries", entries->size());
  return fmt::format("{}: {}", to_string(entries->front().outcome), entries->front().reason);
}

TEST_F(Flows, ReconcileWithoutAJournalMakesNone) {
  EXPECT_TRUE(agent_->reconcile()->empty());
  EXPECT_FALSE(std::filesystem::exists(state_.path() + "/journal.sqlite"));
}

TEST_F(Flows, ReconcileKeepsWhatTheGuestHas) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  EXPECT_EQ(only_outcome(*agent_), "kept: attached");
  world_.running = false;
  EXPECT_EQ(only_outcome(*agent_), "kept: the guest is shut off, and its definition has the disk");
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb"));
}

TEST_F(Flows, ReconcileDisconnectsWhatNoGuestHas) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  world_.disks.clear();
  EXPECT_EQ(only_outcome(*agent_), "undone: the guest does not have the disk");
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb", "release leftovers", "disconnect"));
  EXPECT_THAT(states(), ElementsAre("closed"));
  EXPECT_TRUE(agent_->reconcile()->empty());
}

TEST_F(Flows, ReconcileDisconnectsWhatAGuestLeftBehind) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  world_.gone = true;
  EXPECT_EQ(only_outcome(*agent_), "undone: the guest is gone");
  EXPECT_THAT(states(), ElementsAre("closed"));
}

TEST_F(Flows, ReconcileLeavesWhatItCannotSettleAndSaysWhy) {
  ASSERT_TRUE(agent_->attach("guest", volume("disconnect"), disk(), false));
  world_.gone = true;
  EXPECT_EQ(only_outcome(*agent_), "left: the script says: fail disconnect");
  const auto settled = all_settled(*agent_->reconcile());
  ASSERT_FALSE(settled);
  EXPECT_EQ(settled.error().kind, ErrorKind::storage);
  EXPECT_THAT(settled.error().message, HasSubstr("1 of 1 volumes could not be settled"));
  EXPECT_THAT(settled.error().next, HasSubstr("change the script"));
}

TEST_F(Flows, ReconcileLeavesWhatAnotherHypervisorHad) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  SQLite::Database(state_.path() + "/journal.sqlite", SQLite::OPEN_READWRITE)
      .exec("UPDATE attachments SET hypervisor = 'qemu:///elsewhere'");
  const auto entries = agent_->reconcile();
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_EQ(entries->front().outcome, ReconcileEntry::Outcome::left);
  EXPECT_THAT(entries->front().error->next, HasSubstr("--uri 'qemu:///elsewhere'"));
}

TEST_F(Flows, ReconcileLeavesWhatIsBeingWorkedOn) {
  std::string seen;
  world_.on_event = [&](const std::string& event) {
    if (event == "attach vdb") seen = only_outcome(*agent_);
  };
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  EXPECT_THAT(seen, HasSubstr("left: 'uuid-1:vdb' is being worked on"));
}

TEST_F(Flows, LimitsAreReplacedAndRemembered) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  ASSERT_TRUE(agent_->set_qos("guest", "vdb", {{"read_iops_sec", "500"}, {"write_bytes_sec", 1 << 20}}));
  ASSERT_TRUE(agent_->set_qos("guest", "vdb", {{"total_iops_sec", 100}, {"group_name", "gold"}}));
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb", "limit vdb read_iops_sec=500 write_bytes_sec=1048576",
                                         "limit vdb total_iops_sec=100 in gold"));
  const auto again = agent_->attach("guest", volume(), disk(), false);
  ASSERT_TRUE(again) << describe(again.error());
  EXPECT_THAT(again->xml, HasSubstr("<total_iops_sec>100</total_iops_sec>"));
  EXPECT_THAT(again->xml, HasSubstr("<group_name>gold</group_name>"));
  EXPECT_THAT(again->xml, Not(HasSubstr("read_iops_sec")));
  EXPECT_THAT(steps(), ElementsAre("connect done", "attach done", "limit done", "limit done"));
}

TEST_F(Flows, NoLimitsAtAll) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  ASSERT_TRUE(agent_->set_qos("guest", "vdb", {{"total_iops_sec", 100}}));
  ASSERT_TRUE(agent_->set_qos("guest", "vdb", Json::object()));
  EXPECT_EQ(world_.events.back(), "limit vdb");
  EXPECT_THAT(agent_->attach("guest", volume(), disk(), false)->xml, Not(HasSubstr("iotune")));
}

TEST_F(Flows, UnknownLimitsChangeNothing) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  const auto misspelt = agent_->set_qos("guest", "vdb", {{"read_iop_sec", 1}});
  ASSERT_FALSE(misspelt);
  EXPECT_EQ(misspelt.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(misspelt.error().where, "/read_iop_sec");
  EXPECT_THAT(misspelt.error().next, HasSubstr("read_iops_sec"));
  EXPECT_EQ(agent_->set_qos("guest", "vdb", {{"read_iops_sec", "many"}}).error().where, "/read_iops_sec");
  EXPECT_EQ(agent_->set_qos("guest", "vdc", Json::object()).error().kind, ErrorKind::bad_input);
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb"));
}

TEST_F(Flows, VolumeOfAnotherGuestIsRefusedUnlessBothShareIt) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  SQLite::Database(state_.path() + "/journal.sqlite", SQLite::OPEN_READWRITE)
      .exec("UPDATE attachments SET domain_uuid = 'uuid-2', domain_name = 'other'");
  world_.disks.clear();
  const auto refused = agent_->attach("guest", volume(), disk(), false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::refused);
  EXPECT_THAT(refused.error().message, HasSubstr("of domain 'other'"));
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb"));
  EXPECT_THAT(states(), ElementsAre("attached"));

  Json shared = volume();
  shared["multiattach"] = true;
  EXPECT_FALSE(agent_->attach("guest", shared, disk(), false)) << "only one of the two says so";
}

/// A moment at which a crash would leave a state of its own.
struct Moment {
  std::string when;
  std::map<std::string, std::string> disks;      ///< What the guest had then.
  std::unique_ptr<test::TemporaryFolder> state;  ///< A copy of the journal's folder.
};

class Crashes : public Flows {
 protected:
  std::vector<Moment> moments_of(const std::function<void()>& flow) {
    std::vector<Moment> moments;
    const auto remember = [&](const std::string& when) {
      Moment moment{when, world_.disks, std::make_unique<test::TemporaryFolder>()};
      std::filesystem::copy(state_.path(), moment.state->path(), std::filesystem::copy_options::recursive);
      moments.push_back(std::move(moment));
    };
    world_.on_event = [&](const std::string& event) { remember("before " + event); };
    world_.after_attach = [&] { remember("after attach"); };
    flow();
    world_.on_event = [](const std::string&) {};
    world_.after_attach = [] {};
    return moments;
  }

  /// What reconcile makes of it, and how the world stands afterwards.
  std::string reconciled(const Moment& moment) {
    world_.disks = moment.disks;
    world_.events.clear();
    std::filesystem::remove_all(state_.path());
    std::filesystem::copy(moment.state->path(), state_.path(), std::filesystem::copy_options::recursive);
    open({});
    const std::string outcome = only_outcome(*agent_);
    return fmt::format("{}: {} [{}] {} disks, {}", moment.when, outcome, fmt::join(world_.events, ", "),
                       world_.disks.size(), states().back());
  }
};

TEST_F(Crashes, ReconcileFinishesOrUndoesWhatEachLeft) {
  const auto moments = moments_of([&] {
    ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
    ASSERT_TRUE(agent_->detach("guest", "vdb", false));
  });
  std::vector<std::string> outcomes;
  for (const Moment& moment : moments) outcomes.push_back(reconciled(moment));
  EXPECT_THAT(
      outcomes,
      ElementsAre(
          "before connect: undone: the guest does not have the disk [disconnect] 0 disks, closed",
          "before attach vdb: undone: the guest does not have the disk [release leftovers, disconnect] 0 disks, closed",
          "after attach: finished: its attach was interrupted after the guest had the disk [] 1 disks, attached",
          "before detach vdb: finished: its detach was interrupted [detach vdb, disconnect] 0 disks, closed",
          "before disconnect: undone: the guest does not have the disk [release leftovers, disconnect] 0 disks, "
          "closed"));
}

TEST_F(Crashes, InterruptedLimitsAreToldAndTheDiskIsKept) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  const auto moments = moments_of([&] { ASSERT_TRUE(agent_->set_qos("guest", "vdb", {{"total_iops_sec", 100}})); });
  ASSERT_EQ(moments.size(), 1u);
  EXPECT_EQ(
      reconciled(moments.front()),
      "before limit vdb total_iops_sec=100: kept: attached; a change of its I/O limits was interrupted: run it again "
      "[] 1 disks, attached");
}

TEST_F(Crashes, AnAdoptedAttachHasNothingUnfinished) {
  const auto moments = moments_of([&] { ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false)); });
  ASSERT_EQ(moments.back().when, "after attach");
  reconciled(moments.back());
  ASSERT_EQ(agent_->attachments()->size(), 1u);
  EXPECT_TRUE(agent_->attachments()->front().unfinished.empty());
}

TEST_F(Flows, AnotherVolumeIsNeverAttached) {
  const auto result = agent_->attach("guest", volume("verify"), disk(), false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::refused);
  EXPECT_THAT(world_.events, ElementsAre("connect", "disconnect"));
  EXPECT_THAT(world_.disks, IsEmpty());
}

TEST_F(Flows, VolumeThatBecameAnotherIsDetachedByForceOnly) {
  ASSERT_TRUE(agent_->attach("guest", volume("verify later"), disk(), false));
  const auto refused = agent_->detach("guest", "vdb", false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::refused);
  EXPECT_THAT(refused.error().next, HasSubstr("--force"));
  EXPECT_EQ(agent_->extend("guest", "vdb", 4096).error().kind, ErrorKind::refused);
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb"));
  EXPECT_TRUE(agent_->detach("guest", "vdb", true));
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb", "detach vdb", "disconnect-by-force"));
}

TEST_F(Flows, FailedAttachIsUndone) {
  world_.attach_fails = Error{ErrorKind::hypervisor, "libvirt says no", "ask libvirt", {}};
  const auto result = agent_->attach("guest", volume(), disk(), false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "libvirt says no");
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb", "disconnect"));
  EXPECT_THAT(steps(), ElementsAre("connect done", "attach failed", "disconnect done"));
  EXPECT_THAT(states(), ElementsAre("closed"));
}

TEST_F(Flows, FailedProbeIsUndone) {
  world_.probe_fails = Error{ErrorKind::storage, "I/O error", "look at the disk", {}};
  EXPECT_FALSE(agent_->attach("guest", volume(), disk(), false));
  EXPECT_THAT(world_.events, ElementsAre("connect", "disconnect"));
  EXPECT_THAT(states(), ElementsAre("closed"));
}

TEST_F(Flows, FailedUndoingIsReportedAndRemembered) {
  world_.attach_fails = Error{ErrorKind::hypervisor, "libvirt says no", "ask libvirt", {}};
  const auto result = agent_->attach("guest", volume("disconnect"), disk(), false);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("libvirt says no; disconnecting the volume again failed too"));
  EXPECT_THAT(steps(), ElementsAre("connect done", "attach failed", "disconnect failed"));
  EXPECT_THAT(states(), ElementsAre("connected"));
}

TEST_F(Flows, AttachingAgainGivesTheSameAnswer) {
  const auto first = agent_->attach("guest", volume(), disk(), false);
  const auto second = agent_->attach("guest", volume(), disk(), false);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->xml, second->xml);
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb"));
}

TEST_F(Flows, AttachingAgainTellsWhatTheDiskHasAndNotWhatItWouldGet) {
  world_.allocation = Allocation::sparse;
  const auto first = agent_->attach("guest", volume(), disk(), false);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->decision.mode, AioMode::threads);
  world_.allocation = Allocation::full;
  const auto second = agent_->attach("guest", volume(), disk(), false);
  ASSERT_TRUE(second) << describe(second.error());
  EXPECT_EQ(second->decision.mode, AioMode::threads);
  EXPECT_EQ(second->xml, first->xml);
  EXPECT_THAT(second->notes.front(), HasSubstr("with today's facts the mode would be native"));
}

TEST_F(Flows, AttachingAgainWithAnotherDiskInfoIsRefused) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  Json scsi = disk();
  scsi["bus"] = "scsi";
  const auto second = agent_->attach("guest", volume(), scsi, false);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::refused);
}

TEST_F(Flows, VolumeStaysConnectedWhileTheGuestMayHaveTheDisk) {
  world_.attach_fails = Error{ErrorKind::retry, "libvirt went away", "look", {}};
  world_.failed_attach_is_gone = false;
  const auto result = agent_->attach("guest", volume(), disk(), false);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("the volume stays connected"));
  EXPECT_THAT(result.error().next, HasSubstr("aiolos detach --domain guest --target vdb"));
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb"));
  EXPECT_THAT(states(), ElementsAre("connected"));
  world_.events.clear();
  world_.leftovers_stay = Error{ErrorKind::retry, "QEMU holds the image", "try again", {}};
  EXPECT_FALSE(agent_->detach("guest", "vdb", false));
  EXPECT_THAT(world_.events, ElementsAre("release leftovers"));
  world_.leftovers_stay.reset();
  EXPECT_TRUE(agent_->detach("guest", "vdb", false));
  EXPECT_THAT(world_.events, ElementsAre("release leftovers", "release leftovers", "disconnect"));
}

TEST_F(Flows, ReconcileKeepsADiskThatTheGuestIsGivenMeanwhile) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  const std::string given = world_.disks.at("vdb");
  ASSERT_TRUE(agent_->detach("guest", "vdb", false));
  world_.attach_fails = Error{ErrorKind::retry, "libvirt went away", "look", {}};
  world_.failed_attach_is_gone = false;
  ASSERT_FALSE(agent_->attach("guest", volume(), disk(), false));
  world_.leftovers_stay = Error{ErrorKind::retry, "the guest was given it meanwhile", "try again", {}};
  world_.while_releasing = [&] { world_.disks["vdb"] = given; };
  const auto entries = agent_->reconcile();
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_EQ(entries->front().outcome, ReconcileEntry::Outcome::finished) << entries->front().reason;
  EXPECT_THAT(states(), ElementsAre("closed", "attached"));
}

TEST_F(Flows, DiskThatCannotBeTakenBackKeepsItsVolume) {
  world_.after_attach = [this] {
    SQLite::Database(state_.path() + "/journal.sqlite", SQLite::OPEN_READWRITE)
        .exec("CREATE TRIGGER full BEFORE UPDATE ON steps BEGIN SELECT RAISE(FAIL, 'disk full'); END");
  };
  world_.detach_fails = Error{ErrorKind::retry, "the guest keeps it", "try again", {}};
  const auto result = agent_->attach("guest", volume(), disk(), false);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("disk full"));
  EXPECT_THAT(result.error().message, HasSubstr("the volume stays connected"));
  EXPECT_THAT(world_.events, ElementsAre("connect", "attach vdb", "detach vdb"));
}

TEST_F(Flows, InterruptedAttachIsBegunAgain) {
  world_.attach_fails = Error{ErrorKind::retry, "killed", "", {}};
  world_.failed_attach_is_gone = false;
  EXPECT_FALSE(agent_->attach("guest", volume(), disk(), false));
  world_.attach_fails.reset();
  world_.events.clear();
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  EXPECT_THAT(world_.events, ElementsAre("release leftovers", "disconnect", "connect", "attach vdb"));
  EXPECT_THAT(states(), ElementsAre("closed", "attached"));
}

TEST_F(Flows, AttachThatOnlyTheJournalDidNotHearOfIsAdopted) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  SQLite::Database(state_.path() + "/journal.sqlite", SQLite::OPEN_READWRITE)
      .exec("UPDATE attachments SET state = 'connected'");
  world_.events.clear();
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  EXPECT_THAT(world_.events, IsEmpty());
  EXPECT_THAT(states(), ElementsAre("attached"));
}

TEST_F(Flows, ForeignDiskOnAnInterruptedTargetIsNotAdopted) {
  world_.attach_fails = Error{ErrorKind::retry, "killed", "", {}};
  world_.failed_attach_is_gone = false;
  EXPECT_FALSE(agent_->attach("guest", volume(), disk(), false));
  world_.disks["vdb"] = "<disk type='file'><source file='/other'/><target dev='vdb' bus='virtio'/></disk>";
  const auto result = agent_->attach("guest", volume(), disk(), false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::refused);
  EXPECT_THAT(states(), ElementsAre("connected"));
}

TEST_F(Flows, ForeignDiskOnAnInterruptedTargetIsNotDetached) {
  world_.attach_fails = Error{ErrorKind::retry, "killed", "", {}};
  world_.failed_attach_is_gone = false;
  EXPECT_FALSE(agent_->attach("guest", volume(), disk(), false));
  world_.disks["vdb"] = "<disk type='file'><source file='/other'/><target dev='vdb' bus='virtio'/></disk>";
  world_.events.clear();
  const auto result = agent_->detach("guest", "vdb", false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::refused);
  EXPECT_THAT(world_.events, ElementsAre("release leftovers", "disconnect")) << "ours is cleaned up all the same";
  EXPECT_TRUE(world_.disks.contains("vdb"));
}

TEST_F(Flows, AnotherHypervisorCannotSayThatAGuestIsGone) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  world_.events.clear();
  world_.gone = true;
  open("libvirt: {uri: \"qemu:///system\"}");
  const auto result = agent_->detach("guest", "vdb", false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::refused);
  EXPECT_THAT(result.error().next, HasSubstr("--uri 'qemu:///embed?root="));
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(Flows, StorageWithoutODirectGetsAPageCache) {
  world_.o_direct = false;
  const auto result = agent_->explain(volume(), disk());
  ASSERT_TRUE(result) << describe(result.error());
  EXPECT_THAT(result->xml, HasSubstr("cache='writeback'"));
  EXPECT_EQ(result->decision.mode, AioMode::threads);
  open("disk_cachemodes: {file: none}");
  const auto refused = agent_->explain(volume(), disk());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::refused);
  EXPECT_THAT(refused.error().next, HasSubstr("disk_cachemodes: {file: writeback}"));
}

TEST_F(Flows, TakenTargetIsRefusedBeforeAnythingIsConnected) {
  world_.disks["vdb"] = "<disk type='file'><source file='/other'/><target dev='vdb' bus='virtio'/></disk>";
  const auto result = agent_->attach("guest", volume(), disk(), false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::refused);
  EXPECT_THAT(result.error().next, HasSubstr("'vda' is free"));
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(Flows, ImageThatTheGuestHasAlreadyIsRefused) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk("vdb"), false));
  const auto result = agent_->attach("guest", volume(), disk("vdc"), false);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("has this volume already, as 'vdb'"));
  EXPECT_EQ(world_.disks.size(), 1u);
}

TEST_F(Flows, OtherVolumeOnAHeldTargetIsRefused) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  Json other = volume();
  other["data"]["path"] = "/images/other";
  const auto result = agent_->attach("guest", other, disk(), false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::refused);
  EXPECT_THAT(result.error().next, HasSubstr("aiolos detach --domain guest --target vdb"));
}

TEST_F(Flows, DryRunChangesNothing) {
  const auto result = agent_->attach("guest", volume(), disk(), true);
  ASSERT_TRUE(result) << describe(result.error());
  EXPECT_EQ(result->decision.mode, AioMode::native);
  EXPECT_THAT(world_.events, IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(state_.path() + "/journal.sqlite"));
}

TEST_F(Flows, DomainThatDoesNotRunIsRefused) {
  world_.running = false;
  EXPECT_EQ(agent_->attach("guest", volume(), disk(), false).error().kind, ErrorKind::refused);
  EXPECT_EQ(agent_->attach("nobody", volume(), disk(), false).error().kind, ErrorKind::bad_input);
}

TEST_F(Flows, MultiattachNeedsTheDriversPromise) {
  Json shared = volume();
  shared["multiattach"] = true;
  const auto result = agent_->attach("guest", shared, disk(), false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().where, "/multiattach");
}

TEST_F(Flows, SparseImageGetsThreads) {
  world_.allocation = Allocation::sparse;
  const auto result = agent_->explain(volume(), disk());
  ASSERT_TRUE(result) << describe(result.error());
  EXPECT_EQ(result->decision.mode, AioMode::threads);
  EXPECT_THAT(result->xml, HasSubstr("io='threads'"));
  EXPECT_THAT(world_.events, IsEmpty());
}

TEST_F(Flows, ExplainWorksWithoutTheHypervisor) {
  world_.hypervisor_fails = Error{ErrorKind::retry, "libvirt is not there", "start it", {}};
  const auto result = agent_->explain(volume(), disk());
  ASSERT_TRUE(result) << describe(result.error());
  EXPECT_EQ(result->decision.mode, AioMode::native);
  EXPECT_THAT(result->notes, ElementsAre("QEMU's abilities are not known: libvirt is not there"));
}

TEST_F(Flows, BudgetCountsTheGuestsOwnContext) {
  world_.host.aio_nr = world_.host.aio_max_nr;
  EXPECT_EQ(agent_->attach("guest", volume(), disk(), true)->decision.mode, AioMode::io_uring);
  world_.disks["vda"] =
      "<disk type='file'><driver name='qemu' io='native'/><source file='/a'/><target dev='vda' bus='virtio'/></disk>";
  EXPECT_EQ(agent_->attach("guest", volume(), disk(), true)->decision.mode, AioMode::native);
}

TEST_F(Flows, DiskXmlTouchesNothing) {
  world_.probe_fails = Error{ErrorKind::bug, "probed", "", {}};
  const auto xml = agent_->disk_xml(volume(), disk());
  ASSERT_TRUE(xml) << describe(xml.error());
  EXPECT_THAT(*xml, HasSubstr("io='threads'")) << "an allocation that was not probed is not known";
  EXPECT_THAT(world_.events, IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(state_.path() + "/journal.sqlite"));
}

TEST_F(Flows, PreferringIoUringAsksTheHost) {
  open("aio: {prefer: io_uring}");
  EXPECT_THAT(*agent_->disk_xml(volume(), disk()), HasSubstr("io='io_uring'"));
  world_.host.qemu_has_io_uring = false;
  EXPECT_THAT(*agent_->disk_xml(volume(), disk()), HasSubstr("io='threads'"));
}

TEST_F(Flows, EncryptedVolumeNeedsItsSecret) {
  Json encrypted = volume();
  encrypted["data"]["encrypted"] = true;
  const auto missing = agent_->disk_xml(encrypted, disk());
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().next, HasSubstr("<volume>b5f4c4a5-6f37-4d5e-9a0e-0a4a2b1c3d4e</volume>"));
  world_.secrets["b5f4c4a5-6f37-4d5e-9a0e-0a4a2b1c3d4e"] = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f";
  EXPECT_THAT(*agent_->disk_xml(encrypted, disk()), HasSubstr("uuid='0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f'"));
}

TEST_F(Flows, BatchListsTheSecretsOnce) {
  const auto encrypted = [](int number) {
    Json info = volume();
    info["data"]["encrypted"] = true;
    info["data"]["volume_id"] = fmt::format("volume-{}", number);
    return info;
  };
  for (int i = 0; i < 10; ++i) world_.secrets[fmt::format("volume-{}", i)] = fmt::format("uuid-{}", i);
  const auto batch = agent_->disk_xml_batch();
  for (int i = 0; i < 11; ++i) {
    std::string out = "before ";
    const auto done = batch->append_json(JsonDocument(encrypted(i)).root(), JsonDocument(disk()).root(), out);
    ASSERT_EQ(done.has_value(), i < 10);
    if (done)
      EXPECT_THAT(out, HasSubstr(fmt::format("uuid='uuid-{}'", i)));
    else
      EXPECT_EQ(out, "before ");
  }
  EXPECT_THAT(world_.events, ElementsAre("list secrets"));
}

TEST_F(Flows, DetachTakesTheDiskThenTheVolume) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  world_.events.clear();
  ASSERT_TRUE(agent_->detach("guest", "vdb", false));
  EXPECT_THAT(world_.events, ElementsAre("detach vdb", "disconnect"));
  EXPECT_TRUE(world_.disks.empty());
  EXPECT_TRUE(agent_->detach("guest", "vdb", false)) << "detaching what is gone is success";
  EXPECT_THAT(world_.events, ElementsAre("detach vdb", "disconnect"));
}

TEST_F(Flows, GuestThatKeepsTheDiskKeepsTheVolumeConnected) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  world_.events.clear();
  world_.detach_fails = Error{ErrorKind::retry, "the guest did not release the disk", "try again", {}};
  const auto result = agent_->detach("guest", "vdb", false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::retry);
  EXPECT_THAT(world_.events, ElementsAre("detach vdb"));
  EXPECT_THAT(states(), ElementsAre("attached"));
  const auto again = agent_->attach("guest", volume(), disk(), false);
  ASSERT_FALSE(again) << "the guest may give the disk up any time";
  EXPECT_EQ(again.error().kind, ErrorKind::retry);
  world_.detach_fails.reset();
  EXPECT_TRUE(agent_->detach("guest", "vdb", false));
  EXPECT_TRUE(agent_->attach("guest", volume(), disk(), false));
}

TEST_F(Flows, AttachmentsAreListed) {
  EXPECT_THAT(*agent_->attachments(), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(state_.path() + "/journal.sqlite")) << "looking makes none";
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  auto list = *agent_->attachments();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].domain, "guest");
  EXPECT_EQ(list[0].target, "vdb");
  EXPECT_EQ(list[0].state, "attached");
  EXPECT_THAT(list[0].unfinished, IsEmpty());
  world_.detach_fails = Error{ErrorKind::retry, "the guest did not release the disk", "try again", {}};
  EXPECT_FALSE(agent_->detach("guest", "vdb", false));
  list = *agent_->attachments();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_THAT(list[0].unfinished, ElementsAre("detach"));
  world_.detach_fails.reset();
  EXPECT_TRUE(agent_->detach("guest", "vdb", false));
  EXPECT_THAT(*agent_->attachments(), IsEmpty());
}

TEST_F(Flows, DiskThatVanishedByItselfIsStillDisconnected) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  world_.events.clear();
  world_.disks.clear();
  ASSERT_TRUE(agent_->detach("guest", "vdb", false));
  EXPECT_THAT(world_.events, ElementsAre("release leftovers", "disconnect"));
}

TEST_F(Flows, VolumeOfAGuestThatIsGoneIsDisconnected) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  world_.events.clear();
  world_.gone = true;
  EXPECT_EQ(agent_->detach("guest", "vdc", false).error().kind, ErrorKind::bad_input);
  ASSERT_TRUE(agent_->detach("guest", "vdb", false));
  EXPECT_THAT(world_.events, ElementsAre("disconnect"));
  EXPECT_THAT(states(), ElementsAre("closed"));
  EXPECT_EQ(agent_->detach("guest", "vdb", false).error().kind, ErrorKind::bad_input);
}

TEST_F(Flows, ForceReachesTheDriver) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  world_.events.clear();
  ASSERT_TRUE(agent_->detach("guest", "vdb", true));
  EXPECT_THAT(world_.events, ElementsAre("detach vdb", "disconnect-by-force"));
}

TEST_F(Flows, ForeignDiskIsOnlyDetachedByForce) {
  world_.disks["vda"] = "<disk type='file'><source file='/root'/><target dev='vda' bus='virtio'/></disk>";
  const auto refused = agent_->detach("guest", "vda", false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::refused);
  EXPECT_THAT(world_.events, IsEmpty());
  EXPECT_TRUE(agent_->detach("guest", "vda", true));
  EXPECT_THAT(world_.events, ElementsAre("detach vda"));
}

TEST_F(Flows, UnknownTargetNamesTheDisksThereAre) {
  world_.disks["vda"] = "<disk type='file'><source file='/root'/><target dev='vda' bus='virtio'/></disk>";
  const auto result = agent_->detach("guest", "vdq", false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(result.error().next, "its disks: vda");
}

TEST_F(Flows, ExtendGrowsTheStorageThenTellsTheGuest) {
  ASSERT_TRUE(agent_->attach("guest", volume(), disk(), false));
  world_.events.clear();
  EXPECT_EQ(agent_->extend("guest", "vdb", 4096).value(), 4096u);
  EXPECT_THAT(world_.events, ElementsAre("extend", "resize vdb 4096"));
}

TEST_F(Flows, ExtendRefusesNonsense) {
  EXPECT_EQ(agent_->extend("guest", "vdb", 1000).error().kind, ErrorKind::bad_input);
  EXPECT_EQ(agent_->extend("guest", "vdb", 0).error().kind, ErrorKind::bad_input);
  EXPECT_EQ(agent_->extend("guest", "vdb", 4096).error().kind, ErrorKind::bad_input);
}

TEST_F(Flows, FailedExtendDoesNotTellTheGuest) {
  ASSERT_TRUE(agent_->attach("guest", volume("extend"), disk(), false));
  world_.events.clear();
  EXPECT_FALSE(agent_->extend("guest", "vdb", 4096));
  EXPECT_THAT(world_.events, ElementsAre("extend"));
  EXPECT_THAT(states(), ElementsAre("attached"));
}

TEST_F(Flows, UnknownTypeNamesTheNearest) {
  Json wrong = volume();
  wrong["driver_volume_type"] = "scriptd";
  const auto result = agent_->disk_xml(wrong, disk());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::bad_input);
  EXPECT_THAT(result.error().message + result.error().next, HasSubstr("scripted"));
}

TEST_F(Flows, DiskThatLibvirtWouldRefuseIsRefusedBefore) {
  Json small = volume();
  small["data"]["logical_block_size"] = 500;
  const auto result = agent_->attach("guest", small, disk(), false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::bad_input);
  EXPECT_THAT(result.error().message, HasSubstr("500"));
  EXPECT_TRUE(world_.disks.empty());
  EXPECT_THAT(states(), ElementsAre("closed"));
}

/// The error of opening with a configuration that has a mistake.
class FlowsConfiguration : public Flows,
                           public ::testing::WithParamInterface<std::tuple<const char*, const char*, const char*>> {};

TEST_P(FlowsConfiguration, MistakeIsRefusedWithItsLine) {
  const auto& [yaml, where, says] = GetParam();
  auto config = parse_config(yaml, "test.yaml");
  ASSERT_TRUE(config) << describe(config.error());
  config->plugins.path = {TEST_PLUGINS};
  Agent::Options options;
  options.config = std::move(*config);
  options.machine = std::make_unique<test::FakeMachine>(world_);
  const auto agent = Agent::open(std::move(options));
  ASSERT_FALSE(agent);
  EXPECT_EQ(agent.error().kind, ErrorKind::configuration);
  EXPECT_EQ(agent.error().where, where);
  EXPECT_THAT(agent.error().message + " " + agent.error().next, HasSubstr(says));
}

INSTANTIATE_TEST_SUITE_P(Mistakes, FlowsConfiguration,
                         ::testing::Values(std::tuple("scriptet: {word: x}\n", "test.yaml:1:1", "'scripted'"),
                                           std::tuple("aio: {}\nscripted:\n  wort: x\n", "test.yaml:3:3",
                                                      "did you mean 'word'?"),
                                           std::tuple("scripted:\n  word: 5\n", "test.yaml:2:3", "must be a string")));

}  // namespace
}  // namespace aiolos
