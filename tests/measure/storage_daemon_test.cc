// SPDX-License-Identifier: Apache-2.0
#include "storage_daemon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "aiolos/core/json.h"

namespace aiolos::measure {
namespace {

using ::testing::ElementsAre;

/// The values of an option, in order.
std::vector<Json> values(const std::vector<std::string>& argv, std::string_view option) {
  std::vector<Json> found;
  for (std::size_t i = 0; i + 1 < argv.size(); ++i)
    if (argv[i] == option) found.push_back(Json::parse(argv[i + 1]));
  return found;
}

TEST(DaemonCommand, ServesAnImageThroughItsFormatWithoutTheHostsCache) {
  const auto argv =
      daemon_command({{{{"/images/a,b=c", "qcow2", false, true}, "/s"}}, AioMode::io_uring, 0, std::nullopt});
  const auto nodes = values(argv, "--blockdev");
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[0], Json::parse(R"({"driver": "file", "node-name": "file0", "filename": "/images/a,b=c",
      "read-only": false, "aio": "io_uring", "cache": {"direct": true}})"));
  EXPECT_EQ(nodes[1]["driver"], "qcow2");
  EXPECT_EQ(nodes[1]["file"], "file0");
  const auto exports = values(argv, "--export");
  ASSERT_EQ(exports.size(), 1U);
  EXPECT_EQ(exports[0], Json::parse(R"({"type": "vhost-user-blk", "id": "export-disk0", "node-name": "disk0",
      "writable": true, "addr": {"type": "unix", "path": "/s"}})"));
}

TEST(DaemonCommand, WhatIsOnlyReadIsReadOnlyAtEveryLayer) {
  const auto argv = daemon_command({{{{"/dev/vdb", "raw", true, false}, "/s"}}, AioMode::native, 0, std::nullopt});
  for (const Json& node : values(argv, "--blockdev")) EXPECT_EQ(node["read-only"], true) << node;
  EXPECT_EQ(values(argv, "--blockdev")[0]["driver"], "host_device");
  EXPECT_EQ(values(argv, "--export")[0]["writable"], false);
}

TEST(DaemonCommand, ServesADiskWithoutStorageBesideTheOthers) {
  const auto argv = daemon_command({{{{"/a", "raw", false, true}, "/s"}}, AioMode::threads, 0, "/probe"});
  EXPECT_EQ(values(argv, "--blockdev")[2]["driver"], "null-co");
  EXPECT_EQ(values(argv, "--export")[1]["addr"]["path"], "/probe");
}

TEST(DaemonCommand, SpreadsTheDisksOverItsIothreads) {
  const DaemonDisk disk{{"/a", "raw", false, true}, "/s"};
  const auto argv = daemon_command({{disk, disk, disk}, AioMode::native, 2, "/probe"});
  const auto objects = values(argv, "--object");
  ASSERT_EQ(objects.size(), 2U);
  EXPECT_EQ(objects[1], Json::parse(R"({"qom-type": "iothread", "id": "iothread1"})"));
  std::vector<std::string> served_by;
  for (const Json& each : values(argv, "--export")) {
    served_by.push_back(each["iothread"]);
    EXPECT_EQ(each["fixed-iothread"], true);
  }
  // The last is the disk without storage: beside the first, whose engine it is to feel.
  EXPECT_THAT(served_by, ElementsAre("iothread0", "iothread1", "iothread0", "iothread0"));
}

TEST(DaemonCommand, MakesNoIothreadWithoutADisk) {
  const auto argv = daemon_command({{{{"/a", "raw", false, true}, "/s"}}, AioMode::native, 8, std::nullopt});
  EXPECT_EQ(values(argv, "--object").size(), 1U);
}

}  // namespace
}  // namespace aiolos::measure
