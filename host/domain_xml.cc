// SPDX-License-Identifier: Apache-2.0
// The few things that host/ reads from libvirt's XML.
#include "domain_xml.h"

#include <fmt/format.h>

#include <cctype>
#include <pugixml.hpp>
#include <utility>

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

/// Every `index` below `node`: those of <source> and, by version of libvirt, of <backingStore> and <mirror>.
void collect_indexes(const pugi::xml_node& node, std::set<unsigned long>& indexes) {
  if (const unsigned long long index = node.attribute("index").as_ullong(); index != 0) indexes.insert(index);
  for (const pugi::xml_node& child : node.children()) collect_indexes(child, indexes);
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

LiveStorage live_storage(const std::string& domain_xml) {
  LiveStorage live;
  pugi::xml_document document;
  if (!document.load_string(domain_xml.c_str())) return live;
  for (const pugi::xml_node& device : document.child("domain").child("devices").children()) {
    if (const std::string alias = device.child("alias").attribute("name").value(); !alias.empty())
      live.aliases.insert(alias);
    if (std::string_view(device.name()) != "disk") continue;
    collect_indexes(device, live.nodes);
    if (const std::optional<DiskIdentity> identity = identity_of(device)) live.sources.insert(identity->source);
  }
  return live;
}

std::set<std::string> words_of(std::string_view name) {
  std::set<std::string> words;
  std::string word;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 ||
        std::string_view("._-+").find(c) != std::string_view::npos) {
      word += c;
    } else if (!word.empty()) {
      words.insert(std::exchange(word, {}));
    }
  }
  if (!word.empty()) words.insert(word);
  return words;
}

std::optional<DiskImage> disk_image(const std::string& disk_xml) {
  pugi::xml_document document;
  if (!document.load_string(disk_xml.c_str())) return std::nullopt;
  const pugi::xml_node disk = document.child("disk");
  const std::optional<DiskIdentity> identity = identity_of(disk);
  const pugi::xml_node source = disk.child("source");
  if (!identity || !source) return std::nullopt;
  DiskImage image;
  image.source = identity->source;
  image.is_socket = std::string_view(disk.attribute("type").value()) == "vhostuser";
  for (const char* attribute : {"file", "dev", "path"})
    if (image.path.empty()) image.path = source.attribute(attribute).value();
  if (!image.path.empty()) {
    image.name = fmt::format("'{}'", image.path);
    return image;
  }
  std::string name = source.attribute("name").value();
  if (name.empty()) name = source.attribute("volume").value();
  if (name.empty()) name = source.attribute("dir").value();
  image.name = fmt::format("{} image '{}'", source.attribute("protocol").as_string("storage"), name);
  image.words = words_of(name);
  // An export without a name is known by its server only.
  if (image.words.empty())
    for (const char* attribute : {"name", "port", "socket"})
      image.words.merge(words_of(source.child("host").attribute(attribute).value()));
  return image;
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
