// SPDX-License-Identifier: Apache-2.0
// Disks changed in a guest's XML.
#include "aiolos/host/domain_document.h"

#include <gmock/gmock.h>

namespace aiolos {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const char* const kGuest = R"(<domain type='kvm'>
  <name>g</name>
  <metadata><a:x xmlns:a="urn:a">1 &lt; 2</a:x></metadata>
  <devices>
    <emulator>/usr/bin/qemu</emulator>
    <disk type='file'><source file='/a'/><target dev='sda' bus='scsi'/></disk>
    <disk type='file'><source file='/b'/><target dev='vda' bus='virtio'/></disk>
    <console/>
  </devices>
</domain>)";

TEST(ReplaceDisks, KeepsTheOrder) {
  const auto changed =
      replace_disks(kGuest, {{"sda", "<disk type='block'><source dev='/new'/><target dev='sda'/></disk>"}});
  ASSERT_TRUE(changed);
  EXPECT_THAT(*changed, Not(HasSubstr("\"/a\"")));
  EXPECT_LT(changed->find("dev=\"/new\""), changed->find("file=\"/b\""));
  EXPECT_THAT(*changed, HasSubstr("1 &lt; 2"));
  EXPECT_THAT(*changed, HasSubstr("<console"));
}

TEST(ReplaceDisks, TakesDisksOut) {
  const auto changed = replace_disks(kGuest, {{"vda", ""}, {"vdz", "<disk><target dev='vdz'/></disk>"}});
  ASSERT_TRUE(changed);
  EXPECT_THAT(*changed, Not(HasSubstr("vda")));
  EXPECT_THAT(*changed, Not(HasSubstr("vdz"))) << "the guest has no such disk";
  EXPECT_THAT(*changed, HasSubstr("sda"));
}

TEST(ReplaceDisks, RefusesWhatIsNoDocument) {
  EXPECT_FALSE(replace_disks("<domain>", {}));
  EXPECT_FALSE(replace_disks("<domain/>", {}));
  EXPECT_FALSE(replace_disks(kGuest, {{"vda", "<nodisk/>"}}));
}

}  // namespace
}  // namespace aiolos
