// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/key_table.h"

#include <gtest/gtest.h>

namespace aiolos {
namespace {

constexpr KeyTable<int, 4> kTable({{"a", 1}, {"read_iops_sec", 2}, {"read_iops_sec_max", 3}, {"write_iops_sec", 4}});

TEST(KeyTable, FindsItsKeysAndNoOthers) {
  const auto find = [](std::string_view key) { return kTable.find(key) ? *kTable.find(key) : 0; };
  EXPECT_EQ(find("a"), 1);
  EXPECT_EQ(find("read_iops_sec"), 2);
  EXPECT_EQ(find("read_iops_sec_max"), 3);
  EXPECT_EQ(find("write_iops_sec"), 4);
  for (const std::string_view other : {"", "b", "read_iops_sex", "xead_iops_sec", "read_iopsxsec", "write_iops_se"})
    EXPECT_EQ(find(other), 0) << other;
}

TEST(KeyTable, GathersTheMembersOfAnObject) {
  const Json json = {{"write_iops_sec", 4}, {"other", 0}, {"a", 1}, {"", 5}};
  const JsonDocument document(json);
  const auto members = kTable.members_of(document.root());
  EXPECT_EQ(members[0]->natural(), 1u);
  EXPECT_EQ(members[1], nullptr);
  EXPECT_EQ(members[2], nullptr);
  EXPECT_EQ(members[3]->natural(), 4u);
  JsonDocument twice;
  ASSERT_TRUE(twice.parse(R"({"a": 1, "b": 2, "a": 3})", "test"));
  EXPECT_EQ(kTable.members_of(twice.root())[0]->natural(), 3u);
  EXPECT_EQ(kTable.members_of(JsonNode())[0], nullptr);
}

TEST(KeyTable, TellsItsKeys) { EXPECT_EQ(kTable.keys()[1], "read_iops_sec"); }

}  // namespace
}  // namespace aiolos
