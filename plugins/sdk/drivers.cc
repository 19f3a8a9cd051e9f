// SPDX-License-Identifier: Apache-2.0
// The driver classes of the SDK: defaults of the root, and what block and network storage have in common. What volumes
// on mounted shares have in common is share.cc's.
#include <fmt/format.h>

#include "aiolos/plugin.hpp"

namespace aiolos::sdk {
namespace {

/// What a method answers that the host never calls, its slot being NULL.
tl::unexpected<Error> not_overridden(std::string_view method) {
  return aiolos::fail(ErrorKind::bug, fmt::format("the driver has no {}", method),
                      "report this to the author of the plugin");
}

}  // namespace

Result<void> VolumeDriver::init(Call&) { return {}; }

Result<std::string> VolumeDriver::target(const Volume&) const { return not_overridden("target"); }

Result<Attachment> VolumeDriver::connect(Call&, const Volume& volume) { return describe(volume); }

Result<void> VolumeDriver::disconnect(Call&, const Volume&, const Attachment*, bool) { return {}; }

Result<std::uint64_t> VolumeDriver::extend(Call&, const Volume&, const Attachment&, std::uint64_t) {
  return not_overridden("extend");
}

Result<void> VolumeDriver::verify(Call&, const Volume&, const Attachment&) { return {}; }

Result<StorageFacts> VolumeDriver::facts(Call& call, const Volume&, const Attachment& attachment) {
  if (attachment.source.kind == SourceKind::network) return StorageFacts{};
  return call.probe(attachment.source.path, attachment.format);
}

Result<Attachment> BlockVolumeDriver::describe(const Volume& volume) const {
  const Value device_path = volume.data().at("device_path");
  if (!device_path)
    return device_path.error("the volume is not connected: its device_path is not known",
                             "connect the volume first, or add /data/device_path");
  AIOLOS_TRY(const std::string_view path, device_path.string());
  if (!path.starts_with('/'))
    return device_path.error(fmt::format("'{}' is no absolute path", path), "give the path below /dev");
  Attachment attachment;
  attachment.source.kind = SourceKind::block;
  attachment.source.path = path;
  return attachment;
}

Result<AioAdvice> BlockVolumeDriver::aio_mode(const Attachment&, const StorageFacts* facts) const {
  return advise_remote_block(facts, storage_);
}

Result<Attachment> NetworkVolumeDriver::describe(const Volume& volume) const {
  const Value data = volume.data();
  Attachment attachment;
  attachment.source.kind = SourceKind::network;
  attachment.source.protocol = volume.type();
  AIOLOS_TRY(attachment.source.name, data.at("name").find_string());
  // As Nova: pairs by position, as many as both lists have. Source: nova/virt/libvirt/config.py, hosts_info.
  const Value hosts = data.at("hosts");
  const Value ports = data.at("ports");
  const std::size_t count = std::min(hosts.size(), ports.size());
  attachment.source.hosts.reserve(count);
  for (std::size_t index = 0; index < count; ++index) {
    AIOLOS_TRY(const std::string_view name, hosts[index].string());
    SourceHost host;
    host.name = name;
    if (const Value port = ports[index]) {
      AIOLOS_TRY(host.port, port.text());
    }
    attachment.source.hosts.push_back(std::move(host));
  }
  return attachment;
}

Result<AioAdvice> NetworkVolumeDriver::aio_mode(const Attachment& attachment, const StorageFacts*) const {
  return advise_network_client(attachment.source.protocol);
}

}  // namespace aiolos::sdk
