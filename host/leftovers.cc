// SPDX-License-Identifier: Apache-2.0
// What QEMU holds of disks that libvirt does not know of.
#include "leftovers.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <set>
#include <string_view>
#include <thread>

#include "disk_removal.h"
#include "qemu_monitor.h"

namespace aiolos {
namespace {

using SteadyClock = std::chrono::steady_clock;

// How often QEMU is looked at while a guest is to release a device.
constexpr std::chrono::milliseconds kLookAgain{300};

/// libvirt names the character device of a vhost-user disk after the disk's alias.
/// Source: libvirt 9.0, qemuDomainGetVhostUserChrAlias.
constexpr std::string_view kVhostUserPrefix = "chr-vu-";

std::string text_at(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// N of "libvirt-N-storage".
std::optional<unsigned long> number_in(std::string_view name) {
  constexpr std::string_view kPrefix = "libvirt-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  unsigned long number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end == name.data() + name.size() || *end != '-') return std::nullopt;
  return number;
}

/// TLS credentials are "objlibvirt-N-storage_tls0"; all others begin with the node's name.
std::optional<unsigned long> number_of_object(std::string_view name) {
  if (name.starts_with("obj")) name.remove_prefix(3);
  return number_in(name);
}

BlockNode node_of(const Json& object) {
  const std::string name = text_at(object, "node-name");
  return {name, text_at(object, "file"), number_in(name)};
}

/// "virtio-disk1" of "/machine/peripheral/virtio-disk1/virtio-backend"; SCSI disks are named by their id alone.
std::string device_id(std::string_view qdev) {
  constexpr std::string_view kPeripheral = "/machine/peripheral/";
  if (!qdev.starts_with(kPeripheral)) return std::string(qdev);
  qdev.remove_prefix(kPeripheral.size());
  return std::string(qdev.substr(0, qdev.find('/')));
}

/// Every string value within `value`.
void collect_strings(const Json& value, std::vector<std::string>& strings) {
  if (value.is_string()) strings.push_back(value.get<std::string>());
  if (value.is_structured())
    for (const Json& part : value) collect_strings(part, strings);
}

/// The names in QEMU's name of an image: itself, or the values of "json:{...}".
std::vector<std::string> names_in(const std::string& image) {
  std::vector<std::string> names{image};
  if (image.starts_with("json:")) collect_strings(Json::parse(image.substr(5), nullptr, false), names);
  return names;
}

Result<QemuBlocks> ask_qemu(const QemuMonitor& monitor) {
  const Result<Json> nodes = monitor.run("query-named-block-nodes");
  if (!nodes) return tl::unexpected(nodes.error());
  const Result<Json> devices = monitor.run("query-block");
  if (!devices) return tl::unexpected(devices.error());
  const Result<Json> objects = monitor.run("qom-list", {{"path", "/objects"}});
  if (!objects) return tl::unexpected(objects.error());
  return read_qemu_blocks(*nodes, *devices, *objects);
}

/// QEMU first and the XML after it: what another caller attaches in between is then known to the XML only. The other
/// way round it would look like a leftover.
Result<QemuBlocks> look(const QemuMonitor& monitor, const LibvirtApi& api, virDomainPtr domain,
                        const DiskImage& image) {
  const Result<QemuBlocks> blocks = ask_qemu(monitor);
  if (!blocks) return blocks;
  const Result<std::string> xml = xml_of(api, domain, 0);
  if (!xml) return tl::unexpected(xml.error());
  return leftovers_of(*blocks, live_storage(*xml), image);
}

/// Users before what they use (format before storage, overlay before backing), found by trying: QEMU refuses the
/// others, and each round removes a layer.
bool delete_nodes(const QemuMonitor& monitor, std::vector<BlockNode> nodes) {
  bool any = false;
  std::erase_if(nodes, [](const BlockNode& node) { return !node.number; });
  while (true) {
    const auto gone = std::erase_if(nodes, [&](const BlockNode& node) {
      return monitor.run("blockdev-del", {{"node-name", node.name}}).has_value();
    });
    if (gone == 0) return any;
    any = true;
  }
}

/// Secrets whose node is not there (any more). QEMU would let go of one that is needed, too.
bool delete_objects(const QemuMonitor& monitor, const QemuBlocks& left) {
  bool any = false;
  for (const std::string& object : left.objects) {
    const auto number = number_of_object(object);
    const bool needed =
        std::ranges::any_of(left.nodes, [&](const BlockNode& node) { return node.number && node.number == number; });
    if (!needed && monitor.run("object-del", {{"id", object}})) any = true;
  }
  return any;
}

/// Character devices of vhost-user disks that no device of the live XML has. QEMU first and the XML after it, as in
/// look().
Result<std::vector<std::string>> leftover_sockets(const QemuMonitor& monitor, const LibvirtApi& api,
                                                  virDomainPtr domain) {
  const Result<Json> chardevs = monitor.run("query-chardev");
  if (!chardevs) return tl::unexpected(chardevs.error());
  const Result<std::string> xml = xml_of(api, domain, 0);
  if (!xml) return tl::unexpected(xml.error());
  const std::set<std::string> aliases = live_storage(*xml).aliases;
  std::vector<std::string> labels;
  for (const Json& chardev : *chardevs) {
    const std::string label = text_at(chardev, "label");
    if (label.starts_with(kVhostUserPrefix) && !aliases.contains(label.substr(kVhostUserPrefix.size())))
      labels.push_back(label);
  }
  return labels;
}

bool remove_chardev(const QemuMonitor& monitor, const std::string& label) {
  return monitor.run("chardev-remove", {{"id", label}}).has_value();
}

Result<Removal> remove_unused(const QemuMonitor& monitor, const LibvirtApi& api, virDomainPtr domain,
                              const DiskImage& image) {
  const Result<QemuBlocks> before = look(monitor, api, domain, image);
  if (!before) return tl::unexpected(before.error());
  Removal removal{false, *before};
  const auto sockets = leftover_sockets(monitor, api, domain);
  if (!sockets) return tl::unexpected(sockets.error());
  for (const std::string& label : *sockets) removal.any |= remove_chardev(monitor, label);
  if (before->nodes.empty() && before->objects.empty()) return removal;
  removal.any |= delete_nodes(monitor, before->nodes);
  Result<QemuBlocks> after = look(monitor, api, domain, image);
  if (!after) return tl::unexpected(after.error());
  if (delete_objects(monitor, *after)) removal.any = true;
  removal.left = std::move(*after);
  return removal;
}

void unplug(const QemuMonitor& monitor, const std::vector<BlockDevice>& devices) {
  // A refusal says that an earlier request is pending still; what counts is whether the device goes.
  for (const BlockDevice& device : devices) (void)monitor.run("device_del", {{"id", device.id}});
}

Error still_held(const std::string& guest, const std::string& held, const DiskImage& image, bool by_device) {
  return {ErrorKind::retry,
          fmt::format("QEMU of guest '{}' still holds {}: {}", guest, image.name, held),
          by_device ? "the guest was asked to release the device: see that its system has booted and does not use the "
                      "disk, then try again; a guest that is shut off releases it in any case"
                    : "a job of QEMU may use it: try again when that has ended, or after the guest was restarted",
          {}};
}

/// Unplugs devices on vhost-user sockets that the XML does not show, and takes the sockets away, which are in use until
/// the guest has released the device.
Result<void> release_sockets(const QemuMonitor& monitor, const LibvirtApi& api, virDomainPtr domain,
                             const DiskImage& image, SteadyClock::time_point deadline,
                             std::chrono::milliseconds again) {
  for (auto next_request = SteadyClock::now();; std::this_thread::sleep_for(kLookAgain)) {
    auto labels = leftover_sockets(monitor, api, domain);
    if (!labels) return tl::unexpected(labels.error());
    std::erase_if(*labels, [&](const std::string& label) { return remove_chardev(monitor, label); });
    if (labels->empty()) return {};
    if (SteadyClock::now() >= deadline)
      return tl::unexpected(still_held(api.virDomainGetName(domain),
                                       fmt::format("character device '{}'", labels->front()), image,
                                       /*by_device=*/true));
    if (SteadyClock::now() < next_request) continue;
    next_request = SteadyClock::now() + again;
    for (const std::string& label : *labels)
      (void)monitor.run("device_del", {{"id", label.substr(kVhostUserPrefix.size())}});
  }
}

}  // namespace

QemuBlocks read_qemu_blocks(const Json& nodes, const Json& devices, const Json& objects) {
  QemuBlocks blocks;
  for (const Json& node : nodes) blocks.nodes.push_back(node_of(node));
  for (const Json& device : devices)
    if (device.is_object() && device.contains("inserted"))
      blocks.devices.push_back({device_id(text_at(device, "qdev")), node_of(device["inserted"])});
  for (const Json& object : objects) blocks.objects.push_back(text_at(object, "name"));
  return blocks;
}

QemuBlocks leftovers_of(const QemuBlocks& blocks, const LiveStorage& live, const DiskImage& image) {
  const bool image_is_live = live.sources.contains(image.source);
  const auto is_leftover = [&](const BlockNode& node) {
    if (node.number) return !live.nodes.contains(*node.number);
    return !image_is_live && may_hold(node, image);
  };
  QemuBlocks left;
  std::ranges::copy_if(blocks.nodes, std::back_inserter(left.nodes), is_leftover);
  for (const BlockDevice& device : blocks.devices)
    if (!device.id.empty() && !live.aliases.contains(device.id) && is_leftover(device.node))
      left.devices.push_back(device);
  for (const std::string& object : blocks.objects)
    if (const auto number = number_of_object(object); number && !live.nodes.contains(*number))
      left.objects.push_back(object);
  return left;
}

bool may_hold(const BlockNode& node, const DiskImage& image) {
  const std::vector<std::string> names = names_in(node.image);
  if (!image.path.empty()) return std::ranges::find(names, image.path) != names.end();
  // Nothing to compare with: any node that libvirt numbered may be it.
  if (image.words.empty()) return node.number.has_value();
  std::set<std::string> words;
  for (const std::string& name : names) words.merge(words_of(name));
  return std::ranges::includes(words, image.words);
}

std::string held_text(const QemuBlocks& leftovers, const DiskImage& image) {
  std::string text;
  for (const BlockNode& node : leftovers.nodes) {
    if (!may_hold(node, image)) continue;
    text += fmt::format("{}node '{}' of '{}'", text.empty() ? "" : ", ", node.name, node.image);
    for (const BlockDevice& device : leftovers.devices)
      if (device.node.name == node.name) text += fmt::format(", used by device '{}'", device.id);
  }
  return text;
}

Result<Removal> remove_unused_nodes(const LibvirtConnection::Open& libvirt, virDomainPtr domain,
                                    const DiskImage& image) {
  const Result<QemuMonitor> monitor = QemuMonitor::open(*libvirt.api, domain);
  if (!monitor) return tl::unexpected(monitor.error());
  return remove_unused(*monitor, *libvirt.api, domain, image);
}

Result<void> remove_leftovers(const LibvirtConnection::Open& libvirt, virDomainPtr domain, const DiskImage& image,
                              std::chrono::milliseconds timeout, std::chrono::milliseconds again) {
  const Result<QemuMonitor> monitor = QemuMonitor::open(*libvirt.api, domain);
  if (!monitor) return tl::unexpected(monitor.error());
  const auto deadline = SteadyClock::now() + timeout;
  auto next_request = SteadyClock::now();
  if (image.is_socket) return release_sockets(*monitor, *libvirt.api, domain, image, deadline, again);
  while (true) {
    const Result<Removal> removal = remove_unused(*monitor, *libvirt.api, domain, image);
    if (!removal) return tl::unexpected(removal.error());
    const std::string held = held_text(removal->left, image);
    if (held.empty()) return {};
    std::vector<BlockDevice> devices = removal->left.devices;
    std::erase_if(devices, [&](const BlockDevice& device) { return !may_hold(device.node, image); });
    if (SteadyClock::now() >= deadline || devices.empty())
      return tl::unexpected(
          still_held(libvirt.api->virDomainGetName(domain), held, image, /*by_device=*/!devices.empty()));
    if (SteadyClock::now() >= next_request) {
      next_request = SteadyClock::now() + again;
      unplug(*monitor, devices);
    }
    std::this_thread::sleep_for(kLookAgain);
  }
}

}  // namespace aiolos
