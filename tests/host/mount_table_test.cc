// SPDX-License-Identifier: Apache-2.0
// The mount table from fixtures: escapes, options, and which mount really holds a path.
#include "aiolos/host/mount_table.h"

#include "support.h"

namespace aiolos {
namespace {

constexpr const char* kMountinfo =
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro\n"
    "23 22 0:21 / /proc rw - proc proc rw\n"
    "30 22 0:40 / /mnt/a\\040b\\011c\\134d rw,noatime master:3 propagate_from:2 - nfs4 server:/ex\\040port "
    "rw,vers=4.2,soft,noatime,addr=10.0.0.1\n"
    "31 22 8:1 / /srv rw - xfs /dev/sda1 rw\n"
    "32 31 8:2 / /srv/inner rw - ext4 /dev/sdb1 rw\n"
    "33 22 8:3 / /srv rw - btrfs /dev/sdc1 rw\n"  // hides both above: mounted on the root mount's /srv... later
    "40 22 8:4 / /over rw - ext4 /dev/sdd1 rw\n"
    "41 40 8:5 / /over rw - xfs /dev/sde1 rw\n"  // stacked on the same target
    "50 22 8:6 / /pre rw - ext4 /dev/sdf1 rw\n"
    "this is no line\n"
    "60 22 0:50 / /fuse rw - fuse.quobyte quobyte@reg/vol rw\n"
    "61 22 0:51 / /nosuper rw - tmpfs tmpfs\n";

class MountTableTest : public testing::Test {
 protected:
  MountTableTest() { write_file(dir_ / "mountinfo", kMountinfo); }
  std::string source_of(const std::string& path) {
    const Result<Mount> mount = table_->holding(path);
    return mount ? mount->source : "error: " + describe(mount.error());
  }
  TempDir dir_;
  std::unique_ptr<MountTable> table_ = make_mount_table(dir_ / "mountinfo");
};

TEST_F(MountTableTest, ListsAllInOrderWithEscapesUndone) {
  const Result<std::vector<Mount>> mounts = table_->list();
  ASSERT_TRUE(mounts);
  ASSERT_EQ(mounts->size(), 11U);
  EXPECT_EQ((*mounts)[2].target, "/mnt/a b\tc\\d");
  EXPECT_EQ((*mounts)[2].source, "server:/ex port");
  EXPECT_EQ((*mounts)[2].fstype, "nfs4");
  EXPECT_EQ((*mounts)[10].fstype, "tmpfs");
}

TEST_F(MountTableTest, OptionsAreTheMountsOwnThenTheFileSystems) {
  const Result<Mount> mount = table_->holding("/mnt/a b\tc\\d/volume");
  ASSERT_TRUE(mount);
  EXPECT_EQ(mount->options, "rw,noatime,vers=4.2,soft,addr=10.0.0.1");
}

TEST_F(MountTableTest, HoldsByComponentNotByCharacters) {
  EXPECT_EQ(source_of("/"), "/dev/vda");
  EXPECT_EQ(source_of("/etc/passwd"), "/dev/vda");
  EXPECT_EQ(source_of("/proc"), "proc");
  EXPECT_EQ(source_of("/process"), "/dev/vda");
  EXPECT_EQ(source_of("/prefix/x"), "/dev/vda");
  EXPECT_EQ(source_of("/pre/x"), "/dev/sdf1");
  EXPECT_EQ(source_of("/fuse/a/b"), "quobyte@reg/vol");
}

TEST_F(MountTableTest, ALaterMountHidesWhatLiesBelowIt) {
  EXPECT_EQ(source_of("/srv/x"), "/dev/sdc1");
  EXPECT_EQ(source_of("/srv/inner/x"), "/dev/sdc1");
  EXPECT_EQ(source_of("/over/x"), "/dev/sde1");
}

TEST_F(MountTableTest, RelativePathIsBadInput) {
  const Result<Mount> mount = table_->holding("volume");
  ASSERT_FALSE(mount);
  EXPECT_EQ(mount.error().kind, ErrorKind::bad_input);
}

TEST_F(MountTableTest, ChrootWithoutARootMountUsesWhatIsListed) {
  const std::vector<MountEntry> entries = parse_mountinfo("70 1 8:1 / /data rw - xfs /dev/sda1 rw\n");
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_NE(mount_holding(entries, "/data/x"), nullptr);
  EXPECT_EQ(mount_holding(entries, "/other"), nullptr);
}

TEST_F(MountTableTest, ATableThatIsNoTreeEndsAllTheSame) {
  const std::vector<MountEntry> entries =
      parse_mountinfo("1 2 8:1 / /a rw - xfs one rw\n2 1 8:1 / /a rw - xfs two rw\n3 3 8:1 / /a rw - xfs three rw\n");
  EXPECT_NE(mount_holding(entries, "/a/x"), nullptr);
}

TEST_F(MountTableTest, MissingTableIsAConfigurationError) {
  const Result<std::vector<Mount>> mounts = make_mount_table(dir_ / "nothing")->list();
  ASSERT_FALSE(mounts);
  EXPECT_EQ(mounts.error().kind, ErrorKind::configuration);
}

TEST(MountTableOfThisHost, HoldsTheRoot) {
  const Result<Mount> mount = make_mount_table()->holding("/");
  ASSERT_TRUE(mount) << describe(mount.error());
  EXPECT_EQ(mount->target, "/");
  const Result<Mount> proc = make_mount_table()->holding("/proc/self/status");
  ASSERT_TRUE(proc);
  EXPECT_EQ(proc->fstype, "proc");
}

}  // namespace
}  // namespace aiolos
