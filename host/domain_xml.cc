// SPDX-License-Identifier: Apache-2.0
// The few things that host/ reads from libvirt's XML.
#include "domain_xml.h"

#include <fmt/format.h>

#include <pugixml.hpp>

namespace aiolos {
namespace {

std::optional<DiskIdentity> identity_of(const pugi::xml_node& disk) {
  DiskIdentity identity;
  identity.target = disk.child("target").attribute("dev").value();
  if (identity.target.empty()) return std::nullopt;
  identity.alias = disk.child("alias").attribute("name").value();
  identity.serial = disk.child("serial").text().get();
  for (const pugi::xml_attribute& attribute : disk.child("source").attributes()) {
    // libvirt adds this one to live disks; it does not say which storage it is.
    if (std::string_view(attribute.name()) == "index") continue;
    identity.source += fmt::format("{}={};", attribute.name(), attribute.value());
  }
  return identity;
}

}  // namespace

std::optional<DiskIdentity> disk_identity(const std::string& disk_xml) {
  pugi::xml_document document;
  if (!document.load_string(disk_xml.c_str()) || !document.child("disk")) return std::nullopt;
  return identity_of(document.child("disk"));
}

std::optional<DiskIdentity> find_disk(const std::string& domain_xml, const std::string& target) {
  pugi::xml_document document;
  if (!document.load_string(domain_xml.c_str())) return std::nullopt;
  for (const pugi::xml_node& disk : document.child("domain").child("devices").children("disk"))
    if (std::optional<DiskIdentity> identity = identity_of(disk); identity && identity->target == target)
      return identity;
  return std::nullopt;
}

std::string domain_with_disk(const std::string& virt_type, const std::string& io) {
  return fmt::format(R"(<domain type='{}'>
  <name>aiolos-question</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='{}'/>
      <source file='/dev/null'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>)",
                     virt_type, io);
}

}  // namespace aiolos
