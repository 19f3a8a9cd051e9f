// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/facts.h"

#include <gtest/gtest.h>

namespace aiolos {
namespace {

TEST(Versions, ReadAndWrite) {
  EXPECT_EQ(parse_version("7.2.22"), version(7, 2, 22));
  EXPECT_EQ(parse_version("6.1.0-18-amd64"), version(6, 1, 0));
  EXPECT_EQ(parse_version("6.18-rc1"), version(6, 18));
  EXPECT_EQ(parse_version("linux"), 0u);
  EXPECT_EQ(version_string(version(10, 0, 3)), "10.0.3");
}

LayerFacts layer(Allocation allocation, std::optional<bool> o_direct) {
  LayerFacts facts;
  facts.path = "/x";
  facts.allocation = allocation;
  facts.o_direct = o_direct;
  return facts;
}

TEST(StorageFacts, AllocationIsThatOfTheLayerThatIsWritten) {
  EXPECT_EQ(StorageFacts{}.allocation(), Allocation::unknown);
  EXPECT_EQ((StorageFacts{{layer(Allocation::full, true), layer(Allocation::sparse, true)}}).allocation(),
            Allocation::full);
}

TEST(StorageFacts, ODirectNeedsEveryLayer) {
  EXPECT_EQ(StorageFacts{}.o_direct(), std::nullopt);
  EXPECT_EQ((StorageFacts{{layer({}, true), layer({}, true)}}).o_direct(), true);
  EXPECT_EQ((StorageFacts{{layer({}, true), layer({}, std::nullopt)}}).o_direct(), std::nullopt);
  EXPECT_EQ((StorageFacts{{layer({}, std::nullopt), layer({}, false)}}).o_direct(), false);
}

TEST(StorageFacts, SurviveTheirJson) {
  LayerFacts full = layer(Allocation::thin, false);
  full.format = "qcow2";
  full.kind = SourceKind::block;
  full.virtual_size = 1u << 30;
  full.allocated = 4096;
  full.logical_block_size = 4096;
  full.filesystem = "ext4";
  full.probes = {"st_blocks: 8 of 2,097,152", "FIEMAP: one hole"};
  const StorageFacts facts{{full, layer(Allocation::unknown, std::nullopt)}};
  const auto parsed = storage_facts_from_json(to_json(facts));
  ASSERT_TRUE(parsed) << describe(parsed.error());
  EXPECT_EQ(to_json(*parsed), to_json(facts));
}

TEST(StorageFacts, NameWhatIsWrongInTheirJson) {
  const auto where = [](const char* text) {
    const auto facts = storage_facts_from_json(Json::parse(text));
    return facts ? std::string("accepted") : facts.error().where;
  };
  EXPECT_EQ(where("{}"), "/chain");
  EXPECT_EQ(where(R"({"chain": {}})"), "/chain");
  EXPECT_EQ(where(R"({"chain": [{}]})"), "/chain/0/path");
  EXPECT_EQ(where(R"({"chain": [{"path": "/a", "allocation": "half"}]})"), "/chain/0/allocation");
  EXPECT_EQ(where(R"({"chain": [{"path": "/a", "o_direct": 1}]})"), "/chain/0/o_direct");
  EXPECT_EQ(where(R"({"chain": [{"path": "/a", "probes": [1]}]})"), "/chain/0/probes/0");
}

TEST(IoThreadFacts, FollowFromTheVersions) {
  HostFacts host;
  EXPECT_EQ(iothread_facts(host).thread_pool, std::nullopt);
  host.libvirt = version(9, 0);
  host.qemu = version(7, 2);
  EXPECT_EQ(iothread_facts(host).thread_pool, true);
  EXPECT_EQ(iothread_facts(host).queue_mapping, false);
  EXPECT_EQ(iothread_facts(host).poll_in_xml, false);
  host.qemu = version(7, 0, 99);
  EXPECT_EQ(iothread_facts(host).thread_pool, false);
  host.libvirt = version(10, 0);
  host.qemu = version(9, 0);
  EXPECT_EQ(iothread_facts(host).queue_mapping, true);
  EXPECT_EQ(iothread_facts(host).poll_in_xml, true);
}

TEST(HostFacts, AbsentIsNotPrinted) {
  HostFacts facts;
  EXPECT_EQ(to_json(facts), Json::object());
  facts.kernel = version(6, 1);
  facts.aio_nr = 0;
  EXPECT_EQ(to_json(facts), (Json{{"kernel", "6.1.0"}, {"aio_nr", 0}}));
}

}  // namespace
}  // namespace aiolos
