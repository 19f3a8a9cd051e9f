// SPDX-License-Identifier: Apache-2.0
// dm-multipath maps, which multipathd makes of the paths to a volume: finding, resizing and removing them.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scsi/device.h"

namespace aiolos::scsi {

/// What the link to a map begins with; its WWID follows.
constexpr std::string_view kMapLink = "/dev/disk/by-id/dm-uuid-mpath-";

/// A multipath map. It is known by its UUID, "mpath-WWID"; its name may be an alias (user_friendly_names).
struct Map {
  std::string name;  ///< "36001405..." or "mpatha"
  std::string wwid;
  std::string device;              ///< "dm-0"
  std::vector<std::string> disks;  ///< Its paths' block devices: "sda". May be empty.

  /// The link that udev makes by the UUID: unlike the name and the number it stays with the volume.
  std::string link() const { return std::string(kMapLink) + wwid; }
};

/// Whether a volume's node is a map's.
inline bool is_map_link(std::string_view node) { return node.starts_with(kMapLink); }

/// The map of a WWID.
std::optional<Map> find_map(const Sysfs& sysfs, std::string_view wwid);
/// The map that a disk is a path of.
std::optional<Map> map_over(const Sysfs& sysfs, const std::string& disk);

/// How device mapper uses a map's paths: block device -> true if active, false if failed.
/// @return ErrorKind::storage if dmsetup does not know the map.
Result<std::map<std::string, bool>> path_states(sdk::Call& call, const Sysfs& sysfs, const Map& map);

/// Has multipathd make a map of these disks, even of one alone and whatever its find_multipaths, and waits for it.
/// @param disks paths to the volume of that WWID. @param timeout for all of it. @return the map with at least those of
/// the disks that multipathd took by then; nullopt, after a warning that says why, if it makes none (it does not run,
/// or the volume is blacklisted). Writes the WWID to multipath's list of known ones: call it in an effect.
Result<std::optional<Map>> make_map(sdk::Call& call, const Sysfs& sysfs, const std::string& wwid,
                                    const std::vector<Disk>& disks,
                                    std::chrono::milliseconds timeout = std::chrono::seconds(15));

/// Gives the map the size that its paths have by now. @return ErrorKind::storage if multipathd refuses.
Result<void> resize_map(sdk::Call& call, const Map& map);

/// Removes a map that nobody uses, and its WWID from multipath's list; gone already is success. Flush it first. Call it
/// in an effect.
/// @param give_up_io fails what waits for a path in a map without one, instead of waiting with it.
/// @return ErrorKind::retry if it stays.
Result<void> remove_map(sdk::Call& call, const Sysfs& sysfs, const Map& map, bool give_up_io);

}  // namespace aiolos::scsi
