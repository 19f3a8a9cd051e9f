// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/measured_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aiolos {
namespace {

using ::testing::HasSubstr;

MeasuredProfile example() {
  return {.storage = {"nfs", "raw", Allocation::full, "nfs4"},
          .date = "2026-11-22T10:00:00Z",
          .modes = {{AioMode::io_uring, 1.5}, {AioMode::native, 1.25}, {AioMode::threads, 1}},
          .cases = 12,
          .widest_case = "random write 4 KiB, depth 64, 1 disk",
          .widest_lead = 2.125,
          .tie_broken_by = "io_uring and native are alike"};
}

TEST(MeasuredProfile, SurvivesItsJson) {
  const auto parsed = measured_profile_from_json(to_json(example()));
  ASSERT_TRUE(parsed) << describe(parsed.error());
  EXPECT_EQ(*parsed, example());
}

TEST(MeasuredProfile, NamesWhatIsWrongInItsJson) {
  const auto where = [](const char* pointer, const Json& value) {
    Json document = to_json(example());
    document[Json::json_pointer(pointer)] = value;
    const auto parsed = measured_profile_from_json(document);
    return parsed ? std::string("accepted") : parsed.error().where;
  };
  EXPECT_EQ(where("/storage/allocation", "half"), "/storage/allocation");
  EXPECT_EQ(where("/storage/volume_type", 5), "/storage/volume_type");
  EXPECT_EQ(where("/modes", Json::array()), "/modes");
  EXPECT_EQ(where("/modes/1/mode", "fast"), "/modes/1/mode");
  EXPECT_EQ(where("/modes/1/times_last", 0), "/modes/1/times_last");
  EXPECT_EQ(where("/modes/2/times_last", "2"), "/modes/2/times_last");
  EXPECT_EQ(where("/widest_lead", -1), "/widest_lead");
  EXPECT_EQ(where("/date", nullptr), "/date");
  EXPECT_EQ(where("/cases", "many"), "/cases");
  EXPECT_EQ(where("/cases", 3), "accepted");
}

TEST(MeasuredProfile, DescribesWhatDecided) {
  const std::string text = describe(example());
  for (const char* part : {"2026-11-22T10:00:00Z", "nfs, raw, full, nfs4", "io_uring gives 1.50 times", "of threads",
                           "12 cases", "random write 4 KiB, depth 64, 1 disk (2.12 times)", "are alike"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST(StorageClass, IsThatOfWhatTheGuestWritesTo) {
  StorageFacts facts;
  EXPECT_EQ(storage_class("file", facts), std::nullopt);
  LayerFacts top;
  top.format = "qcow2";
  top.allocation = Allocation::sparse;
  top.filesystem = "xfs";
  LayerFacts base;
  base.format = "raw";
  base.allocation = Allocation::full;
  facts.chain = {top, base};
  EXPECT_EQ(storage_class("file", facts), (StorageClass{"file", "qcow2", Allocation::sparse, "xfs"}));
  facts.chain[0].kind = SourceKind::block;
  facts.chain[0].filesystem.clear();
  EXPECT_EQ(to_string(*storage_class("iscsi", facts)), "iscsi, qcow2, sparse, block device");
}

}  // namespace
}  // namespace aiolos
