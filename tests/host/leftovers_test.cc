// SPDX-License-Identifier: Apache-2.0
// Which of QEMU's block nodes no disk accounts for, by canned answers.
#include "leftovers.h"

#include "support.h"

namespace aiolos {
namespace {

constexpr const char* kDomain = R"(<domain><devices>
  <disk type='file'><source file='/a' index='3'/>
    <backingStore type='file' index='2'><source file='/base'/></backingStore>
    <target dev='vda'/><alias name='virtio-disk0'/></disk>
  <controller type='scsi' index='9'><alias name='scsi0'/></controller>
</devices></domain>)";

Json node(const std::string& name, const std::string& file) { return {{"node-name", name}, {"file", file}}; }

DiskImage image_of(const std::string& source) {
  return disk_image("<disk>" + source + "<target dev='vdb'/></disk>").value_or(DiskImage{});
}

const DiskImage kPath = image_of("<source file='/x.img'/>");

TEST(LiveStorage, HasNumbersOfWholeChainsAndAliases) {
  const LiveStorage live = live_storage(kDomain);
  EXPECT_EQ(live.nodes, (std::set<unsigned long>{2, 3})) << "and no controller's index";
  EXPECT_EQ(live.aliases, (std::set<std::string>{"virtio-disk0", "scsi0"}));
  EXPECT_EQ(live.sources, (std::set<std::string>{"file=/a;"}));
}

TEST(LeftoversOf, AreNodesDevicesAndObjectsWithoutALiveDisk) {
  const QemuBlocks blocks = read_qemu_blocks(
      {node("libvirt-3-format", "/a"), node("libvirt-2-storage", "/base"), node("libvirt-7-storage", "/x.img"),
       node("libvirt-pflash0-storage", "/fw"), node("#block1", "/a"), node("#block2", "/x.img")},
      {{{"qdev", "/machine/peripheral/virtio-disk0/virtio-backend"}, {"inserted", node("libvirt-3-format", "/a")}},
       {{"qdev", "scsi0-0-0-1"}, {"inserted", node("libvirt-7-format", "/x.img")}},
       {{"qdev", "empty-drive"}}},
      {{{"name", "libvirt-3-storage-auth-secret0"}},
       {{"name", "libvirt-7-storage-auth-secret0"}},
       {{"name", "objlibvirt-7-storage_tls0"}},
       {{"name", "masterKey0"}},
       {{"name", "pc.ram"}}});
  const QemuBlocks left = leftovers_of(blocks, live_storage(kDomain), kPath);
  std::vector<std::string> nodes;
  for (const BlockNode& each : left.nodes) nodes.push_back(each.name);
  EXPECT_EQ(nodes, (std::vector<std::string>{"libvirt-7-storage", "#block2"}));
  ASSERT_EQ(left.devices.size(), 1U);
  EXPECT_EQ(left.devices[0].id, "scsi0-0-0-1");
  EXPECT_EQ(left.objects, (std::vector<std::string>{"libvirt-7-storage-auth-secret0", "objlibvirt-7-storage_tls0"}));
  EXPECT_EQ(held_text(left, kPath), "node 'libvirt-7-storage' of '/x.img', node '#block2' of '/x.img'");
  EXPECT_EQ(held_text(left, image_of("<source file='/y.img'/>")), "");
}

TEST(LeftoversOf, ALiveDisksFiltersAreNone) {
  const QemuBlocks blocks =
      read_qemu_blocks({node("#block1", "/a"), node("libvirt-CoR-vda", "/a")}, Json::array(), Json::array());
  EXPECT_TRUE(leftovers_of(blocks, live_storage(kDomain), image_of("<source file='/a'/>")).empty());
}

struct HoldCase {
  const char* node;
  const char* source;
  bool holds;
};

TEST(MayHold, ComparesPathsExactlyAndNetworkNamesByTheirWords) {
  const char* rbd = R"(json:{"driver":"raw","file":{"driver":"rbd","pool":"vms","image":"volume-1","user":"cinder"}})";
  const char* named = "<source protocol='rbd' name='vms/volume-1'><host name='mon' port='6789'/></source>";
  for (const HoldCase& each : {
           HoldCase{"/dev/sda", "<source dev='/dev/sda'/>", true},
           HoldCase{"/dev/sda1", "<source dev='/dev/sda'/>", false},
           HoldCase{R"(json:{"driver":"raw","offset":"0","file":{"driver":"file","filename":"/x"}})",
                    "<source file='/x'/>", true},
           HoldCase{rbd, named, true}, HoldCase{rbd, "<source protocol='rbd' name='vms/volume-10'/>", false},
           HoldCase{"nbd://127.0.0.1:10809/export", "<source protocol='nbd' name='export'/>", true},
           HoldCase{"nbd://127.0.0.1:10809", "<source protocol='nbd'><host name='127.0.0.1' port='10809'/></source>",
                    true},
           HoldCase{"nbd://127.0.0.1:10809", "<source protocol='nbd'><host name='127.0.0.1' port='1'/></source>",
                    false},
           HoldCase{"nvme://0000:01:00.0/1", "<source type='pci' namespace='1'/>", true},  // can't be told
       })
    EXPECT_EQ(may_hold({"libvirt-7-storage", each.node, 7}, image_of(each.source)), each.holds)
        << each.node << " and " << each.source;
}

TEST(DiskImageOf, NeedsASource) {
  EXPECT_FALSE(disk_image("<disk device='cdrom'><target dev='sda'/></disk>"));
  EXPECT_FALSE(disk_image("<interface/>"));
  EXPECT_EQ(kPath.name, "'/x.img'");
  EXPECT_EQ(image_of("<source protocol='rbd' name='a/b'/>").name, "rbd image 'a/b'");
}

}  // namespace
}  // namespace aiolos
