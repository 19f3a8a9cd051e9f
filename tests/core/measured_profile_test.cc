// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/measured_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aiolos {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

MeasuredProfile example() {
  return {.storage = {"nfs", "raw", Allocation::full, "nfs4"},
          .date = "2026-11-22T10:00:00Z",
          .kernel = version(6, 18, 44),
          .qemu = version(7, 2, 22),
          .through = "2 iothreads of qemu-storage-daemon",
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
  EXPECT_EQ(where("/date", "2026-13-01T10:00:00Z"), "/date");
  EXPECT_EQ(where("/date", "yesterday"), "/date");
  EXPECT_EQ(where("/kernel", "new"), "/kernel");
  EXPECT_EQ(where("/qemu", 7), "/qemu");
  EXPECT_EQ(where("/qemu", nullptr), "accepted");
  EXPECT_EQ(where("/through", 1), "/through");
  EXPECT_EQ(where("/cases", "many"), "/cases");
  EXPECT_EQ(where("/cases", 3), "accepted");
}

TEST(MeasuredProfile, DescribesWhatDecided) {
  const std::string text = describe(example());
  for (const char* part :
       {"2026-11-22T10:00:00Z", "nfs, raw, full, nfs4",
        "with Linux 6.18.44 and QEMU 7.2.22, through 2 iothreads of qemu-storage-daemon:", "io_uring gives 1.50 times",
        "of threads", "12 cases", "random write 4 KiB, depth 64, 1 disk (2.12 times)", "are alike"})
    EXPECT_THAT(text, HasSubstr(part));
}

class Doubts : public ::testing::Test {
 protected:
  Doubts() {
    host_.kernel = version(6, 18, 44);
    host_.qemu = version(7, 2, 22);
  }
  std::vector<std::string> found(unsigned most_days = 30) const { return doubts(measured_, host_, today_, most_days); }

  MeasuredProfile measured_ = example();
  HostFacts host_;
  std::chrono::sys_days today_ = std::chrono::year(2026) / 12 / 22;
};

TEST_F(Doubts, AreNoneOfTheSameHostInTime) { EXPECT_THAT(found(), IsEmpty()); }

TEST_F(Doubts, AnotherKernelAndAnotherQemuAreNamed) {
  host_.kernel = version(6, 19, 1);
  host_.qemu = version(8, 0, 0);
  EXPECT_THAT(found(), ElementsAre("it was made with Linux 6.18.44 and this host has 6.19.1",
                                   "it was made with QEMU 7.2.22 and this host has 8.0.0"));
}

TEST_F(Doubts, WhatWasNotRecordedMayHaveBeenAnother) {
  measured_.kernel.reset();
  EXPECT_THAT(found(), ElementsAre("it does not say with which Linux it was made"));
}

TEST_F(Doubts, WhatIsNotKnownOfThisHostIsNoReason) {
  host_.qemu.reset();
  EXPECT_THAT(found(), IsEmpty());
}

TEST_F(Doubts, AgeIsOneFromTheDayAfterTheLastThatIsAllowed) {
  today_ += std::chrono::days(1);
  EXPECT_THAT(found(), ElementsAre("it is 31 days old (aio.measured_max_age: 30)"));
  EXPECT_THAT(found(/*most_days=*/0), IsEmpty());
}

TEST_F(Doubts, AClockThatWentBackIsNoReason) {
  today_ = std::chrono::year(2020) / 1 / 1;
  EXPECT_THAT(found(), IsEmpty());
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
