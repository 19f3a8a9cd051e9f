// SPDX-License-Identifier: Apache-2.0
// What extents, blocks and file systems mean for allocation: a table, no I/O.
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>

#include <cerrno>

#include "file_probe.h"
#include "support.h"

namespace aiolos {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kMiB = 1024 * 1024;

FileObservation file_with(std::uint64_t filesystem, const std::vector<Extent>& extents) {
  FileObservation file;
  file.size = 4 * kMiB;
  file.allocated = 4 * kMiB;
  file.filesystem = filesystem;
  file.extents = ExtentMap{};
  for (const Extent& extent : extents) file.extents->add(extent);
  return file;
}

struct ExtentCase {
  const char* name;
  std::uint64_t filesystem;
  std::vector<Extent> extents;
  Allocation expected;
  const char* says;
};

class ExtentVerdict : public testing::TestWithParam<ExtentCase> {};

TEST_P(ExtentVerdict, IsAsTheTableSays) {
  const ExtentCase& c = GetParam();
  const FileObservation file = file_with(c.filesystem, c.extents);
  const Verdict verdict = judge_file(file, filesystem_name(c.filesystem), {{0, file.size}});
  EXPECT_EQ(to_string(verdict.allocation), to_string(c.expected)) << joined(verdict.probes);
  EXPECT_THAT(joined(verdict.probes), HasSubstr(c.says));
}

INSTANTIATE_TEST_SUITE_P(
    Table, ExtentVerdict,
    testing::Values(
        ExtentCase{"written", EXT4_SUPER_MAGIC, {{{0, 4 * kMiB}, 0}}, Allocation::full, "every byte"},
        ExtentCase{"two_adjacent",
                   XFS_SUPER_MAGIC,
                   {{{0, kMiB}, 0}, {{kMiB, 3 * kMiB}, FIEMAP_EXTENT_LAST}},
                   Allocation::full,
                   "every byte"},
        ExtentCase{"beyond_end", EXT4_SUPER_MAGIC, {{{0, 8 * kMiB}, 0}}, Allocation::full, "every byte"},
        ExtentCase{"fallocated",
                   EXT4_SUPER_MAGIC,
                   {{{0, kMiB}, 0}, {{kMiB, 3 * kMiB}, FIEMAP_EXTENT_UNWRITTEN}},
                   Allocation::full,
                   "3.0 MiB (3145728 bytes) preallocated by fallocate"},
        ExtentCase{"nothing",
                   EXT4_SUPER_MAGIC,
                   {},
                   Allocation::sparse,
                   "a write to 4.0 MiB (4194304 bytes) would have to allocate"},
        ExtentCase{"hole_in_the_middle",
                   EXT4_SUPER_MAGIC,
                   {{{0, kMiB}, 0}, {{2 * kMiB, 2 * kMiB}, 0}},
                   Allocation::sparse,
                   "a write to 1.0 MiB"},
        ExtentCase{"hole_at_the_end",
                   EXT4_SUPER_MAGIC,
                   {{{0, 4 * kMiB - 4096}, 0}},
                   Allocation::sparse,
                   "4.0 KiB (4096 bytes)"},
        ExtentCase{"delayed",
                   EXT4_SUPER_MAGIC,
                   {{{0, 4 * kMiB}, FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN}},
                   Allocation::sparse,
                   "no block chosen yet"},
        ExtentCase{"reflinked",
                   XFS_SUPER_MAGIC,
                   {{{0, 2 * kMiB}, 0}, {{2 * kMiB, 2 * kMiB}, FIEMAP_EXTENT_SHARED}},
                   Allocation::sparse,
                   "2.0 MiB (2097152 bytes) shared"},
        ExtentCase{"compressed",
                   EXT4_SUPER_MAGIC,
                   {{{0, 4 * kMiB}, FIEMAP_EXTENT_ENCODED}},
                   Allocation::sparse,
                   "compressed by the file system"},
        ExtentCase{"encrypted",
                   EXT4_SUPER_MAGIC,
                   {{{0, 4 * kMiB}, FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_ENCRYPTED}},
                   Allocation::full,
                   "every byte"},
        ExtentCase{"inline",
                   EXT4_SUPER_MAGIC,
                   {{{0, 4 * kMiB}, FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED}},
                   Allocation::sparse,
                   "packed into the inode"},
        ExtentCase{"btrfs", BTRFS_SUPER_MAGIC, {{{0, 4 * kMiB}, 0}}, Allocation::sparse, "no NOCOW attribute"},
        ExtentCase{"f2fs", F2FS_SUPER_MAGIC, {{{0, 4 * kMiB}, 0}}, Allocation::sparse, "copy on write"},
        ExtentCase{"overlay", OVERLAYFS_SUPER_MAGIC, {{{0, 4 * kMiB}, 0}}, Allocation::full, "copies it first"}),
    [](const auto& row) { return row.param.name; });

TEST(FileVerdict, BtrfsWithNocowIsJudgedByItsExtents) {
  FileObservation file = file_with(BTRFS_SUPER_MAGIC, {{{0, 4 * kMiB}, 0}});
  file.flags = FS_NOCOW_FL;
  EXPECT_EQ(judge_file(file, "btrfs", {{0, file.size}}).allocation, Allocation::full);
  file.extents->add({{0, 0}, FIEMAP_EXTENT_SHARED});
  file.extents->in_place.clear();
  EXPECT_EQ(judge_file(file, "btrfs", {{0, file.size}}).allocation, Allocation::sparse);
}

TEST(FileVerdict, OnlyTheAreasOfTheGuestCount) {
  const FileObservation file = file_with(EXT4_SUPER_MAGIC, {{{0, kMiB}, 0}, {{2 * kMiB, 2 * kMiB}, 0}});
  EXPECT_EQ(judge_file(file, "ext4", {{3 * kMiB, kMiB}, {0, kMiB}}).allocation, Allocation::full);
  EXPECT_EQ(judge_file(file, "ext4", {{0, kMiB}, {kMiB, kMiB}}).allocation, Allocation::sparse);
}

TEST(FileVerdict, NothingToWriteIsUnknown) {
  FileObservation file = file_with(EXT4_SUPER_MAGIC, {});
  file.size = 0;
  EXPECT_EQ(judge_file(file, "ext4", {{0, 0}}).allocation, Allocation::unknown);
}

TEST(FileVerdict, WithoutFiemapTheBlocksDecide) {
  FileObservation file;
  file.size = 4 * kMiB;
  file.filesystem = NFS_SUPER_MAGIC;
  file.extents_error = EOPNOTSUPP;
  file.allocated = 4 * kMiB;
  file.first_hole = 0;
  const Verdict preallocated = judge_file(file, "nfs4", {{0, file.size}});
  EXPECT_EQ(preallocated.allocation, Allocation::full);
  EXPECT_THAT(joined(preallocated.probes), HasSubstr("nothing written yet at byte 0"));
  EXPECT_THAT(joined(preallocated.probes), HasSubstr("no FIEMAP here: Operation not supported"));

  file.allocated = kMiB;
  file.first_hole = kMiB;
  const Verdict sparse = judge_file(file, "nfs4", {{0, file.size}});
  EXPECT_EQ(sparse.allocation, Allocation::sparse);
  EXPECT_THAT(joined(sparse.probes), HasSubstr("a hole at byte 1048576"));
}

TEST(Extents, MergesAndCountsWhatIsMissing) {
  ExtentMap map;
  map.add({{0, 10}, 0});
  map.add({{10, 10}, FIEMAP_EXTENT_UNWRITTEN});
  map.add({{15, 10}, 0});
  map.add({{40, 10}, 0});
  EXPECT_EQ(map.in_place, (std::vector<Range>{{0, 25}, {40, 10}}));
  EXPECT_EQ(bytes_not_in_place(map, {{0, 25}}), 0U);
  EXPECT_EQ(bytes_not_in_place(map, {{0, 50}}), 15U);
  EXPECT_EQ(bytes_not_in_place(map, {{20, 25}}), 15U);
  EXPECT_EQ(bytes_not_in_place(map, {{60, 5}, {45, 5}, {30, 1}}), 6U);
  EXPECT_EQ(bytes_not_in_place(ExtentMap{}, {{0, 7}}), 7U);
}

TEST(DirectIoVerdict, SaysWhereItFails) {
  struct Case {
    DirectIo direct;
    bool works;
    const char* says;
  };
  for (const Case& c : {Case{{0, 0, 512, "BLKSSZGET"}, true, "512 bytes alignment by BLKSSZGET"},
                        Case{{0, 0, std::nullopt, ""}, true, "opens and reads"},
                        Case{{EINVAL, 0, std::nullopt, ""}, false, "open fails: Invalid argument"},
                        Case{{0, EINVAL, 512, "STATX_DIOALIGN"}, false, "an aligned read fails: Invalid argument"}}) {
    std::vector<std::string> probes;
    EXPECT_EQ(judge_direct_io(c.direct, probes), c.works);
    EXPECT_THAT(joined(probes), HasSubstr(c.says));
  }
}

}  // namespace
}  // namespace aiolos
