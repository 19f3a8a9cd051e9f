// SPDX-License-Identifier: Apache-2.0
#include "engine_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "aiolos/disk/disk_xml.h"

namespace aiolos {
namespace {

// Of rings for one disk: beyond a few, more cost memory and wake-ups and give nothing.
constexpr unsigned kMostRings = 4;
// QEMU tries to connect again that often, for as long as it takes, while the daemon is away.
constexpr std::uint64_t kReconnectSeconds = 1;
// Source: virtio 1.2, 5.2.6.
constexpr std::size_t kLongestSerial = 20;

tl::unexpected<Error> cannot_serve(const std::string& why, const std::string& next) {
  return fail(ErrorKind::refused, "aiolos-engine cannot serve this disk: " + why,
              next + ", or let QEMU do its I/O: disk_info {\"data_plane\": \"qemu\"}");
}

bool is_local_path(const disk::DiskConfig& disk) {
  return disk.type == disk::SourceType::file || disk.type == disk::SourceType::block;
}

}  // namespace

std::optional<std::string> engine_disk_name(const std::string& disk_xml) {
  if (disk_xml.find("vhostuser") == std::string::npos) return std::nullopt;
  const auto parsed = disk::parse(disk_xml);
  if (!parsed || parsed->disk.type != disk::SourceType::vhostuser || !parsed->disk.source.path) return std::nullopt;
  const std::string& socket = *parsed->disk.source.path;
  return socket.substr(socket.rfind('/') + 1);
}

Result<AioRoom> AttachmentFlows::EngineDisk::room(const HostFacts& host) {
  const auto reserved = flows_.outstanding_reservations();
  if (!reserved) return tl::unexpected(reserved.error());
  std::uint64_t contexts = 0;
  for (const ReservedContexts& each : *reserved) contexts += each.contexts;
  return AioRoom{1, contexts * kAioEventsPerContext, host.aio_nr};
}

Result<void> AttachmentFlows::EngineDisk::check_able(const disk::DiskConfig& disk) const {
  if (!is_local_path(disk))
    return cannot_serve("its source is no file or block device of this host", "use a driver that connects one");
  if (disk.driver.type != "raw")
    return cannot_serve(fmt::format("its format is {}, and the engine knows raw only", disk.driver.type.value_or("?")),
                        "convert it (qemu-img convert -O raw)");
  if (disk.encryption)
    return cannot_serve("the volume is encrypted, and it is QEMU that has the key", "use an unencrypted volume");
  if (disk.iotune) return cannot_serve("it has limits (qos_specs), which QEMU enforces", "leave the limits out");
  if (disk.target.bus != disk::Bus::virtio)
    return cannot_serve(fmt::format("vhost-user disks are on the bus virtio, not {}",
                                    disk.target.bus ? disk::to_string(*disk.target.bus) : "none"),
                        "use bus virtio");
  if (disk.device.value_or(disk::DeviceKind::disk) != disk::DeviceKind::disk)
    return cannot_serve("it is no plain disk", "use type disk");
  return {};
}

Result<void> AttachmentFlows::EngineDisk::place(disk::DiskConfig& disk, const HostFacts&,
                                                std::vector<std::string>& notes) {
  if (auto able = check_able(disk); !able) return able;
  const auto guest = flows_.machine_.hypervisor().domain_engines(domain_.uuid, /*ask_qemu=*/false);
  if (!guest) return tl::unexpected(guest.error());
  if (!guest->shared_memory)
    return cannot_serve(fmt::format("the memory of domain '{}' is not shared", domain_.name),
                        "start the guest with <memoryBacking><source type='memfd'/><access mode='shared'/>"
                        "</memoryBacking>");
  const auto disks = flows_.guest_disks(domain_.uuid);
  if (!disks) return tl::unexpected(disks.error());
  if (auto free = check_source_free(*disks, domain_.name, disk); !free) return free;

  DataPlaneDisk served;
  served.name = fmt::format("{}-{}", domain_.uuid, volume_.disk_info.dev);
  served.socket = fmt::format("{}/{}", flows_.config_.data_plane.sockets, served.name);
  served.path = disk.source.file ? *disk.source.file : disk.source.dev.value_or("");
  served.group = domain_.uuid;
  served.serial = disk.serial.value_or("").substr(0, kLongestSerial);
  served.aio = disk.driver.io.value_or(AioMode::threads);
  served.read_only = disk.readonly;
  served.direct = uses_o_direct(disk.driver.cache);
  served.queues = std::clamp(guest->vcpus, 1U, kMostRings);

  disk::DiskConfig remote;
  remote.type = disk::SourceType::vhostuser;
  remote.device = disk::DeviceKind::disk;
  remote.snapshot = disk::SnapshotMode::no;
  remote.driver.name = "qemu";
  remote.driver.type = "raw";
  remote.driver.queues = served.queues;
  remote.source.type = "unix";
  remote.source.path = served.socket;
  remote.source.reconnect.ensure().enabled = true;
  remote.source.reconnect->timeout = kReconnectSeconds;
  remote.target = disk.target;
  remote.boot = disk.boot;
  remote.address = disk.address;
  if (auto valid = disk::validate(remote); !valid) return valid;

  notes.push_back(
      fmt::format("aiolos-engine does its I/O ({}): its queue is sized by all disks that it serves, and the "
                  "drain at live migration is bounded",
                  to_string(served.aio)));
  if (disk.blockio) notes.emplace_back("the guest is shown the storage's own block size, not that of the volume");
  disk = std::move(remote);
  served_ = std::move(served);
  return {};
}

}  // namespace aiolos
