// SPDX-License-Identifier: Apache-2.0
#include "scsi/paths.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "scsi/use.h"

namespace aiolos::scsi {
namespace {

using namespace std::chrono_literals;

constexpr auto kLinkTimeout = 30s;      // udev took 12 s under load
constexpr auto kFlushTimeout = 30s;     // of a path that works
constexpr auto kLostFlushTimeout = 5s;  // of one that does not: this only tells whether something is left to flush

/// A path whose disk is there.
struct DiskPath {
  Disk disk;
  std::string name;  ///< "portal 10.0.0.1:3260 (sda)"
};

std::vector<DiskPath> disks_of(const Sysfs& sysfs, const std::vector<Path>& paths) {
  std::vector<DiskPath> found;
  for (const Path& path : paths)
    if (std::optional<Disk> disk = find_disk(sysfs, path.address)) {
      std::string name = path.name + " (" + disk->name + ")";
      found.push_back({*std::move(disk), std::move(name)});
    }
  return found;
}

bool contains(const std::vector<DiskPath>& paths, const std::string& disk) {
  return std::any_of(paths.begin(), paths.end(), [&](const DiskPath& path) { return path.disk.name == disk; });
}

/// The paths, and those that the volume's map has besides.
std::vector<DiskPath> with_paths_of_map(const Sysfs& sysfs, const std::vector<Path>& paths,
                                        const std::optional<Map>& map) {
  std::vector<DiskPath> all = disks_of(sysfs, paths);
  if (!map) return all;
  for (const std::string& name : map->disks)
    if (std::optional<Disk> disk = disk_named(sysfs, name); disk && !contains(all, name))
      all.push_back({*std::move(disk), "path " + name});
  return all;
}

tl::unexpected<Error> other_volume(const std::string& message) {
  return sdk::fail(
      ErrorKind::refused, message,
      "find out on the storage which volume is mapped where; detach the volume by force if it is not there "
      "any more");
}

struct Identity {
  std::string wwid;
  std::string shown_by;  ///< The path's name.
};

/// The WWID that all paths show; those that do not answer are left out.
Result<Identity> common_wwid(sdk::Call& call, const std::vector<DiskPath>& paths) {
  std::optional<Identity> known;
  std::optional<Error> silent;
  for (const DiskPath& path : paths) {
    Result<std::string> wwid = read_wwid(call, path.disk);
    if (!wwid) {
      call.warning(path.name + ": " + wwid.error().message);
      silent = std::move(wwid).error();
    } else if (known && known->wwid != *wwid) {
      return other_volume("the paths lead to two volumes: " + known->shown_by + " shows WWID " + known->wwid + ", " +
                          path.name + " shows " + *wwid);
    } else if (!known) {
      known = Identity{*std::move(wwid), path.name};
    }
  }
  if (known) return *std::move(known);
  if (silent) return tl::unexpected(*std::move(silent));
  return sdk::fail(ErrorKind::retry, "no path to the volume has a disk any more", "check the paths, then try again");
}

/// Where a link below /dev leads: "sda", "dm-0"; empty if nowhere.
std::string device_behind(const std::string& link) {
  std::error_code error;
  const std::filesystem::path node = std::filesystem::canonical(link, error);
  return error ? std::string() : node.filename().string();
}

bool leads_to_volume(const std::string& link, const std::vector<DiskPath>& disks, const std::optional<Map>& map) {
  const std::string device = device_behind(link);
  return contains(disks, device) || (map && map->device == device);
}

/// Whether a link leads to a path of the volume that is none of these: udev gives a link that several disks claim to
/// any of them, and the kernel scans the LUNs of a port that comes back by itself.
bool leads_to_another_path(sdk::Call& call, const Sysfs& sysfs, const std::string& link, const std::string& wwid) {
  const std::optional<Disk> disk = disk_named(sysfs, device_behind(link));
  if (!disk || !is_running(sysfs, disk->address)) return false;
  const Result<std::string> shown = read_wwid(call, *disk);
  return shown && *shown == wwid;
}

/// A name of this very disk: its link by path if udev has made one. Another volume's after a renumbering, so only where
/// there is no better one.
std::string own_node(const Disk& disk) {
  std::error_code error;
  for (const auto& link : std::filesystem::directory_iterator("/dev/disk/by-path", error))
    if (device_behind(link.path()) == disk.name) return link.path();
  return disk.node();
}

Result<std::optional<Map>> wanted_map(sdk::Call& call, const Sysfs& sysfs, const std::string& wwid,
                                      const std::vector<DiskPath>& paths, bool use_multipath) {
  if (!use_multipath) return find_map(sysfs, wwid);
  std::vector<Disk> disks;
  for (const DiskPath& path : paths) disks.push_back(path.disk);
  AIOLOS_TRY(std::optional<Map> map,
             call.effect("make the multipath map of " + wwid, [&] { return make_map(call, sysfs, wwid, disks); }));
  if (!map) call.warning("the volume is used over one path only, " + paths.front().name);
  return map;
}

/// Why a path cannot take part in a change of size; nullopt if it can.
std::optional<std::string> why_down(const Sysfs& sysfs, const DiskPath& path,
                                    const std::map<std::string, bool>& states) {
  const std::string state = device_state(sysfs, path.disk.address);
  if (state != "running") return state.empty() ? "gone" : state;
  const auto known = states.find(path.disk.name);
  if (known != states.end() && !known->second) return "failed in the multipath map";
  return std::nullopt;
}

tl::unexpected<Error> path_down(const std::string& path, const std::string& why) {
  return sdk::fail(ErrorKind::refused, "the volume cannot be extended while a path is down: " + path + " is " + why,
                   "bring the path back (or detach and attach the volume without it), then extend again");
}

Result<void> check_all_up(sdk::Call& call, const Sysfs& sysfs, const std::vector<Path>& paths,
                          const std::vector<DiskPath>& disks, const std::optional<Map>& map) {
  for (const Path& path : paths)
    if (!find_disk(sysfs, path.address)) return path_down(path.name, "gone");
  std::map<std::string, bool> states;
  if (map) {
    AIOLOS_TRY(states, path_states(call, sysfs, *map));
  }
  for (const DiskPath& path : disks)
    if (const auto why = why_down(sysfs, path, states)) return path_down(path.name, *why);
  return {};
}

/// Refuses a device that has less than it was to get.
Result<std::uint64_t> check_size(const Sysfs& sysfs, const std::string& device, std::uint64_t bytes,
                                 const std::string& next) {
  const std::uint64_t size = size_of(sysfs, device);
  if (size >= bytes) return size;
  return sdk::fail(ErrorKind::storage,
                   "/dev/" + device + " has " + std::to_string(size) + " bytes, less than the " +
                       std::to_string(bytes) + " asked for",
                   next);
}

/// kpartx's maps of the partitions, which go with the map.
std::vector<std::string> partition_maps(const Sysfs& sysfs, const Map& map) {
  std::vector<std::string> found;
  for (const std::string& holder : holders_of(sysfs, map.device)) {
    const std::string uuid = sysfs.attribute("class/block/" + holder + "/dm/uuid").value_or("");
    if (uuid.starts_with("part") && uuid.ends_with("-mpath-" + map.wwid)) found.push_back(holder);
  }
  return found;
}

Result<void> check_map_unused(const Sysfs& sysfs, const Map& map) {
  const std::vector<std::string> partitions = partition_maps(sysfs, map);
  for (const std::string& partition : partitions) AIOLOS_CHECK(check_unused(sysfs, partition));
  return check_unused(sysfs, map.device, partitions);
}

Result<void> flush_or_give_up(sdk::Call& call, const std::string& device, bool works, bool force) {
  const Result<void> flushed = flush(call, device, works ? kFlushTimeout : kLostFlushTimeout);
  if (flushed) return {};
  if (!force)
    return sdk::fail(ErrorKind::retry, flushed.error().message,
                     "bring a path back and try again; or give up with --force what has not reached the storage");
  call.warning("given up: " + flushed.error().message);
  return {};
}

std::optional<Map> map_of(const Sysfs& sysfs, const std::vector<DiskPath>& disks, const std::string& wwid) {
  if (!wwid.empty()) return find_map(sysfs, wwid);
  for (const DiskPath& path : disks)
    if (std::optional<Map> map = map_over(sysfs, path.disk.name)) return map;
  return std::nullopt;
}

}  // namespace

Result<Published> publish(sdk::Call& call, const Sysfs& sysfs, const std::vector<Path>& paths, bool use_multipath) {
  const std::vector<DiskPath> disks = disks_of(sysfs, paths);
  AIOLOS_TRY(const Identity identity, common_wwid(call, disks));
  const std::string& wwid = identity.wwid;
  AIOLOS_TRY(std::optional<Map> map, wanted_map(call, sysfs, wwid, disks, use_multipath));
  // Below a map the link that names the WWID is the map's. /dev/sda can be another volume after the next login, and a
  // link in by-path is one after the LUN was renumbered.
  const std::string link = map ? map->link() : "/dev/disk/by-id/scsi-" + wwid;
  std::string node;
  wait_until(kLinkTimeout, [&] {
    if (!map) map = find_map(sysfs, wwid);  // multipathd may make one unasked
    if (leads_to_volume(link, disks, map))
      node = link;
    else if (!map && leads_to_another_path(call, sysfs, link, wwid))
      node = own_node(disks.front().disk);
    return !node.empty();
  });
  if (!node.empty()) return Published{wwid, std::move(node)};
  return sdk::fail(ErrorKind::retry, "udev has made no link " + link + " to " + disks.front().disk.node(),
                   "check that udev runs (udevadm settle), then try again");
}

Result<void> verify(sdk::Call& call, const Sysfs& sysfs, const std::vector<Path>& paths, const std::string& wwid,
                    const std::string& node) {
  const std::optional<Map> map = find_map(sysfs, wwid);
  const std::vector<DiskPath> disks = with_paths_of_map(sysfs, paths, map);
  std::size_t answered = 0;
  for (const DiskPath& path : disks) {
    if (!is_running(sysfs, path.disk.address)) continue;  // a question would wait for as long as the path is down
    const Result<std::string> shown = read_wwid(call, path.disk);
    if (!shown) continue;
    if (*shown != wwid)
      return other_volume(path.name + " now leads to another volume: it shows WWID " + *shown +
                          ", and the volume that was connected has " + wwid);
    ++answered;
  }
  if (answered == 0)
    return sdk::fail(ErrorKind::retry,
                     "none of " + std::to_string(paths.size()) + " paths to volume " + wwid +
                         " answers, so it cannot be told whether it is still the same one",
                     "bring a path back and try again; detach --force takes the disk from the guest all the same");
  if (leads_to_volume(node, disks, map)) return {};
  const std::string device = device_behind(node);
  if (device.empty())
    return sdk::fail(ErrorKind::retry, node + " is gone, though the volume is not",
                     "check that udev runs: udevadm trigger");
  return other_volume(node + " leads to /dev/" + device + ", which is not the volume " + wwid);
}

Result<std::uint64_t> extend(sdk::Call& call, const Sysfs& sysfs, const std::vector<Path>& paths,
                             const std::string& wwid, std::uint64_t bytes) {
  const std::optional<Map> map = find_map(sysfs, wwid);
  const std::vector<DiskPath> disks = with_paths_of_map(sysfs, paths, map);
  AIOLOS_CHECK(check_all_up(call, sysfs, paths, disks, map));
  std::uint64_t size = 0;
  for (const DiskPath& path : disks) {
    AIOLOS_CHECK(rescan(call, sysfs, path.disk));
    AIOLOS_TRY(size,
               check_size(sysfs, path.disk.name, bytes, "grow the volume on the storage first, then extend again"));
  }
  if (!map) return size;
  if (size_of(sysfs, map->device) != size) AIOLOS_CHECK(resize_map(call, *map));
  return check_size(sysfs, map->device, bytes,
                    "look at multipath -ll and multipathd's log for what keeps the map small");
}

Result<void> release_map(sdk::Call& call, const Sysfs& sysfs, const std::vector<Path>& paths, const std::string& wwid,
                         bool force) {
  const std::vector<DiskPath> disks = disks_of(sysfs, paths);
  const std::optional<Map> map = map_of(sysfs, disks, wwid);
  if (!map) return {};
  for (const std::string& disk : map->disks)
    if (!contains(disks, disk)) return {};  // it goes on with the paths that others have
  AIOLOS_CHECK(check_map_unused(sysfs, *map));
  const bool works = std::any_of(disks.begin(), disks.end(),
                                 [&](const DiskPath& path) { return is_running(sysfs, path.disk.address); });
  AIOLOS_CHECK(flush_or_give_up(call, map->device, works, force));
  return call.effect("remove the multipath map " + map->name,
                     [&] { return remove_map(call, sysfs, *map, force || !works); });
}

Result<void> flush_disk(sdk::Call& call, const Sysfs& sysfs, const Path& path, bool force) {
  const std::optional<Disk> disk = find_disk(sysfs, path.address);
  if (!disk) return {};
  std::vector<std::string> ignored;
  // A map that is still there has paths of others, or release_map would have taken it: it goes on without this one.
  if (const std::optional<Map> map = map_over(sysfs, disk->name)) ignored.push_back(map->device);
  AIOLOS_CHECK(check_unused(sysfs, disk->name, ignored));
  return flush_or_give_up(call, disk->name, is_running(sysfs, path.address), force);
}

Result<void> release_disk(sdk::Call& call, const Sysfs& sysfs, const Path& path, bool force) {
  if (device_state(sysfs, path.address).empty()) return {};
  AIOLOS_CHECK(flush_disk(call, sysfs, path, force));
  return call.effect("delete SCSI device " + to_string(path.address) + " of " + path.name,
                     [&] { return delete_device(call, sysfs, path.address); });
}

}  // namespace aiolos::scsi
