// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/measured_profiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "support.h"

namespace aiolos {
namespace {

using ::testing::HasSubstr;

MeasuredProfile profile(const StorageClass& storage, AioMode fastest) {
  MeasuredProfile made;
  made.storage = storage;
  made.date = "2026-11-22T10:00:00Z";
  made.modes = {{fastest, 2}, {AioMode::threads, 1}};
  made.cases = 4;
  made.widest_case = "random read 4 KiB, depth 1, 1 disk";
  made.widest_lead = 3;
  return made;
}

const StorageClass kNfs{"nfs", "raw", Allocation::full, "nfs4"};

TEST(MeasuredProfiles, AreFoundByTheirClass) {
  const TempDir state;
  const StorageClass sparse{"nfs", "raw", Allocation::sparse, "nfs4"};
  ASSERT_TRUE(save_measured_profile(state.path(), profile(kNfs, AioMode::native)));
  ASSERT_TRUE(save_measured_profile(state.path(), profile(sparse, AioMode::io_uring)));
  EXPECT_EQ(**load_measured_profile(state.path(), kNfs), profile(kNfs, AioMode::native));
  EXPECT_EQ(**load_measured_profile(state.path(), sparse), profile(sparse, AioMode::io_uring));
  EXPECT_EQ(*load_measured_profile(state.path(), {"iscsi", "raw", Allocation::full, "block device"}), std::nullopt);
}

TEST(MeasuredProfiles, ANewOneTakesThePlaceOfTheOld) {
  const TempDir state;
  ASSERT_TRUE(save_measured_profile(state.path(), profile(kNfs, AioMode::native)));
  const auto file = save_measured_profile(state.path(), profile(kNfs, AioMode::io_uring));
  ASSERT_TRUE(file);
  EXPECT_EQ(**load_measured_profile(state.path(), kNfs), profile(kNfs, AioMode::io_uring));
  const std::filesystem::directory_iterator files(state / "measured");
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

TEST(MeasuredProfiles, NoClassLeavesTheFolder) {
  const TempDir state;
  const StorageClass odd{"../..", "a/b", Allocation::unknown, "fuse.x y,z"};
  const auto file = save_measured_profile(state.path(), profile(odd, AioMode::native));
  ASSERT_TRUE(file) << describe(file.error());
  EXPECT_EQ(std::filesystem::path(*file).parent_path(), state / "measured");
  EXPECT_TRUE(load_measured_profile(state.path(), odd)->has_value());
}

TEST(MeasuredProfiles, NameTheFileThatIsNoMeasurement) {
  const TempDir state;
  const auto file = save_measured_profile(state.path(), profile(kNfs, AioMode::native));
  ASSERT_TRUE(file);
  for (const char* text : {"{", "{}", R"({"storage": 5})"}) {
    write_file(*file, text);
    const auto loaded = load_measured_profile(state.path(), kNfs);
    ASSERT_FALSE(loaded) << text;
    EXPECT_EQ(loaded.error().kind, ErrorKind::configuration);
    EXPECT_THAT(loaded.error().message, HasSubstr(*file));
    EXPECT_THAT(loaded.error().next, HasSubstr("aiolos measure --save"));
  }
}

TEST(MeasuredProfiles, NameTheFolderThatCannotBeWritten) {
  const auto file = save_measured_profile("/proc/self", profile(kNfs, AioMode::native));
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("/proc/self/measured"));
}

}  // namespace
}  // namespace aiolos
