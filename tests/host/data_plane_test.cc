// SPDX-License-Identifier: Apache-2.0
// The client of aiolos-engine's admin socket, against a stand-in that answers as told. The real daemon is tried with
// the command, in tests/engine.
#include "aiolos/host/data_plane.h"

#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "aiolos/core/json.h"
#include "aiolos/core/posix.h"

namespace aiolos {
namespace {

using ::testing::HasSubstr;

class DataPlaneTest : public ::testing::Test {
 protected:
  DataPlaneTest() {
    char name[] = "/tmp/data-plane-XXXXXX";
    folder_ = ::mkdtemp(name);
    disk_.name = "guest-vdb";
    disk_.path = "/images/vol";
    disk_.socket = folder_ + "/disks/guest-vdb";
    disk_.aio = AioMode::native;
  }
  ~DataPlaneTest() override {
    if (daemon_.joinable()) daemon_.join();
    std::filesystem::remove_all(folder_);
  }

  /// Starts a daemon for one request an answer. An empty answer hangs up.
  void answer(std::vector<std::string> answers) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, admin().c_str());
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(::listen(listener.get(), 4), 0);
    daemon_ = std::thread([this, listener = std::move(listener), answers = std::move(answers)] {
      for (const std::string& text : answers) {
        const UniqueFd peer(::accept(listener.get(), nullptr, nullptr));
        std::string line;
        for (char c = 0; c != '\n' && ::read(peer.get(), &c, 1) == 1;) line += c;
        asked_.push_back(Json::parse(line));
        if (!text.empty()) write_all(peer.get(), text + "\n");
      }
    });
  }
  void finished() { daemon_.join(); }

  std::string admin() const { return folder_ + "/admin"; }
  std::unique_ptr<DataPlane> engine() const { return make_data_plane(admin()); }
  Json listed() const {
    return {{"name", disk_.name}, {"path", disk_.path}, {"socket", disk_.socket}, {"group", ""},
            {"serial", ""},       {"aio", "native"},    {"readonly", false},      {"direct", true},
            {"queues", 1},        {"weight", 1},        {"size", 4096},           {"connected", true}};
  }
  static std::string ok(const Json& value) { return Json{{"ok", value}}.dump(); }
  std::string list(const Json& disks) const { return ok({{"disks", disks}}); }

  std::string folder_;
  DataPlaneDisk disk_;
  std::vector<Json> asked_;
  std::thread daemon_;
};

TEST_F(DataPlaneTest, ServesWhatIsNotServed) {
  answer({list(Json::array()), ok({{"name", "guest-vdb"}, {"size", 4096}})});
  EXPECT_EQ(engine()->serve(disk_).value(), 4096U);
  finished();
  EXPECT_EQ(asked_[1]["command"], "add-disk");
  EXPECT_EQ(asked_[1]["disk"]["aio"], "native");
  EXPECT_EQ(asked_[1]["disk"]["path"], "/images/vol");
  EXPECT_TRUE(std::filesystem::is_directory(folder_ + "/disks"));
}

TEST_F(DataPlaneTest, LeavesWhatIsServedAlready) {
  answer({list(Json::array({listed()}))});
  EXPECT_EQ(engine()->serve(disk_).value(), 4096U);
}

TEST_F(DataPlaneTest, ReplacesAnotherDiskOfThatName) {
  Json other = listed();
  other["path"] = "/images/other";
  answer({list(Json::array({other})), list(Json::array({other})), ok(Json::object()), ok({{"size", 4096}})});
  EXPECT_TRUE(engine()->serve(disk_));
  finished();
  EXPECT_EQ(asked_[2]["command"], "remove-disk");
  EXPECT_EQ(asked_[3]["command"], "add-disk");
}

TEST_F(DataPlaneTest, WithdrawsOnce) {
  answer({list(Json::array({listed()})), ok(Json::object()), list(Json::array())});
  EXPECT_TRUE(engine()->withdraw("guest-vdb"));
  EXPECT_TRUE(engine()->withdraw("guest-vdb")) << "idempotent";
}

TEST_F(DataPlaneTest, GivesTheDaemonsErrorOn) {
  answer({list(Json::array()),
          R"({"error": {"kind": "storage", "message": "cannot open '/images/vol'", "next": "check the path"}})"});
  const auto error = engine()->serve(disk_).error();
  EXPECT_EQ(error.kind, ErrorKind::storage);
  EXPECT_EQ(error.message, "aiolos-engine: cannot open '/images/vol'");
  EXPECT_EQ(error.next, "check the path");
}

TEST_F(DataPlaneTest, SaysWhatToDoWithoutADaemon) {
  const auto error = engine()->withdraw("guest-vdb").error();
  EXPECT_EQ(error.kind, ErrorKind::retry);
  EXPECT_THAT(error.message, HasSubstr(admin()));
  EXPECT_THAT(error.next, HasSubstr("data_plane.admin"));
}

TEST_F(DataPlaneTest, TellsAnotherDaemonFromOurs) {
  answer({"hello"});
  const auto error = engine()->resize("guest-vdb").error();
  EXPECT_EQ(error.kind, ErrorKind::configuration);
  EXPECT_THAT(error.message, HasSubstr("no aiolos-engine"));
}

TEST_F(DataPlaneTest, ADaemonThatHangsUpIsTriedAgainLater) {
  answer({""});
  EXPECT_EQ(engine()->resize("guest-vdb").error().kind, ErrorKind::retry);
}

TEST_F(DataPlaneTest, RefusesAPathThatIsNoSockets) {
  EXPECT_EQ(make_data_plane(std::string(200, 'x'))->resize("x").error().kind, ErrorKind::configuration);
}

TEST_F(DataPlaneTest, TellsTheDrainsOfOneGuest) {
  const auto disk = [](const char* name, const char* group, int forecast) {
    return Json{
        {"name", name},
        {"group", group},
        {"drains",
         {{"state", "stopped"}, {"forecast_us", forecast}, {"bound_us", 20000}, {"count", 3}, {"last_us", 700}}}};
  };
  answer({list({disk("a-vdb", "a", 1200), disk("b-vdb", "b", 9)})});
  const auto drains = engine()->drains("a");
  finished();
  ASSERT_TRUE(drains);
  EXPECT_EQ(asked_[0]["command"], "stats");
  ASSERT_EQ(drains->size(), 1U);
  EXPECT_EQ(drains->front().disk, "a-vdb");
  EXPECT_EQ(drains->front().forecast.count(), 1200);
  EXPECT_EQ(drains->front().bound.count(), 20000);
  EXPECT_TRUE(drains->front().stopped);
  EXPECT_EQ(drains->front().count, 3U);
  EXPECT_EQ(drains->front().last.count(), 700);
}

TEST_F(DataPlaneTest, SaysThatTheSwitchoverIsNear) {
  answer({ok(Json::object())});
  EXPECT_TRUE(engine()->switchover("a", true));
  finished();
  EXPECT_EQ(asked_[0], Json({{"command", "switchover"}, {"group", "a"}, {"near", true}}));
}

}  // namespace
}  // namespace aiolos
