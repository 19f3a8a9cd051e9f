// SPDX-License-Identifier: Apache-2.0
// Attaching a disk, and what is left when that failed.
#include "disk_attachment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "disk_removal.h"
#include "leftovers.h"
#include "libvirt_error.h"
#include "signal_block.h"

namespace aiolos {
namespace {

// For taking back a disk whose attaching failed half way: the guest has just got it and can't be using it yet.
constexpr std::chrono::milliseconds kRollBackTimeout{10'000};

/// Refusals that libvirt gives before it asks QEMU for anything.
bool is_before_qemu(int code) {
  switch (code) {
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_NO_SECRET:
    case VIR_ERR_ACCESS_DENIED:
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_XML_ERROR:
    case VIR_ERR_XML_DETAIL:
    case VIR_ERR_INVALID_ARG:
      return true;
    default:
      return false;
  }
}

/// Takes a disk that an attachment left behind away again. Only if it is the very one that was asked for: another
/// caller may have put its own at the same target in the meantime.
Result<void> roll_back(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool persistent,
                       const std::string& disk_xml, const DiskIdentity& wanted, std::chrono::milliseconds again) {
  const auto is_ours = [&](unsigned flags) -> Result<bool> {
    const Result<std::string> xml = xml_of(*libvirt.api, domain, flags);
    if (!xml) return tl::unexpected(xml.error());
    const std::optional<DiskIdentity> disk = find_disk(*xml, wanted.target);
    return disk && disk->source == wanted.source && disk->serial == wanted.serial;
  };
  const Result<bool> live = is_ours(0);
  if (!live) return tl::unexpected(live.error());
  if (*live)
    if (auto removed = remove_live_disk(libvirt, domain, disk_xml, wanted.target, kRollBackTimeout, again); !removed)
      return removed;
  if (!persistent) return {};
  const Result<bool> defined = is_ours(VIR_DOMAIN_XML_INACTIVE);
  if (!defined) return tl::unexpected(defined.error());
  return *defined ? remove_persistent_disk(libvirt, domain, disk_xml, wanted.target) : Result<void>();
}

/// libvirt's numbers may be behind QEMU's nodes, or a device of nobody may sit where the disk should go.
void explain_leftovers(const QemuBlocks& left, const std::string& guest, Error& error) {
  std::vector<std::string> names;
  for (const BlockNode& node : left.nodes) names.push_back(fmt::format("node '{}' of '{}'", node.name, node.image));
  for (const BlockDevice& device : left.devices) names.push_back(fmt::format("device '{}'", device.id));
  if (names.empty()) return;
  error.next += fmt::format(
      "; QEMU of guest '{}' also has what libvirt does not know of, from an attach that was cut off, and uses it: {}. "
      "Detach that disk while the guest's system runs, or shut the guest off and start it again",
      guest, fmt::join(names, ", "));
}

}  // namespace

Result<Presence> presence(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool persistent,
                          const std::string& target) {
  const Result<std::string> live = xml_of(*libvirt.api, domain, 0);
  if (!live) return tl::unexpected(live.error());
  Presence found{find_disk(*live, target).has_value(), false};
  if (!persistent) return found;
  const Result<std::string> defined = xml_of(*libvirt.api, domain, VIR_DOMAIN_XML_INACTIVE);
  if (!defined) return tl::unexpected(defined.error());
  found.persistent = find_disk(*defined, target).has_value();
  return found;
}

tl::expected<void, AttachRefusal> request_attach(const LibvirtConnection::Open& libvirt, virDomainPtr domain,
                                                 bool persistent, const std::string& disk_xml,
                                                 const DiskIdentity& wanted) {
  const LibvirtApi& api = *libvirt.api;
  unsigned flags = VIR_DOMAIN_AFFECT_LIVE;
  if (persistent) flags |= VIR_DOMAIN_AFFECT_CONFIG;
  const std::string what = fmt::format("attach disk '{}' to guest '{}'", wanted.target, api.virDomainGetName(domain));
  const SignalBlock until_libvirt_is_done;
  if (api.virDomainAttachDeviceFlags(domain, disk_xml.c_str(), flags) == 0) return {};
  const int code = last_libvirt_code(api);
  return tl::unexpected(AttachRefusal{last_libvirt_error(api, what), code});
}

Aftermath settle_failed_attach(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool persistent,
                               const std::string& disk_xml, int code, std::chrono::milliseconds detach_again,
                               Error& error) {
  const std::optional<DiskIdentity> wanted = disk_identity(disk_xml);
  const std::optional<DiskImage> image = disk_image(disk_xml);
  if (!wanted) return {};
  if (const auto undone = roll_back(libvirt, domain, persistent, disk_xml, *wanted, detach_again); !undone) {
    error.message += "; and taking it back failed: " + undone.error().message;
    return {};
  }
  // A disk without a source (an empty drive) holds nothing; nor does a guest that ended.
  if (!image || is_before_qemu(code) || libvirt.api->virDomainIsActive(domain) == 0) return {true, false};
  const Result<Removal> removal = remove_unused_nodes(libvirt, domain, *image);
  if (!removal) {
    error.message += "; and what QEMU has of it is not known: " + removal.error().message;
    return {};
  }
  explain_leftovers(removal->left, libvirt.api->virDomainGetName(domain), error);
  return {held_text(removal->left, *image).empty(), removal->any || !removal->left.nodes.empty()};
}

Result<void> remove_persistent_disk(const LibvirtConnection::Open& libvirt, virDomainPtr domain,
                                    const std::string& disk_xml, const std::string& target) {
  const LibvirtApi& api = *libvirt.api;
  if (api.virDomainIsPersistent(domain) != 1) return {};
  const Result<std::string> defined = xml_of(api, domain, VIR_DOMAIN_XML_INACTIVE);
  if (!defined) return tl::unexpected(defined.error());
  if (!find_disk(*defined, target)) return {};
  const std::string what = fmt::format("take disk '{}' out of the persistent definition of guest '{}'", target,
                                       api.virDomainGetName(domain));
  const SignalBlock until_libvirt_is_done;
  if (api.virDomainDetachDeviceFlags(domain, disk_xml.c_str(), VIR_DOMAIN_AFFECT_CONFIG) == 0) return {};
  return tl::unexpected(last_libvirt_error(api, what));
}

}  // namespace aiolos
