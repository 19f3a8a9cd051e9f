// SPDX-License-Identifier: Apache-2.0
// Maps are found in sysfs and by their UUID; multipath's own commands answer 1 for everything that they dislike, and 0
// for some of it.
#include "scsi/multipath.h"

#include <algorithm>
#include <sstream>
#include <utility>

namespace aiolos::scsi {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kUuidPrefix = "mpath-";
constexpr auto kCommandTimeout = 10s;
constexpr auto kRemovalTimeout = 10s;  // multipathd removes a map that lost its last path by itself, within 2 s

Result<CommandResult> run(sdk::Call& call, std::vector<std::string> argv) {
  return call.run(Command{std::move(argv), {}, kCommandTimeout});
}

/// What a command had to say, in one line.
std::string complaint(const CommandResult& result) {
  std::string text = result.errors.empty() ? result.output : result.errors;
  std::replace(text.begin(), text.end(), '\n', ' ');
  const std::size_t end = text.find_last_not_of(' ');
  return end == std::string::npos ? "exit status " + std::to_string(result.status) : text.substr(0, end + 1);
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
  if (known.status != 0) complaints = complaint(known);
  for (const Disk& disk : disks) {
    AIOLOS_TRY(const CommandResult added, run(call, {"multipathd", "add", "path", disk.name}));
    if (added.status != 0 || !added.output.starts_with("ok")) complaints = complaint(added);
  }
  return complaints;
}

/// By multipathd, which would take it back otherwise; by device mapper where it does not run.
Result<void> stop_queueing(sdk::Call& call, const Map& map) {
  AIOLOS_TRY(const CommandResult stopped, run(call, {"multipathd", "disablequeueing", "map", map.name}));
  if (stopped.status == 0 && stopped.output.starts_with("ok")) return {};
  AIOLOS_CHECK(run(call, {"dmsetup", "message", map.name, "0", "fail_if_no_path"}));
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
    return sdk::fail(ErrorKind::storage, "multipath map " + map.name + " has no status: " + complaint(status),
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
  const Result<std::string> complaints = announce(call, wwid, disks);
  if (complaints) wait_until(timeout, [&] { return (map = find_map(sysfs, wwid)) && has_all(*map, disks); });
  if (!map)
    call.warning("multipathd makes no map of " + wwid + ": " +
                 (complaints ? complaints->empty() ? "it gives no reason" : *complaints : complaints.error().message));
  return map;
}

Result<void> resize_map(sdk::Call& call, const Map& map) {
  // Without a map's name it would print its usage and exit with 0.
  AIOLOS_TRY(const CommandResult done, run(call, {"multipathd", "resize", "map", map.name}));
  if (done.status == 0 && done.output.starts_with("ok")) return {};
  return sdk::fail(ErrorKind::storage, "multipathd does not resize map " + map.name + ": " + complaint(done),
                   "check that multipathd runs and that all paths have the new size: multipath -ll");
}

Result<void> remove_map(sdk::Call& call, const Sysfs& sysfs, const Map& map, bool give_up_io) {
  const auto gone = [&] { return !find_map(sysfs, map.wwid); };
  if (give_up_io) AIOLOS_CHECK(stop_queueing(call, map));
  std::string answer;
  const bool removed = wait_until(kRemovalTimeout, [&] {
    if (gone()) return true;
    // It says "map in use" of one that udev is just looking at too, as it does whenever a path changes: that passes.
    const Result<CommandResult> done = run(call, {"multipath", "-f", map.name});
    answer = done ? complaint(*done) : done.error().message;
    return gone();
  });
  if (removed) return {};
  return sdk::fail(ErrorKind::retry, "multipath map " + map.name + " cannot be removed: " + answer,
                   "look at dmsetup info " + map.name + " and dmsetup ls --tree, then try again");
}

}  // namespace aiolos::scsi
