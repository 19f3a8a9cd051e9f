// SPDX-License-Identifier: Apache-2.0
// Stacks of block devices, from folders that play sysfs.
#include "block_stack.h"

#include "support.h"

namespace aiolos {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Builds a sysfs tree device by device.
class BlockStackTest : public testing::Test {
 protected:
  /// A disk "NAME" with device number 253:`minor`, 1 GiB, 512-byte blocks.
  void disk(const std::string& name, unsigned minor) {
    const std::string folder = dir_ / ("devices/" + name);
    write_file(folder + "/dev", "253:" + std::to_string(minor) + "\n");
    write_file(folder + "/size", "2097152\n");
    write_file(folder + "/queue/logical_block_size", "512\n");
    fs::create_directories(dir_ / "dev/block");
    fs::create_directory_symlink(folder, dir_ / ("dev/block/253:" + std::to_string(minor)));
  }
  void partition(const std::string& of, const std::string& name, unsigned minor) {
    const std::string folder = dir_ / ("devices/" + of + "/" + name);
    write_file(folder + "/partition", "1\n");
    write_file(folder + "/size", "2048\n");
    fs::create_directory_symlink(folder, dir_ / ("dev/block/253:" + std::to_string(minor)));
  }
  void mapped(const std::string& name, unsigned minor, const std::string& uuid,
              const std::vector<std::string>& slaves) {
    disk(name, minor);
    const std::string folder = dir_ / ("devices/" + name);
    write_file(folder + "/dm/uuid", uuid + "\n");
    write_file(folder + "/dm/name", "map-" + name + "\n");
    slaves_of(name, slaves);
  }
  void slaves_of(const std::string& name, const std::vector<std::string>& slaves) {
    const std::string folder = dir_ / ("devices/" + name + "/slaves");
    fs::create_directories(folder);
    for (const std::string& slave : slaves)
      fs::create_directory_symlink(dir_ / ("devices/" + slave), folder + "/" + fs::path(slave).filename().string());
  }
  BlockStackFacts inspect(unsigned minor) {
    const Result<BlockStackFacts> facts = inspect_block_stack(dir_.path(), 253, minor, hooks_);
    EXPECT_TRUE(facts) << describe(facts.error());
    return facts.value_or(BlockStackFacts{});
  }
  std::string allocation(unsigned minor) { return std::string(to_string(inspect(minor).verdict.allocation)); }

  TempDir dir_;
  BlockStackHooks hooks_;
};

TEST_F(BlockStackTest, PlainDisksByName) {
  disk("sda", 0);
  disk("nvme0n1", 1);
  disk("zram0", 2);
  disk("rbd0", 3);
  disk("nbd0", 4);
  disk("weird0", 5);
  disk("zd16", 6);
  EXPECT_EQ(allocation(0), "full");
  EXPECT_EQ(allocation(1), "full");
  EXPECT_EQ(allocation(2), "thin");
  EXPECT_EQ(allocation(3), "full");
  EXPECT_EQ(allocation(4), "full");
  EXPECT_EQ(allocation(5), "unknown");
  EXPECT_EQ(allocation(6), "thin");
}

TEST_F(BlockStackTest, SizeAndBlockSize) {
  disk("sda", 0);
  write_file(dir_ / "devices/sda/queue/logical_block_size", "4096\n");
  partition("sda", "sda1", 1);
  EXPECT_EQ(inspect(0).size, 1073741824U);
  EXPECT_EQ(inspect(0).logical_block_size, 4096U);
  const BlockStackFacts part = inspect(1);
  EXPECT_EQ(part.name, "sda1");
  EXPECT_EQ(part.size, 1048576U);
  EXPECT_EQ(part.logical_block_size, 4096U);
  EXPECT_EQ(part.verdict.allocation, Allocation::full);
  EXPECT_THAT(joined(part.verdict.probes), HasSubstr("sda1: partition of sda"));
}

TEST_F(BlockStackTest, AnArraysThinLunIsTheArraysOwnWork) {
  disk("sdb", 0);
  write_file(dir_ / "devices/sdb/device/scsi_disk/2:0:0:1/thin_provisioning", "1\n");
  EXPECT_EQ(allocation(0), "full");
  EXPECT_THAT(joined(inspect(0).verdict.probes), HasSubstr("provisions this LUN thinly"));
}

TEST_F(BlockStackTest, ThickLv) {
  disk("sda", 0);
  mapped("dm-0", 1, "LVM-abcdef", {"sda"});
  EXPECT_EQ(allocation(1), "full");
}

TEST_F(BlockStackTest, ThinLvStandsOnATpool) {
  disk("sda", 0);
  mapped("dm-1", 1, "LVM-abc-tdata", {"sda"});
  mapped("dm-2", 2, "LVM-abc-tmeta", {"sda"});
  mapped("dm-3", 3, "LVM-abc-tpool", {"dm-1", "dm-2"});
  mapped("dm-4", 4, "LVM-abcthin", {"dm-3"});
  EXPECT_EQ(allocation(4), "thin");
  EXPECT_THAT(joined(inspect(4).verdict.probes), HasSubstr("stands on the thin pool dm-3"));
  EXPECT_EQ(allocation(3), "thin");
  EXPECT_EQ(allocation(1), "full");
}

TEST_F(BlockStackTest, WhatStandsOnAThinLvIsThin) {
  disk("sda", 0);
  mapped("dm-3", 3, "LVM-abc-tpool", {"sda"});
  mapped("dm-4", 4, "LVM-abcthin", {"dm-3"});
  mapped("dm-5", 5, "CRYPT-LUKS2-x-luks", {"dm-4"});
  partition("dm-5", "dm-5p1", 6);
  EXPECT_EQ(allocation(5), "thin");
  EXPECT_EQ(allocation(6), "thin");
}

TEST_F(BlockStackTest, OneThinLegMakesAMirrorThin) {
  disk("sda", 0);
  mapped("dm-3", 3, "LVM-abc-tpool", {"sda"});
  mapped("dm-4", 4, "LVM-abcthin", {"dm-3"});
  disk("md0", 7);
  fs::create_directories(dir_ / "devices/md0/md");
  slaves_of("md0", {"dm-4", "sda"});
  EXPECT_EQ(allocation(7), "thin");
}

TEST_F(BlockStackTest, SnapshotsAndVdoAllocate) {
  disk("sda", 0);
  mapped("dm-1", 1, "LVM-abc-cow", {"sda"});
  mapped("dm-2", 2, "LVM-abc-real", {"sda"});
  mapped("dm-3", 3, "LVM-snap", {"dm-1", "dm-2"});
  mapped("dm-4", 4, "LVM-origin", {"dm-2"});
  mapped("dm-5", 5, "VDO-1234", {"sda"});
  mapped("dm-6", 6, "LVM-abc-vpool", {"sda"});
  mapped("dm-7", 7, "LVM-vdolv", {"dm-6"});
  for (const unsigned minor : {3U, 4U, 5U, 7U}) EXPECT_EQ(allocation(minor), "thin") << minor;
}

TEST_F(BlockStackTest, MultipathAndItsPartitions) {
  disk("sda", 0);
  disk("sdb", 1);
  mapped("dm-0", 2, "mpath-3600140512345", {"sda", "sdb"});
  mapped("dm-1", 3, "part1-mpath-3600140512345", {"dm-0"});
  EXPECT_EQ(allocation(2), "full");
  EXPECT_EQ(allocation(3), "full");
}

TEST_F(BlockStackTest, WhereSysfsSaysNothingTheTableDecides) {
  disk("sda", 0);
  mapped("dm-0", 1, "", {"sda"});
  struct Case {
    std::optional<std::string> table;
    std::string expected;
  };
  for (const Case& c : {Case{"0 2048 linear 253:0 0\n", "full"}, Case{"0 2048 thin 253:0 1\n", "thin"},
                        Case{"0 2048 linear 253:0 0\n2048 2048 snapshot 1 2 P 8\n", "thin"},
                        Case{"0 2048 mystery 1\n", "unknown"}, Case{std::nullopt, "unknown"}}) {
    hooks_.dm_table = [&](unsigned major, unsigned minor) {
      EXPECT_EQ(major, 253U);
      EXPECT_EQ(minor, 1U);
      return c.table;
    };
    EXPECT_EQ(allocation(1), c.expected) << c.table.value_or("(none)");
  }
}

TEST_F(BlockStackTest, LoopIsAsItsFile) {
  disk("loop0", 0);
  write_file(dir_ / "devices/loop0/loop/backing_file", "/images/x.img\n");
  hooks_.loop_file = [](const std::string& path) -> Result<Verdict> {
    EXPECT_EQ(path, "/images/x.img");
    return Verdict{Allocation::sparse, {"holes"}};
  };
  EXPECT_EQ(allocation(0), "sparse");
  EXPECT_THAT(joined(inspect(0).verdict.probes), HasSubstr("loop device over the file '/images/x.img'\nholes"));

  hooks_.loop_file = [](const std::string&) -> Result<Verdict> { return fail(ErrorKind::storage, "it has gone"); };
  EXPECT_EQ(allocation(0), "unknown");
  EXPECT_THAT(joined(inspect(0).verdict.probes), HasSubstr("it has gone"));

  write_file(dir_ / "devices/loop0/loop/backing_file", "/images/x.img (deleted)\n");
  EXPECT_EQ(allocation(0), "unknown");
}

TEST_F(BlockStackTest, ACircleEnds) {
  disk("sda", 0);
  mapped("dm-0", 1, "CRYPT-a", {});
  mapped("dm-1", 2, "CRYPT-b", {"dm-0"});
  slaves_of("dm-0", {"dm-1"});
  EXPECT_EQ(allocation(1), "unknown");
  EXPECT_THAT(joined(inspect(1).verdict.probes), HasSubstr("too deep"));
}

TEST_F(BlockStackTest, UnknownNumberIsAStorageError) {
  const Result<BlockStackFacts> facts = inspect_block_stack(dir_.path(), 9, 9, hooks_);
  ASSERT_FALSE(facts);
  EXPECT_EQ(facts.error().kind, ErrorKind::storage);
}

}  // namespace
}  // namespace aiolos
