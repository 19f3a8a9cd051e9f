// SPDX-License-Identifier: Apache-2.0
// The few things that host/ reads from libvirt's XML. Pure. The model of a whole <disk> is config_guest_disk's.
#pragma once

#include <optional>
#include <string>

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

/// A domain with one disk of this `io` mode, complete enough for virConnectDomainXMLToNative.
std::string domain_with_disk(const std::string& virt_type, const std::string& io);

}  // namespace aiolos
