// SPDX-License-Identifier: Apache-2.0
// What QEMU holds of disks that libvirt does not know of, and how it is made to let go.
//
// libvirt attaches a disk by a few commands to QEMU (object-add, blockdev-add for the storage and for the format,
// device_add) and then saves its own state, with the counter that numbers the nodes: libvirt-7-storage. The embedded
// driver that is killed in between, or a daemon, leaves QEMU with what it had got so far. The image stays open; and
// since the counter was not saved, the next attach of any disk uses the same number and fails ("Duplicate nodes").
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/json.h"
#include "domain_xml.h"
#include "libvirt_connection.h"

namespace aiolos {

/// A block node of QEMU, one layer of an image.
struct BlockNode {
  std::string name;                     ///< "libvirt-7-storage", "#block123"
  std::string image;                    ///< As QEMU names it: a path, "json:{...}", "nbd://..."
  std::optional<unsigned long> number;  ///< N of libvirt-N-*; absent for nodes that libvirt does not number.
};

/// A guest's device that has a block node.
struct BlockDevice {
  std::string id;  ///< libvirt's alias: "virtio-disk1", "scsi0-0-0-1"
  BlockNode node;  ///< The topmost.
};

/// QEMU's block layer, or a part of it.
struct QemuBlocks {
  std::vector<BlockNode> nodes;
  std::vector<BlockDevice> devices;
  std::vector<std::string> objects;  ///< Of /objects: secrets and TLS credentials are named after their nodes.

  bool empty() const { return nodes.empty() && devices.empty() && objects.empty(); }
};

/// @param nodes,devices,objects what QEMU returned to query-named-block-nodes, query-block, qom-list of /objects. Pure.
QemuBlocks read_qemu_blocks(const Json& nodes, const Json& devices, const Json& objects);

/// The part that no disk of the live XML accounts for. Nodes without a number only if no live disk has `image`. Pure.
QemuBlocks leftovers_of(const QemuBlocks& blocks, const LiveStorage& live, const DiskImage& image);

/// Whether the node's image is, or may be, `image`: exact for paths, by all words of the name for network storage.
/// Pure.
bool may_hold(const BlockNode& node, const DiskImage& image);

/// "node 'libvirt-7-format' of '/x.img', used by device 'virtio-disk1'" for each node that holds `image`; empty if none
/// does. Pure.
std::string held_text(const QemuBlocks& leftovers, const DiskImage& image);

/// What an attempt to remove leftovers did.
struct Removal {
  bool any = false;  ///< Something was removed.
  QemuBlocks left;   ///< And this is what stayed.
};

/// Removes the numbered nodes that nothing in QEMU uses and no disk of the live XML has, whatever their image, with
/// their secrets. Never a device. Safe at any time: QEMU refuses to remove a node in use.
/// @param image whose leftovers `left` should have besides.
Result<Removal> remove_unused_nodes(const LibvirtConnection::Open& libvirt, virDomainPtr domain,
                                    const DiskImage& image);

/// As Hypervisor::release_leftovers, for a running domain whose live XML does not show the disk. Unplugs devices that
/// hold the image too, for which the guest must answer: asks again every `again`, until `timeout`.
Result<void> remove_leftovers(const LibvirtConnection::Open& libvirt, virDomainPtr domain, const DiskImage& image,
                              std::chrono::milliseconds timeout, std::chrono::milliseconds again);

}  // namespace aiolos
