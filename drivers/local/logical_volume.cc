// SPDX-License-Identifier: Apache-2.0
#include "logical_volume.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>
#include <vector>

namespace aiolos::local {
namespace {

using std::chrono::seconds;

constexpr seconds kLvmTimeout{30};  // lvchange waits up to 5.4 s for a busy volume, and for other LVM commands' locks

// Folders of /dev that are no volume group's.
constexpr std::array<std::string_view, 9> kOtherFolders{"block",  "bus",    "char", "disk", "loop",
                                                        "mapper", "mqueue", "rbd",  "shm"};

/// Letters, digits and "+_.-", not beginning with "-". Source: lvm(8), VALID NAMES.
bool is_lvm_name(std::string_view name) {
  return !name.empty() && name.front() != '-' && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' || c == '_' ||
                  c == '.' || c == '-';
         });
}

/// "my--group-lv" as {"my-group", "lv"}; nullopt without a single dash.
std::optional<LogicalVolume> from_mapper_name(std::string_view text) {
  std::array<std::string, 2> parts;
  std::size_t part = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '-') {
      parts[part] += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == '-') {
      parts[part] += '-';
      ++i;
    } else if (++part == parts.size()) {
      return std::nullopt;  // "vg-lv-tdata": a part of a volume
    }
  }
  if (part != 1) return std::nullopt;
  return LogicalVolume{std::move(parts[0]), std::move(parts[1])};
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::string resource_of(const LogicalVolume& volume) { return "active logical volume " + volume.full_name(); }

/// What LVM says of a volume: "active", "open", or nullopt if it has none of that name.
struct Report {
  bool is_active = false;
  bool is_open = false;
};

Result<std::optional<Report>> report_of(sdk::Call& call, const LogicalVolume& volume) {
  AIOLOS_TRY(
      const CommandResult result,
      call.run(
          {{"lvs", "--noheadings", "--options", "lv_active,lv_device_open", volume.full_name()}, {}, kLvmTimeout}));
  // "active open", "active", or blank, for an inactive volume; exit status 5 whatever is wrong.
  if (result.status == 0)
    return Report{result.output.find("active") != std::string::npos, result.output.find("open") != std::string::npos};
  if (result.errors.find("Failed to find logical volume") != std::string::npos ||
      result.errors.find("not found") != std::string::npos)
    return std::nullopt;
  return sdk::fail(ErrorKind::storage, "LVM cannot tell of " + volume.full_name() + ": " + result.errors,
                   "see lvs " + volume.full_name());
}

Result<void> change(sdk::Call& call, const LogicalVolume& volume, const std::string& what,
                    std::vector<std::string> command) {
  return call.effect(what + " logical volume " + volume.full_name(), [&]() -> Result<void> {
    command.push_back(volume.full_name());
    AIOLOS_CHECK(call.run_checked({command, {}, kLvmTimeout}, "see lvs and the kernel's log"));
    return {};
  });
}

}  // namespace

std::optional<LogicalVolume> logical_volume_at(std::string_view path) {
  constexpr std::string_view kDev = "/dev/";
  constexpr std::string_view kMapper = "mapper/";
  if (!path.starts_with(kDev)) return std::nullopt;
  path.remove_prefix(kDev.size());
  std::optional<LogicalVolume> volume;
  if (path.starts_with(kMapper)) {
    volume = from_mapper_name(path.substr(kMapper.size()));
  } else if (const std::size_t slash = path.find('/'); slash != std::string_view::npos) {
    const std::string_view group = path.substr(0, slash);
    if (std::find(kOtherFolders.begin(), kOtherFolders.end(), group) == kOtherFolders.end())
      volume = LogicalVolume{std::string(group), std::string(path.substr(slash + 1))};
  }
  if (volume && (!is_lvm_name(volume->group) || !is_lvm_name(volume->name))) return std::nullopt;
  return volume;
}

Result<void> activate(sdk::Call& call, const std::string& path) {
  const auto volume = logical_volume_at(path);
  if (!volume) return {};
  const std::string resource = resource_of(*volume);
  AIOLOS_TRY(const sdk::Call::Lock lock, call.lock(resource));
  if (exists(path)) {
    AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(resource));
    // Activated for another guest that shares it: it has to stay for this one.
    return holders.others > 0 ? call.hold(resource) : Result<void>();
  }
  AIOLOS_TRY(const std::optional<Report> report, report_of(call, *volume));
  if (!report)
    return sdk::fail(ErrorKind::storage, "there is no logical volume " + volume->full_name(),
                     "check the name; lvs lists those that this host sees", "/data/device_path");
  AIOLOS_CHECK(call.hold(resource));
  // -K: a thin snapshot is created with a flag that has activation skip it.
  AIOLOS_CHECK(change(call, *volume, "activate", {"lvchange", "--activate", "y", "--ignoreactivationskip"}));
  if (exists(path)) return {};
  return sdk::fail(ErrorKind::storage, volume->full_name() + " is active, but there is no " + path,
                   "check that udev runs, or run vgscan --mknodes", "/data/device_path");
}

Result<void> deactivate(sdk::Call& call, const std::string& path) {
  const auto volume = logical_volume_at(path);
  if (!volume) return {};
  const std::string resource = resource_of(*volume);
  AIOLOS_TRY(const sdk::Call::Lock lock, call.lock(resource));
  AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(resource));
  if (!holders.held) return {};
  if (holders.others == 0) {
    AIOLOS_TRY(const std::optional<Report> report, report_of(call, *volume));
    if (report && report->is_open)
      call.warning("logical volume " + volume->full_name() + " stays active: somebody has it open");
    else if (report && report->is_active)
      AIOLOS_CHECK(change(call, *volume, "deactivate", {"lvchange", "--activate", "n"}));
  }
  return call.release(resource);
}

}  // namespace aiolos::local
