// SPDX-License-Identifier: Apache-2.0
// aiolos-conformance itself: good plugins pass, and each way of being bad is caught by the check that is for it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <ostream>

#include "aiolos/core/json.h"

namespace aiolos {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "conformance-test-XXXXXX").native();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() {
    ::umount2(mount_point().c_str(), MNT_DETACH);
    fs::remove_all(path_);
  }
  fs::path mount_point() const { return path_ / "mnt"; }
  fs::path path(const std::string& name) const { return path_ / name; }
  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name) << text;
    return path_ / name;
  }

 private:
  fs::path path_;
};

struct Ran {
  int status = -1;
  std::string output;
};

Ran shell(const std::string& command) {
  Ran ran;
  FILE* const pipe = ::popen(command.c_str(), "r");
  std::array<char, 4096> part{};
  for (std::size_t got = 0; (got = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    ran.output.append(part.data(), got);
  ran.status = WEXITSTATUS(::pclose(pipe));
  return ran;
}

Ran conformance(const fs::path& plugin, const fs::path& connection, const std::string& options) {
  return shell(
      fmt::format("{} {} --connection {} {} 2>&1", CONFORMANCE, plugin.native(), connection.native(), options));
}

/// The checks of a report with a result, in order.
std::vector<std::string> with_result(const Json& report, std::string_view result) {
  std::vector<std::string> names;
  for (const Json& check : report.at("checks"))
    if (check.at("result") == result) names.push_back(check.at("name"));
  return names;
}

fs::path test_plugin(const std::string& name) { return fmt::format("{}/aiolos-conformance_{}.so", PLUGINS, name); }

Json tmpfs_volume(const Folder& folder, const std::string& fault) {
  return {{"driver_volume_type", "tmpfs"},
          {"data", {{"path", folder.mount_point()}, {"password", "not-to-be-seen"}, {"fault", fault}}}};
}

bool can_mount() {
  const Folder folder;
  fs::create_directory(folder.mount_point());
  return ::mount("tmpfs", folder.mount_point().c_str(), "tmpfs", 0, nullptr) == 0;
}

/// Runs the plugin that misbehaves through everything.
Json report_of(const std::string& fault, int& status) {
  const Folder folder;
  const Ran ran =
      conformance(test_plugin("misbehaving"), folder.write("volume.json", tmpfs_volume(folder, fault).dump()),
                  "--connect --deadline 5 --settle 0.5 --fail-fast --json");
  status = ran.status;
  return Json::parse(ran.output, nullptr, false);
}

struct Fault {
  const char* name;    ///< As misbehaving.cc has it.
  const char* check;   ///< The beginning of the name of the first check that fails.
  const char* reason;  ///< A part of what it says.
};

/// For googletest's messages.
void PrintTo(const Fault& fault, std::ostream* stream) { *stream << fault.name; }

constexpr Fault kFaults[] = {
    {"answers differently", "describe.same-answer", "the second answer differs"},
    {"describe opens a file", "describe.touches-nothing", "signal 31"},
    {"crashes on wrong input", "describe.wrong-input", "signal 11 (Segmentation fault) at: describe with /data"},
    {"hangs on wrong input", "describe.wrong-input", "did not end before the deadline at: describe with /data"},
    {"blames no member", "describe.wrong-input", "does not say where"},
    {"blames the storage", "describe.wrong-input", "an error of kind storage"},
    {"target moves", "target.same-answer", "another process is told"},
    {"gives no reasons", "aio_mode.advice", "gives no reasons"},
    {"not for threads", "threads", "side by side differ"},
    {"fails when gone", "disconnect.never-connected", "is not mounted"},
    {"connects once", "connect.repeat", "is mounted already"},
    {"leaves the mount", "connect.repeat", "the host is not as before: + mounts"},
    {"never ends", "connect.repeat", "did not end before the deadline"},
    {"verify refuses", "verify.connected", "is another volume"},
    {"shrinks", "extend.same-size", "and the volume has"},
    {"needs its attachment", "disconnect.without-attachment", "the host is not as before"},
    {"takes it from others", "multiattach.two-guests", "still has the volume"},
    {"changes before its effect", "crash-points.connect-1", "had changed before the first effect"},
    {"undoes whole connects only", "crash-points.connect-", "image is not there"},
    {"blames itself", "failing-services.connect (every command ends with status 1)", "this cannot be"},
    {"secret in arguments", "secrets", "an argument of true"},
    {"leaks a descriptor", "descriptors", "/dev/null"},
};

class MisbehavingTest : public testing::TestWithParam<Fault> {};

TEST_P(MisbehavingTest, IsCaughtByTheCheckThatIsForIt) {
  if (!can_mount()) GTEST_SKIP() << "needs the right to mount";
  int status = -1;
  const Json report = report_of(GetParam().name, status);
  ASSERT_FALSE(report.is_discarded());
  EXPECT_EQ(status, 1);
  for (const Json& check : report.at("checks")) {
    if (check.at("result") != "FAIL") continue;
    EXPECT_THAT(check.at("name").get<std::string>(), testing::StartsWith(GetParam().check));
    EXPECT_THAT(check.at("reason").get<std::string>(), testing::HasSubstr(GetParam().reason));
    EXPECT_FALSE(check.at("next").get<std::string>().empty());
    return;
  }
  FAIL() << "no check failed";
}

INSTANTIATE_TEST_SUITE_P(Conformance, MisbehavingTest, testing::ValuesIn(kFaults), [](const auto& test) {
  std::string name = test.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

TEST(Conformance, AGoodPluginPassesEverything) {
  if (!can_mount()) GTEST_SKIP() << "needs the right to mount";
  int status = -1;
  const Json report = report_of("none", status);
  ASSERT_FALSE(report.is_discarded());
  EXPECT_EQ(status, 0) << report.dump(2);
  EXPECT_THAT(with_result(report, "SKIP"), testing::IsEmpty());
  // One write for the hold of connect and two for each of its three effects; two for each of disconnect's two effects
  // and one for its release.
  EXPECT_THAT(with_result(report, "PASS"), testing::Contains(testing::StartsWith("crash-points.connect-7 (after")));
  EXPECT_THAT(with_result(report, "PASS"), testing::Contains(testing::StartsWith("crash-points.disconnect-5 (before")));
}

/// The first check of a plugin that cannot be used.
void expect_load_fails(const std::string& plugin, const Json& connection_info, const std::string& reason) {
  const Folder folder;
  const Ran ran = conformance(test_plugin(plugin), folder.write("volume.json", connection_info.dump()), "");
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.output, testing::StartsWith("FAIL load: "));
  EXPECT_THAT(ran.output, testing::HasSubstr(reason));
  EXPECT_THAT(ran.output, testing::HasSubstr("0 passed, 1 failed, 0 skipped"));
}

TEST(Conformance, APromiseWithoutItsSlotIsCaughtByLoad) {
  expect_load_fails("promised_disconnect", tmpfs_volume(Folder(), "none"), "the slot 'disconnect' is NULL");
}

TEST(Conformance, AnotherVolumeTypeIsCaughtByLoad) {
  expect_load_fails("misbehaving", {{"driver_volume_type", "ramfs"}}, "does not serve the volume type 'ramfs'");
}

// --- the drivers that are shipped ---

Json known_device(const char* type) {
  return {{"driver_volume_type", type}, {"serial", "v"}, {"data", {{"device_path", "/dev/mapper/36001405"}}}};
}

const Json kStillVolumes[] = {
    known_device("iscsi"),
    known_device("fibre_channel"),
    {{"driver_volume_type", "nvmeof"},
     {"data",
      {{"target_nqn", "nqn.2014-08.org.example:subsystem"},
       {"vol_uuid", "5a1d6d1c-2b6e-4b4c-9a5a-6a1f4b6f1a4e"},
       {"portals", Json::array({Json::array({"10.0.0.1", 4420, "tcp"}), Json::array({"fd00::1", "4420", "tcp"})})},
       {"device_path", "/dev/nvme0n1"}}}},
    {{"driver_volume_type", "nfs"}, {"data", {{"export", "10.0.0.1:/srv"}, {"name", "volume-1"}, {"format", "qcow2"}}}},
    {{"driver_volume_type", "quobyte"}, {"data", {{"export", "quobyte://10.0.0.1/srv"}, {"name", "volume-1"}}}},
    {{"driver_volume_type", "rbd"},
     {"data",
      {{"name", "volumes/volume-1"},
       {"hosts", {"10.0.0.1", "10.0.0.2"}},
       {"ports", {"6789", "6789"}},
       {"auth_enabled", true},
       {"auth_username", "nova"},
       {"secret_type", "ceph"},
       {"secret_uuid", "5a1d6d1c-2b6e-4b4c-9a5a-6a1f4b6f1a4e"},
       {"keyring", "not-to-be-seen"}}}},
};

class DriverTest : public testing::TestWithParam<Json> {};

TEST_P(DriverTest, PassesWhatNeedsNoStorage) {
  const Folder folder;
  const std::string type = GetParam().at("driver_volume_type");
  const Ran ran =
      conformance(fmt::format("{}/aiolos-{}.so", DRIVERS, type), folder.write("volume.json", GetParam().dump()), "");
  EXPECT_EQ(ran.status, 0) << ran.output;
  EXPECT_THAT(ran.output, testing::HasSubstr(" 0 failed"));
}

INSTANTIATE_TEST_SUITE_P(Conformance, DriverTest, testing::ValuesIn(kStillVolumes), [](const auto& test) {
  return test.param.at("driver_volume_type").template get<std::string>();
});

void expect_local_passes(const Folder& folder, const Json& connection_info) {
  const Ran ran = conformance(fmt::format("{}/aiolos-local.so", DRIVERS),
                              folder.write("volume.json", connection_info.dump()), "--connect --deadline 20");
  EXPECT_EQ(ran.status, 0) << ran.output;
}

TEST(Conformance, LocalPassesWithARawImage) {
  const Folder folder;
  ASSERT_EQ(shell(fmt::format("truncate -s 4M {}", folder.path("image").native())).status, 0);
  expect_local_passes(folder, {{"driver_volume_type", "file"}, {"data", {{"path", folder.path("image")}}}});
}

TEST(Conformance, LocalPassesWithAQcow2) {
  const Folder folder;
  ASSERT_EQ(shell(fmt::format("qemu-img create -q -f qcow2 {} 4M", folder.path("image").native())).status, 0);
  expect_local_passes(
      folder, {{"driver_volume_type", "file"}, {"data", {{"path", folder.path("image")}, {"format", "qcow2"}}}});
}

TEST(Conformance, LocalPassesWithABlockDevice) {
  const Folder folder;
  const Ran loop =
      shell(fmt::format("truncate -s 4M {0} && losetup --find --show {0} 2>/dev/null", folder.path("image").native()));
  if (loop.status != 0) GTEST_SKIP() << "needs loop devices";
  const std::string device = loop.output.substr(0, loop.output.find('\n'));
  expect_local_passes(folder, {{"driver_volume_type", "local"}, {"data", {{"device_path", device}}}});
  EXPECT_EQ(shell("losetup --detach " + device).status, 0);
}

// --- the command ---

TEST(Conformance, RefusesAConnectionInfoThatIsNoJson) {
  const Folder folder;
  const Ran ran = conformance(test_plugin("misbehaving"), folder.write("volume.json", "{"), "");
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.output, testing::HasSubstr("volume.json:1:"));
}

}  // namespace
}  // namespace aiolos
