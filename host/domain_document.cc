// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/domain_document.h"

#include <fmt/format.h>

#include <pugixml.hpp>
#include <sstream>
#include <vector>

namespace aiolos {

Result<std::string> replace_disks(const std::string& domain_xml, const std::map<std::string, std::string>& disks) {
  const auto broken = [](const std::string& what) {
    return fail(ErrorKind::hypervisor, fmt::format("the XML of {} is none that libvirt would make", what),
                "look at it with virsh dumpxml --migratable");
  };
  pugi::xml_document document;
  pugi::xml_node devices;
  if (document.load_string(domain_xml.c_str(), pugi::parse_full)) devices = document.child("domain").child("devices");
  if (!devices) return broken("the guest");
  std::vector<pugi::xml_node> present;
  for (const pugi::xml_node& disk : devices.children("disk")) present.push_back(disk);
  for (const pugi::xml_node& disk : present) {
    const auto wanted = disks.find(disk.child("target").attribute("dev").value());
    if (wanted == disks.end()) continue;
    if (!wanted->second.empty()) {
      pugi::xml_document replacement;
      if (!replacement.load_string(wanted->second.c_str(), pugi::parse_full) || !replacement.child("disk"))
        return broken("disk " + wanted->first);
      devices.insert_copy_before(replacement.child("disk"), disk);
    }
    devices.remove_child(disk);
  }
  std::ostringstream text;
  document.save(text, "  ", pugi::format_indent | pugi::format_no_declaration);
  return std::move(text).str();
}

}  // namespace aiolos
