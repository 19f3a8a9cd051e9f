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

TEST(KeyTable, TellsItsKeys) { EXPECT_EQ(kTable.keys()[1], "read_iops_sec"); }

}  // namespace
}  // namespace aiolos
