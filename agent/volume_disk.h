// SPDX-License-Identifier: Apache-2.0
// From a volume (connection_info, disk_info, a driver's attachment) to its `<disk>`: what all storage types share.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "aiolos/agent/config.h"
#include "aiolos/core/attachment.h"
#include "aiolos/core/json_document.h"
#include "aiolos/disk/disk_config.h"

namespace aiolos {

/// disk_info, checked: where the disk shows up in the guest.
struct DiskInfo {
  disk::Bus bus = disk::Bus::virtio;
  std::string dev;  ///< "vdb"
  disk::DeviceKind type = disk::DeviceKind::disk;
  std::optional<std::uint64_t> unit;        ///< Unit number on SCSI controller 0.
  std::optional<std::uint64_t> boot_index;  ///< Boot order, from 1.
  std::optional<DataPlaneKind> data_plane;  ///< Who is to do its I/O, whatever is configured.
};

/// Reads {"bus", "dev", "type", "unit", "boot_index", "data_plane"}; null is as good as absent. ErrorKind::bad_input
/// with the pointer, also for a member that is unknown or means nothing; profile nova passes over those.
Result<DiskInfo> parse_disk_info(const JsonNode& disk_info, AioProfile profile);

/// What connection_info says of every volume, whatever its storage. Views the document's texts.
struct VolumeInfo {
  std::string_view type;  ///< driver_volume_type
  std::optional<std::string_view> serial;
  std::string_view volume_id;  ///< data.volume_id, else the serial; names the volume's LUKS secret. May be empty.
  bool multiattach = false;
  bool readonly = false;
  bool discard = false;
  bool encrypted = false;
  std::optional<std::uint64_t> logical_block_size;   ///< Bytes.
  std::optional<std::uint64_t> physical_block_size;  ///< Bytes.
  disk::Box<disk::IoTune> iotune;
};

/// Reads the common part of a connection_info. ErrorKind::bad_input with the JSON pointer of what is wrong.
/// @param profile nova reads exactly what Nova's LibvirtBaseVolumeDriver.get_config reads.
Result<VolumeInfo> parse_volume_info(const JsonNode& connection_info, AioProfile profile);

/// The cache mode of a volume's disk: Nova's rule for every profile.
/// Source: Nova 26, LibvirtDriver._set_cache_mode.
CacheMode choose_cache_mode(const Config& config, SourceKind source, bool shareable);

/// Throttling limits that replace those a disk has.
struct QosLimits {
  std::map<std::string, std::uint64_t> values;  ///< Every key of <iotune> but the group's, 0 where there is no limit.
  std::string group;                            ///< Throttle group; empty for the one the disk is in.
};

/// Reads qos_specs, as connection_info has them, for a disk that is attached already. ErrorKind::bad_input also for a
/// key that is no limit.
Result<QosLimits> parse_qos_limits(const JsonNode& specs);

/// Puts limits into a disk's <iotune>.
void set_iotune(disk::DiskConfig& disk, const QosLimits& limits);

/// Puts the disk together.
/// @param volume,attachment what they own is taken over.
/// @param secret_uuid of the libvirt secret that opens a LUKS volume, if it is one.
/// @return an error where the attachment holds a word or port that libvirt does not know.
Result<disk::DiskConfig> build_disk(VolumeInfo&& volume, const DiskInfo& info, Attachment&& attachment, CacheMode cache,
                                    std::optional<AioMode> io, const std::optional<std::string>& secret_uuid,
                                    AioProfile profile);

}  // namespace aiolos
