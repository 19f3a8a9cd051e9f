// SPDX-License-Identifier: Apache-2.0
// The iSCSI driver's parts: portals, sessions in sysfs, open-iscsi's records, and asking portals.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <iterator>
#include <thread>

#include "connection.h"
#include "database_lock.h"
#include "iscsiadm.h"
#include "portal_probe.h"
#include "record.h"
#include "session.h"
#include "temporary_tree.h"

namespace aiolos::iscsi {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kIqn = "iqn.2026-01.example:t";
const TargetPortal kPeer{{"10.0.0.1", 3260}, kIqn};

TEST(IscsiPortal, IsReadAndWritten) {
  const struct {
    const char* text;
    Portal portal;
    const char* written;
  } table[] = {
      {"10.0.0.1:3260", {"10.0.0.1", 3260}, "10.0.0.1:3260"},
      {"10.0.0.1:860,1", {"10.0.0.1", 860}, "10.0.0.1:860"},
      {"storage.example", {"storage.example", 3260}, "storage.example:3260"},
      {"[fd00::1]:3261", {"fd00::1", 3261}, "[fd00::1]:3261"},
      {"fd00::1", {"fd00::1", 3260}, "[fd00::1]:3260"},
  };
  for (const auto& row : table) {
    SCOPED_TRACE(row.text);
    const auto portal = parse_portal(row.text);
    ASSERT_TRUE(portal.has_value());
    EXPECT_EQ(*portal, row.portal);
    EXPECT_EQ(to_string(*portal), row.written);
  }
  for (const char* wrong : {"", ":3260", "10.0.0.1:", "10.0.0.1:x", "10.0.0.1:0", "10.0.0.1:65536", "[fd00::1", "a/b:1",
                            "../x", "-p:1", "a b:1"})
    EXPECT_FALSE(parse_portal(wrong).has_value()) << wrong;
}

TEST(IscsiPaths, GoThroughTheJournal) {
  const std::vector<LunPath> paths{{kPeer, 3}, {{{"fd00::1", 3260}, kIqn}, 16640}};
  EXPECT_EQ(paths_from_json(to_json(paths)).value(), paths);
}

// --- sessions ---

class IscsiSessions : public testing::Test {
 protected:
  IscsiSessions() : sysfs_(tree_.root()) {}

  void session(int number, int host, const std::string& address, const std::string& iface, const std::string& state) {
    const std::string name = "session" + std::to_string(number);
    const std::string connection = "connection" + std::to_string(number) + ":0";
    const std::string device = "devices/platform/host" + std::to_string(host) + "/" + name;
    const std::string session = device + "/iscsi_session/" + name;
    tree_.file(session + "/targetname", std::string(kIqn) + "\n");
    tree_.file(session + "/state", state + "\n");
    tree_.file(session + "/ifacename", iface + "\n");
    tree_.file(session + "/target_id", "0\n");
    tree_.link(session + "/device", device);
    tree_.file(device + "/" + connection + "/iscsi_connection/" + connection + "/persistent_address", address + "\n");
    tree_.file(device + "/" + connection + "/iscsi_connection/" + connection + "/persistent_port", "3260\n");
    tree_.link("class/iscsi_session/" + name, session);
  }

  test::TemporaryTree tree_;
  scsi::Sysfs sysfs_;
};

TEST_F(IscsiSessions, IsFoundByTargetAndPortal) {
  session(1, 4, "10.0.0.2", "default", "FAILED");
  session(2, 7, "10.0.0.1", "default", "LOGGED_IN");
  const auto found = find_session(sysfs_, kPeer, "default");
  ASSERT_TRUE(found.has_value());
  EXPECT_TRUE(found->logged_in());
  EXPECT_EQ(address_of(*found, 3), (scsi::Address{7, 0, 0, 3}));
  EXPECT_EQ(find_session(sysfs_, {{"10.0.0.2", 3260}, kIqn}, "default")->state, "FAILED");
  EXPECT_FALSE(find_session(sysfs_, {{"10.0.0.1", 860}, kIqn}, "default").has_value());
  EXPECT_FALSE(find_session(sysfs_, {{"10.0.0.1", 3260}, "iqn.other"}, "default").has_value());
}

TEST_F(IscsiSessions, OwnInterfaceComesFirst) {
  session(1, 4, "10.0.0.1", "eth1", "LOGGED_IN");
  session(2, 5, "10.0.0.1", "eth2", "LOGGED_IN");
  EXPECT_EQ(find_session(sysfs_, kPeer, "eth2")->host, 5u);
  EXPECT_EQ(find_session(sysfs_, kPeer, "eth1")->host, 4u);
  EXPECT_TRUE(find_session(sysfs_, kPeer, "default").has_value());
}

TEST_F(IscsiSessions, OtherLunsAreSeen) {
  session(1, 4, "10.0.0.1", "default", "LOGGED_IN");
  const Session found = *find_session(sysfs_, kPeer, "default");
  tree_.folder("class/scsi_device/4:0:0:3");
  EXPECT_FALSE(has_other_luns(sysfs_, found, 3));
  tree_.folder("class/scsi_device/4:0:0:0");
  EXPECT_TRUE(has_other_luns(sysfs_, found, 3));
}

TEST_F(IscsiSessions, OneThatIsGoingIsNone) {
  tree_.folder("class/iscsi_session/session1");
  EXPECT_THAT(list_sessions(sysfs_), IsEmpty());
}

// --- records ---

constexpr const char* kRecord =
    "# BEGIN RECORD 2.1.8\nnode.name = iqn.x\nnode.session.auth.authmethod = None\nnode.session.scan = auto\n"
    "# END RECORD\n";

TEST(IscsiRecord, SettingsReplaceAddAndTakeAway) {
  EXPECT_EQ(with_settings(kRecord, {{"node.session.scan", "manual"},
                                    {"node.session.auth.authmethod", std::nullopt},
                                    {"node.session.auth.username", "u"}}),
            "# BEGIN RECORD 2.1.8\nnode.name = iqn.x\nnode.session.scan = manual\nnode.session.auth.username = u\n"
            "# END RECORD\n");
}

TEST(IscsiRecord, WithoutChapLeavesNoNameOfAnEarlierOne) {
  const std::string with = with_settings(kRecord, node_settings(Chap{"user", Secret("secret")}));
  EXPECT_THAT(with, testing::HasSubstr("\nnode.session.auth.authmethod = CHAP\n"));
  EXPECT_THAT(with, testing::HasSubstr("\nnode.session.auth.password = secret\n"));
  const std::string without = with_settings(with, node_settings(std::nullopt));
  EXPECT_THAT(without, testing::HasSubstr("\nnode.session.auth.authmethod = None\n"));
  EXPECT_THAT(without, testing::Not(testing::HasSubstr("secret")));
}

class IscsiDatabase : public testing::Test {
 protected:
  IscsiDatabase() : database_({tree_.path("etc"), tree_.path("var")}) {}
  test::TemporaryTree tree_;
  Database database_;
};

TEST_F(IscsiDatabase, FindsRecordsOfBothForms) {
  EXPECT_FALSE(database_.node_record(kPeer, "default").has_value());
  tree_.file(std::string("etc/nodes/") + kIqn + "/10.0.0.1,3260", kRecord);
  EXPECT_EQ(database_.node_record(kPeer, "default"), tree_.path(std::string("etc/nodes/") + kIqn + "/10.0.0.1,3260"));
  const TargetPortal other{{"fd00::1", 3260}, kIqn};
  tree_.file(std::string("var/nodes/") + kIqn + "/fd00::1,3260,1/eth1", kRecord);
  EXPECT_TRUE(database_.node_record(other, "eth1").has_value());
  EXPECT_FALSE(database_.node_record(other, "default").has_value());
  EXPECT_THAT(database_.portals_of(kIqn), ElementsAre(kPeer.portal, other.portal));
  EXPECT_THAT(database_.portals_of("iqn.other"), IsEmpty());
}

TEST_F(IscsiDatabase, ChangesARecordForRootAlone) {
  tree_.file(std::string("etc/nodes/") + kIqn + "/10.0.0.1,3260", kRecord);
  const std::string record = *database_.node_record(kPeer, "default");
  ::chmod(record.c_str(), 0644);
  ASSERT_TRUE(database_.change(record, node_settings(Chap{"user", Secret("secret")})).has_value());
  struct stat status {};
  ASSERT_EQ(::stat(record.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  std::ifstream file(record);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(text, testing::HasSubstr("node.session.auth.password = secret"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(tree_.path("etc")), {}), 1) << "a draft was left";
}

TEST_F(IscsiDatabase, TellsHowOldARecordIs) {
  tree_.file("record", kRecord);
  const std::string record = tree_.path("record");
  const auto written = std::filesystem::file_time_type::clock::now() - std::chrono::minutes(2);
  std::filesystem::last_write_time(record, written);
  ASSERT_TRUE(Database::age(record).has_value());
  EXPECT_GE(*Database::age(record), std::chrono::minutes(2));
  EXPECT_LT(*Database::age(record), std::chrono::minutes(4));
  EXPECT_FALSE(Database::age(tree_.path("gone")).has_value());
}

TEST_F(IscsiDatabase, TakesAwayWhatAKilledIscsiadmLeft) {
  const std::string target = std::string("etc/nodes/") + kIqn;
  tree_.file(target + "/10.0.0.1,3260", "# BEGIN RECORD 2.1.8\nnode.na");  // which iscsiadm does not know
  database_.remove_remains(kPeer);
  EXPECT_TRUE(database_.node_record(kPeer, "default").has_value()) << "what has content is for iscsiadm to delete";
  database_.remove(*database_.node_record(kPeer, "default"));
  EXPECT_FALSE(database_.node_record(kPeer, "default").has_value());
  database_.remove_remains(kPeer);
  EXPECT_FALSE(std::filesystem::exists(tree_.path(target))) << "the target's empty folder";

  tree_.file(target + "/10.0.0.1,3260", "");
  tree_.file(target + "/10.0.0.9,3260", kRecord);
  database_.remove_remains(kPeer);
  EXPECT_FALSE(std::filesystem::exists(tree_.path(target + "/10.0.0.1,3260")));
  EXPECT_TRUE(std::filesystem::exists(tree_.path(target + "/10.0.0.9,3260"))) << "another portal's";
}

TEST_F(IscsiDatabase, RemovesNothingOutsideItsFolders) {
  tree_.file("elsewhere", "mine");
  database_.remove(tree_.path("elsewhere"));
  EXPECT_TRUE(std::filesystem::exists(tree_.path("elsewhere")));
}

TEST_F(IscsiDatabase, ChangeOfARecordThatIsNotThereFails) {
  const auto done = database_.change(tree_.path("etc/nodes/x"), {});
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().kind, ErrorKind::configuration);
}

// --- the lock of open-iscsi's database ---

class IscsiDatabaseLock : public testing::Test {
 protected:
  IscsiDatabaseLock() { tree_.file("lock", ""); }
  void take() const { std::filesystem::create_hard_link(tree_.path("lock"), tree_.path("lock.write")); }
  void give_back() const { std::filesystem::remove(tree_.path("lock.write")); }
  bool is_taken() const { return std::filesystem::exists(tree_.path("lock.write")); }

  test::TemporaryTree tree_;
};

TEST_F(IscsiDatabaseLock, IsTakenFromAKilledIscsiadm) {
  take();
  wait_for_database(tree_.root(), 20ms);
  EXPECT_FALSE(is_taken());
  EXPECT_TRUE(std::filesystem::exists(tree_.path("lock")));
}

TEST_F(IscsiDatabaseLock, IsLeftToOthersWhoTakeItInTurn) {
  take();
  std::atomic<bool> given_back = false;
  std::jthread others([&] {
    for (int turn = 0; turn < 13; ++turn) {
      std::this_thread::sleep_for(100ms);
      ::chmod(tree_.path("lock").c_str(), turn % 2 == 0 ? 0600 : 0644);  // a new status time, as a new link gives
    }
    given_back = true;
    give_back();
  });
  wait_for_database(tree_.root(), 1s);
  EXPECT_TRUE(given_back);
}

TEST_F(IscsiDatabaseLock, OthersAreNotWaitedForWithoutEnd) {
  take();
  std::jthread others([&](const std::stop_token& stop) {
    for (int turn = 0; !stop.stop_requested(); ++turn) {
      ::chmod(tree_.path("lock").c_str(), turn % 2 == 0 ? 0600 : 0644);
      std::this_thread::sleep_for(10ms);
    }
  });
  wait_for_database(tree_.root(), 400ms);
  EXPECT_TRUE(is_taken()) << "it is theirs";
}

TEST_F(IscsiDatabaseLock, FreeOneIsNotWaitedFor) {
  wait_for_database(tree_.root(), 1h);
  wait_for_database(tree_.path("no such folder"), 1h);
}

// --- discovery and portals ---

TEST(IscsiDiscovery, GivesThePortalsOfOneTarget) {
  EXPECT_THAT(portals_in("10.0.0.1:3260,1 iqn.2026-01.example:t\n[fd00::1]:3260,1 iqn.2026-01.example:t\n"
                         "10.0.0.1:3260,2 iqn.2026-01.example:t\n10.0.0.9:3260,1 iqn.2026-01.example:t2\n",
                         kIqn),
              ElementsAre(Portal{"10.0.0.1", 3260}, Portal{"fd00::1", 3260}));
  EXPECT_THAT(portals_in("iscsiadm: No portals found\n", kIqn), IsEmpty());
}

/// A port of the loopback interface that listens, until this goes.
class Listener {
 public:
  Listener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    ::bind(socket_, reinterpret_cast<sockaddr*>(&address), size);
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    ::listen(socket_, 8);
    port_ = ntohs(address.sin_port);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() { close(); }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  std::uint16_t port() const { return port_; }

 private:
  int socket_;
  std::uint16_t port_ = 0;
};

TEST(IscsiPortalProbe, TellsWhichAnswers) {
  const Listener open;
  Listener closed;
  closed.close();
  EXPECT_THAT(probe_portals({{"127.0.0.1", open.port()}, {"127.0.0.1", closed.port()}, {"a.name.example", 3260}}, 2s),
              ElementsAre("", "Connection refused", ""));
  EXPECT_THAT(probe_portals({}, 2s), IsEmpty());
}

}  // namespace
}  // namespace aiolos::iscsi
