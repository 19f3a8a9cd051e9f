// SPDX-License-Identifier: Apache-2.0
#include "discovery.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace aiolos::fibre_channel {
namespace {

using namespace std::chrono_literals;

constexpr auto kScanInterval = 2s;  // as os-brick
// How long after a LIP an adapter may log in and a target port be Blocked until it is back; 10 s were seen.
constexpr auto kBlockedTimeout = 15s;

bool is_open(const Route& route) { return route.state == Route::State::open; }
bool is_blocked(const Route& route) { return route.state == Route::State::blocked; }

std::vector<Route> read_routes(const scsi::Sysfs& sysfs, const VolumeAddress& volume) {
  return routes_to(volume, read_adapters(sysfs));
}

/// Waits while all adapters still log in, or all of the volume's ports that could come back are Blocked.
/// @return false if none has come back.
bool wait_for_blocked_routes(sdk::Call& call, const scsi::Sysfs& sysfs, const VolumeAddress& volume) {
  const auto has_settled = [&] {
    const std::vector<Adapter> adapters = read_adapters(sysfs);
    if (is_logging_in(volume, adapters)) return false;
    const std::vector<Route> routes = routes_to(volume, adapters);
    return std::any_of(routes.begin(), routes.end(), is_open) || std::none_of(routes.begin(), routes.end(), is_blocked);
  };
  if (has_settled()) return true;
  call.info("the volume's target ports are Blocked, or this host's adapters are logging in: waiting for one");
  return scsi::wait_until(kBlockedTimeout, has_settled);
}

/// An adapter whose driver names no target ports is scanned at all of them; what that finds is there at the next look.
Result<void> scan_wildcards(sdk::Call& call, const scsi::Sysfs& sysfs, const VolumeAddress& volume) {
  if (!volume.may_scan_wildcards) return {};
  std::set<std::uint64_t> luns;
  for (const TargetLun& lun : volume.luns) luns.insert(lun.lun);
  for (const Adapter& adapter : without_target_ports(volume, read_adapters(sysfs)))
    for (const std::uint64_t lun : luns) {
      const std::string what = "scan " + adapter.name() + " for LUN " + std::to_string(lun) + " at all its ports";
      call.info(what + ": it names no target port");
      AIOLOS_CHECK(call.effect(what, [&] {
        return sysfs.write(call, "class/scsi_host/host" + std::to_string(adapter.host) + "/scan",
                           "- - " + std::to_string(lun));
      }));
    }
  return {};
}

/// The WWID that the kernel remembers of a disk, in udev's form; nullopt if it is of a kind whose forms differ.
std::optional<std::string> remembered_wwid(const scsi::Sysfs& sysfs, const scsi::Disk& disk) {
  constexpr std::string_view kNaa = "naa.";
  const std::string wwid = sysfs.attribute("class/block/" + disk.name + "/device/wwid").value_or("");
  if (!wwid.starts_with(kNaa)) return std::nullopt;
  return "3" + wwid.substr(kNaa.size());
}

/// Removes a disk of a volume that is not at its address any more: the kernel would go on with that one's size, and
/// udev with its links. @return ErrorKind::refused if somebody still uses it.
Result<void> remove_if_left_over(sdk::Call& call, const scsi::Sysfs& sysfs, const std::vector<scsi::Path>& present,
                                 const scsi::Path& path) {
  const std::optional<scsi::Disk> disk = scsi::find_disk(sysfs, path.address);
  if (!disk || !scsi::is_running(sysfs, path.address)) return {};
  const std::optional<std::string> remembered = remembered_wwid(sysfs, *disk);
  const Result<std::string> shown = scsi::read_wwid(call, *disk);
  if (!remembered || !shown || shown->size() != remembered->size() || *shown == *remembered) return {};
  call.warning(path.name + ": " + disk->name + " is left over of volume " + *remembered + "; the array shows " +
               *shown + " there now");
  const auto removed = scsi::release_map(call, sysfs, present, *remembered, /*force=*/false).and_then([&] {
    return scsi::release_disk(call, sysfs, path, /*force=*/false);
  });
  if (removed) return {};
  Error error = removed.error();
  error.message = path.name + " shows another volume (" + *shown + ") where this host still has " + *remembered + ": " +
                  error.message;
  return tl::unexpected(std::move(error));
}

Result<void> remove_leftovers(sdk::Call& call, const scsi::Sysfs& sysfs, const VolumeAddress& volume) {
  const std::vector<scsi::Path> present = present_paths(sysfs, volume);
  for (const scsi::Path& path : present) AIOLOS_CHECK(remove_if_left_over(call, sysfs, present, path));
  return {};
}

/// One look for the volume: what it found, and why the other routes lead to nothing.
struct Look {
  std::vector<scsi::Path> paths;
  std::vector<Error> misses;  ///< Those of open paths first.
  bool scan_failed = false;   ///< A path that is open led to nothing: the array may need more time to show the LUN.

  bool enough(const Search& search) const { return !paths.empty() && !(search.all_paths && scan_failed); }
};

scsi::Path path_of(const Route& route) { return {*route.address, route.name()}; }

Error miss(const Route& route) {
  return {is_blocked(route) ? ErrorKind::retry : ErrorKind::storage,
          route.name() + ": " + route.reason,
          is_blocked(route) ? "try again when the port is back" : "check the fabric's zones, cables and target_wwn",
          {}};
}

/// Has the kernel look for a route's LUN.
Result<scsi::Disk> scan(sdk::Call& call, const scsi::Sysfs& sysfs, const Route& route) {
  Result<scsi::Disk> disk = scsi::Disk{};
  // A scan that finds nothing has changed nothing: as an effect it is done.
  AIOLOS_CHECK(call.effect("scan " + route.adapter + " for " + shown(route.lun), [&]() -> Result<void> {
    disk = scsi::find_or_scan(call, sysfs, *route.address, /*attempts=*/1, route.name());
    return {};
  }));
  return disk;
}

/// Sees to it that a route has a disk which works and shows the volume as it is now.
/// @return ErrorKind::storage if there is no such LUN, or its device does not work.
Result<void> ensure_disk(sdk::Call& call, const scsi::Sysfs& sysfs, const Route& route) {
  const scsi::Path path = path_of(route);
  const std::optional<scsi::Disk> known = scsi::find_disk(sysfs, path.address);
  if (!known) AIOLOS_CHECK(scan(call, sysfs, route));
  if (scsi::is_running(sysfs, path.address)) {
    // One that was there may have grown since it was scanned.
    return known ? scsi::rescan(call, sysfs, *known) : Result<void>();
  }
  return sdk::fail(ErrorKind::storage,
                   route.name() + ": SCSI device " + scsi::to_string(path.address) + " is " +
                       scsi::device_state(sysfs, path.address),
                   "see the kernel's log for why");
}

/// Disks that are there go first: a second connect gives the same answer as the first one.
std::vector<Route> in_order_of_use(const scsi::Sysfs& sysfs, std::vector<Route> routes) {
  std::stable_partition(routes.begin(), routes.end(),
                        [&](const Route& route) { return is_open(route) && scsi::find_disk(sysfs, *route.address); });
  return routes;
}

Look look(sdk::Call& call, const scsi::Sysfs& sysfs, const VolumeAddress& volume, const Search& search) {
  Look found;
  for (const Route& route : in_order_of_use(sysfs, read_routes(sysfs, volume))) {
    if (!is_open(route)) {
      found.misses.push_back(miss(route));
      continue;
    }
    Result<void> there = ensure_disk(call, sysfs, route);
    if (!there) {
      found.misses.insert(found.misses.begin(), std::move(there).error());
      found.scan_failed = true;
      continue;
    }
    found.paths.push_back(path_of(route));
    if (!search.all_paths) break;
  }
  return found;
}

Error nothing_found(const Look& found) {
  Error error{ErrorKind::storage, "no path leads to the volume", {}, {}};
  for (const Error& miss : found.misses) {
    error.message += (&miss == &found.misses.front() ? ": " : "; ") + miss.message;
    if (error.next.empty()) error.next = miss.next;
    if (miss.kind == ErrorKind::retry) error.kind = ErrorKind::retry;
  }
  if (error.next.empty()) error.next = "check initiator_target_map: it gives none of the volume's ports to this host";
  return error;
}

}  // namespace

std::vector<scsi::Path> present_paths(const scsi::Sysfs& sysfs, const VolumeAddress& volume) {
  std::vector<scsi::Path> paths;
  for (const Route& route : read_routes(sysfs, volume))
    if (route.address && !scsi::device_state(sysfs, *route.address).empty()) paths.push_back(path_of(route));
  return paths;
}

Result<std::vector<scsi::Path>> find_paths(sdk::Call& call, const scsi::Sysfs& sysfs, const VolumeAddress& volume,
                                           const Search& search) {
  const int attempts = wait_for_blocked_routes(call, sysfs, volume) ? search.attempts : 1;
  AIOLOS_CHECK(check_adapters(volume, read_adapters(sysfs)));
  AIOLOS_CHECK(remove_leftovers(call, sysfs, volume));
  Look found;
  for (int attempt = 0; attempt < attempts && !found.enough(search); ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(kScanInterval);
    AIOLOS_CHECK(scan_wildcards(call, sysfs, volume));
    found = look(call, sysfs, volume, search);
  }
  if (found.paths.empty()) return tl::unexpected(nothing_found(found));
  for (const Error& miss : found.misses)
    call.log(search.all_paths ? AIOLOS_LOG_WARNING : AIOLOS_LOG_DEBUG, miss.message);
  return std::move(found.paths);
}

}  // namespace aiolos::fibre_channel
