// SPDX-License-Identifier: Apache-2.0
// The few things that host/ reads from libvirt's XML. Pure. The model of a whole <disk> is config_guest_disk's.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace aiolos {

/// What identifies a disk of a guest.
struct DiskIdentity {
  std::string target;  ///< <target dev=...>
  std::string alias;   ///< <alias name=...>; empty before libvirt gave one.
  std::string serial;
  std::string source;  ///< <source>'s own attributes, as one string; empty without a source.
};

/// Of a `<disk>` document; nullopt if it is none or has no target.
std::optional<DiskIdentity> disk_identity(const std::string& disk_xml);

/// The disk at `target` in a `<domain>` document.
std::optional<DiskIdentity> find_disk(const std::string& domain_xml, const std::string& target);

/// What the live XML of a domain says of storage in QEMU.
struct LiveStorage {
  std::set<unsigned long> nodes;  ///< N of the nodes libvirt-N-*, of whole chains: <source index='N'>.
  std::set<std::string> aliases;  ///< Of all devices.
  std::set<std::string> sources;  ///< DiskIdentity::source of all disks.
};

LiveStorage live_storage(const std::string& domain_xml);

/// What to look for in QEMU's names of images.
struct DiskImage {
  std::string name;             ///< For people: "'/x.img'", "rbd image 'pool/volume'".
  std::string source;           ///< DiskIdentity::source.
  std::string path;             ///< File, block device or socket; empty for network storage.
  std::set<std::string> words;  ///< Otherwise the words of its name there; empty if it has none.
  bool is_socket = false;       ///< Of a vhost-user back end: QEMU has a character device for it, and no block node.
};

/// Of a `<disk>` document; nullopt if it is none or has no source.
std::optional<DiskImage> disk_image(const std::string& disk_xml);

/// The parts of a storage's name, whatever separates them: "pool/volume" and "json:{"pool":"pool",...}" share theirs.
std::set<std::string> words_of(std::string_view name);

/// A domain with one disk of this `io` mode, complete enough for virConnectDomainXMLToNative.
std::string domain_with_disk(const std::string& virt_type, const std::string& io);

}  // namespace aiolos
