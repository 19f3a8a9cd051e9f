// SPDX-License-Identifier: Apache-2.0
// Maps are found in sysfs and by their UUID; multipath's own commands answer 1 for everything that they dislike, and 0
// for some of it.
#include "scsi/multipath.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "scsi/complaint.h"

namespace aiolos::scsi {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kUuidPrefix = "mpath-";
constexpr auto kCommandTimeout = 10s;
constexpr auto kRemovalTimeout = 15s;
constexpr auto kRetryInterval = 1s;

Result<CommandResult> run(sdk::Call& call, std::vector<std::string> argv) {
  return call.run(Command{std::move(argv), {}, kCommandTimeout});
}

/// Why a command failed, without the time that multipath puts before it: "667.967833 | mpatha: map in use".
std::string reason(const CommandResult& result) {
  constexpr std::string_view kSeparator = " | ";
  const std::string text = complaint(result);
  const std::size_t separator = text.find(kSeparator);
  return separator == std::string::npos ? text : text.substr(separator + kSeparator.size());
}

std::optional<Map> read_map(const Sysfs& sysfs, const std::string& device) {
  const std::string folder = "class/block/" + device;
  const std::string uuid = sysfs.attribute(folder + "/dm/uuid").value_or("");
  if (!uuid.starts_with(kUuidPrefix)) return std::nullopt;
  return Map{sysfs.attribute(folder + "/dm/name").value_or(""), uuid.substr(kUuidPrefix.size()), device,
             sysfs.entries(folder + "/slaves")};
}

bool has_all(const Map& map, const std::vector<Disk>& disks) {
  return std::all_of(disks.begin(), disks.end(), [&](const Disk& disk) {
    return std::find(map.disks.begin(), map.disks.end(), disk.name) != map.disks.end();
  });
}

/// Tells multipathd of the volume and of its paths. It may know all of it already: an error of one command is none yet.
Result<std::string> announce(sdk::Call& call, const std::string& wwid, const std::vector<Disk>& disks) {
  std::string complaints;
  // With find_multipaths "strict", the default, a map is only made for a WWID that is known.
  AIOLOS_TRY(const CommandResult known, run(call, {"multipath", "-a", wwid}));
  if (known.status != 0) complaints = reason(known);
  for (const Disk& disk : disks) {
    AIOLOS_TRY(const CommandResult added, run(call, {"multipathd", "add", "path", disk.name}));
    if (added.status != 0 || !added.output.starts_with("ok")) complaints = reason(added);
  }
  return complaints;
}

/// Whether multipathd listens for commands. It is looked up, for a busy one may not answer in time.
/// Source: multipath-tools, libmpathcmd/mpath_cmd.h: an abstract socket, and a file from 0.10 on.
bool multipathd_listens() {
  std::ifstream sockets("/proc/net/unix");
  for (std::string line; std::getline(sockets, line);)
    if (line.ends_with("/storage/multipathd") || line.ends_with("/run/multipathd.socket")) return true;
  return false;
}

/// By multipathd, which would take it back otherwise; by device mapper where it does not run.
Result<void> stop_queueing(sdk::Call& call, const Map& map) {
  AIOLOS_TRY(const CommandResult stopped, run(call, {"multipathd", "disablequeueing", "map", map.name}));
  if (stopped.status == 0 && stopped.output.starts_with("ok")) return {};
  AIOLOS_CHECK(run(call, {"dmsetup", "message", map.name, "0", "fail_if_no_path"}));
  return {};
}

/// Takes a WWID from multipath's list of known ones, to which make_map added it. One that is not there is no matter.
Result<void> forget(sdk::Call& call, const std::string& wwid) {
  AIOLOS_CHECK(run(call, {"multipath", "-w", wwid}));
  return {};
}

}  // namespace

std::optional<Map> find_map(const Sysfs& sysfs, std::string_view wwid) {
  for (const std::string& device : sysfs.entries("class/block"))
    if (device.starts_with("dm-"))
      if (std::optional<Map> map = read_map(sysfs, device); map && map->wwid == wwid) return map;
  return std::nullopt;
}

std::optional<Map> map_over(const Sysfs& sysfs, const std::string& disk) {
  for (const std::string& holder : sysfs.entries("class/block/" + disk + "/holders"))
    if (std::optional<Map> map = read_map(sysfs, holder)) return map;
  return std::nullopt;
}

Result<std::map<std::string, bool>> path_states(sdk::Call& call, const Sysfs& sysfs, const Map& map) {
  AIOLOS_TRY(const CommandResult status, run(call, {"dmsetup", "status", "--target", "multipath", map.name}));
  if (status.status != 0)
    return sdk::fail(ErrorKind::storage, "multipath map " + map.name + " has no status: " + reason(status),
                     "look at multipath -ll");
  std::map<std::string, std::string> names;  // "8:0" -> "sda"
  for (const std::string& disk : map.disks) names[sysfs.attribute("class/block/" + disk + "/dev").value_or("")] = disk;
  // Of a path the status has its number, A or F, and how often it failed. Source: drivers/md/dm-mpath.c,
  // multipath_status.
  std::map<std::string, bool> states;
  std::istringstream words(status.output);
  for (std::string word, before; words >> word; before = std::exchange(word, {}))
    if ((word == "A" || word == "F") && names.contains(before)) states[names[before]] = word == "A";
  return states;
}

Result<std::optional<Map>> make_map(sdk::Call& call, const Sysfs& sysfs, const std::string& wwid,
                                    const std::vector<Disk>& disks, std::chrono::milliseconds timeout) {
  std::optional<Map> map = find_map(sysfs, wwid);
  if (map && has_all(*map, disks)) return map;
  const Result<std::string> announced = announce(call, wwid, disks);
  const std::string complaints = announced ? *announced : announced.error().message;
  // A busy multipathd answers late, and may make the map after a command failed.
  if (multipathd_listens()) wait_until(timeout, [&] { return (map = find_map(sysfs, wwid)) && has_all(*map, disks); });
  if (!map)
    call.warning("multipathd makes no map of " + wwid + ": " +
                 (complaints.empty() ? "it gives no reason" : complaints));
  return map;
}

Result<void> resize_map(sdk::Call& call, const Map& map) {
  // Without a map's name it would print its usage and exit with 0.
  AIOLOS_TRY(const CommandResult done, run(call, {"multipathd", "resize", "map", map.name}));
  if (done.status == 0 && done.output.starts_with("ok")) return {};
  return sdk::fail(ErrorKind::storage, "multipathd does not resize map " + map.name + ": " + reason(done),
                   "check that multipathd runs and that all paths have the new size: multipath -ll");
}

Result<void> remove_map(sdk::Call& call, const Sysfs& sysfs, const Map& map, bool give_up_io) {
  const auto gone = [&] { return !find_map(sysfs, map.wwid); };
  if (give_up_io) AIOLOS_CHECK(stop_queueing(call, map));
  // udev looks at a device that a writer has closed, and for so long the map is in use.
  CommandResult last;
  const auto deadline = std::chrono::steady_clock::now() + kRemovalTimeout;
  while (!gone() && std::chrono::steady_clock::now() < deadline) {
    AIOLOS_TRY(last, run(call, {"multipath", "-f", map.name}));
    wait_until(kRetryInterval, gone);
  }
  if (gone()) return forget(call, map.wwid);
  return sdk::fail(ErrorKind::retry, "multipath map " + map.name + " cannot be removed: " + reason(last),
                   "look at dmsetup info " + map.name + " and dmsetup ls --tree, then try again");
}

}  // namespace aiolos::scsi
