// SPDX-License-Identifier: Apache-2.0
// SCSI devices and multipath maps, as sysfs shows them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scsi/device.h"
#include "scsi/multipath.h"
#include "scsi/use.h"
#include "temporary_tree.h"

namespace aiolos::scsi {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// Two disks at 2:0:0:1 and 3:0:0:1, of which a map is made, and a device at 2:0:0:0 that is no disk.
class ScsiTest : public testing::Test {
 protected:
  ScsiTest() : sysfs_(tree_.root()) {
    disk("2:0:0:1", "sda", "8:0");
    disk("3:0:0:1", "sdb", "8:16");
    tree_.file("devices/2:0:0:0/state", "running\n");
    tree_.link("class/scsi_device/2:0:0:0/device", "devices/2:0:0:0");
    tree_.file("devices/virtual/dm-0/dm/uuid", "mpath-36001405\n");
    tree_.file("devices/virtual/dm-0/dm/name", "mpatha\n");
    tree_.file("devices/virtual/dm-0/size", "2048\n");
    tree_.link("class/block/dm-0", "devices/virtual/dm-0");
    for (const char* name : {"sda", "sdb"}) {
      const std::string folder = std::string("class/block/") + name;
      tree_.link(folder + "/holders/dm-0", "devices/virtual/dm-0");
      tree_.link(std::string("devices/virtual/dm-0/slaves/") + name, folder);
    }
  }

  void disk(const std::string& address, const std::string& name, const std::string& number) {
    const std::string device = "devices/" + address;
    const std::string block = device + "/block/" + name;
    tree_.file(device + "/state", "running\n");
    tree_.file(block + "/dev", number + "\n");
    tree_.file(block + "/size", "131072\n");
    tree_.link(block + "/device", device);
    tree_.link("class/scsi_device/" + address + "/device", device);
    tree_.link("class/block/" + name, block);
  }

  test::TemporaryTree tree_;
  Sysfs sysfs_;
};

TEST(ScsiAddress, IsReadAndWritten) {
  EXPECT_EQ(to_string(Address{2, 0, 1, 16640}), "2:0:1:16640");
  EXPECT_EQ(parse_address("2:0:1:16640"), (Address{2, 0, 1, 16640}));
  for (const char* wrong : {"", "2:0:1", "2:0:1:1:1", "2:0:1:x", "a:0:1:1", "2::1:1", "2:0:1:1 "})
    EXPECT_FALSE(parse_address(wrong).has_value()) << wrong;
}

TEST_F(ScsiTest, DiskIsFoundByItsAddressAndByItsName) {
  const auto found = find_disk(sysfs_, {2, 0, 0, 1});
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->node(), "/dev/sda");
  EXPECT_EQ(disk_named(sysfs_, "sdb")->address, (Address{3, 0, 0, 1}));
  EXPECT_FALSE(find_disk(sysfs_, {2, 0, 0, 0}).has_value()) << "that is no disk";
  EXPECT_FALSE(find_disk(sysfs_, {2, 0, 0, 7}).has_value());
  EXPECT_FALSE(disk_named(sysfs_, "dm-0").has_value());
}

TEST_F(ScsiTest, DevicesOfATargetAreItsOwn) {
  EXPECT_THAT(devices_of(sysfs_, 2, 0, 0), ElementsAre(Address{2, 0, 0, 0}, Address{2, 0, 0, 1}));
  EXPECT_THAT(devices_of(sysfs_, 2, 0, 1), IsEmpty());
}

TEST_F(ScsiTest, StateAndSizeAreTheKernels) {
  EXPECT_TRUE(is_running(sysfs_, {2, 0, 0, 1}));
  tree_.file("devices/2:0:0:1/state", "transport-offline\n");
  EXPECT_EQ(device_state(sysfs_, {2, 0, 0, 1}), "transport-offline");
  EXPECT_FALSE(is_running(sysfs_, {2, 0, 0, 1}));
  EXPECT_EQ(device_state(sysfs_, {2, 0, 0, 7}), "");
  EXPECT_EQ(size_of(sysfs_, "sda"), 64u << 20);
  EXPECT_EQ(size_of(sysfs_, "sdz"), 0u);
}

TEST_F(ScsiTest, MapIsFoundByWwidAndByItsPathsWhateverItsName) {
  const auto map = find_map(sysfs_, "36001405");
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(map->name, "mpatha");
  EXPECT_EQ(map->link(), "/dev/disk/by-id/dm-uuid-mpath-36001405");
  EXPECT_THAT(map->disks, ElementsAre("sda", "sdb"));
  EXPECT_EQ(map_over(sysfs_, "sdb")->device, "dm-0");
  EXPECT_FALSE(find_map(sysfs_, "3600140").has_value());
}

TEST_F(ScsiTest, MapsOfOtherKindsAreNone) {
  tree_.file("devices/virtual/dm-0/dm/uuid", "LVM-36001405\n");
  EXPECT_FALSE(find_map(sysfs_, "36001405").has_value());
  EXPECT_FALSE(map_over(sysfs_, "sda").has_value());
}

TEST_F(ScsiTest, HoldersAreThoseOfPartitionsToo) {
  tree_.file("devices/2:0:0:1/block/sda/sda1/partition", "1\n");
  tree_.link("devices/2:0:0:1/block/sda/sda1/holders/dm-7", "devices/virtual/dm-0");
  EXPECT_THAT(holders_of(sysfs_, "sda"), ElementsAre("dm-0", "dm-7"));
  EXPECT_THAT(openers_of(sysfs_, "sda"), IsEmpty());
  EXPECT_TRUE(check_unused(sysfs_, "sda", {"dm-0", "dm-7"}).has_value());
}

TEST_F(ScsiTest, DeviceInUseIsRefusedWithItsUser) {
  const auto refused = check_unused(sysfs_, "sda");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::refused);
  EXPECT_EQ(refused.error().message, "/dev/sda is in use by /dev/dm-0");
}

}  // namespace
}  // namespace aiolos::scsi
