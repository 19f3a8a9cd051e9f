// SPDX-License-Identifier: Apache-2.0
// What a block device stands on, by sysfs.
#include "block_stack.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <sstream>
#include <vector>

#include "small_file.h"

namespace aiolos {
namespace {

namespace fs = std::filesystem;

// LVM over LUKS over multipath over LVM is 5; nothing sane comes near this.
constexpr int kDeepest = 16;

/// Which of two verdicts decides for a device that uses both: what surely allocates beats what may, which beats no.
int severity(Allocation allocation) {
  switch (allocation) {
    case Allocation::full:
      return 0;
    case Allocation::unknown:
      return 1;
    case Allocation::sparse:
      return 2;
    case Allocation::thin:
      return 3;
  }
  return 1;
}

std::optional<std::uint64_t> number_in(const fs::path& file) {
  const std::optional<std::string> text = read_small_file(file);
  std::uint64_t value = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), value).ec != std::errc()) return std::nullopt;
  return value;
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    found.push_back(it->path());
  std::sort(found.begin(), found.end());  // the order of a report must not depend on the file system's
  return found;
}

/// What a kind of device is by the beginning of its kernel name.
struct KindRow {
  std::string_view prefix;
  Allocation allocation;
  std::string_view says;
};

// A LUN or a network block device may be thin at its server; that never blocks io_submit(2) here.
constexpr std::array kKinds{
    KindRow{"sd", Allocation::full, "SCSI disk or LUN"},
    KindRow{"nvme", Allocation::full, "NVMe namespace"},
    KindRow{"vd", Allocation::full, "virtio disk"},
    KindRow{"xvd", Allocation::full, "Xen disk"},
    KindRow{"mmcblk", Allocation::full, "memory card"},
    KindRow{"pmem", Allocation::full, "persistent memory"},
    KindRow{"dasd", Allocation::full, "DASD"},
    KindRow{"nbd", Allocation::full, "network block device: the server allocates"},
    KindRow{"rbd", Allocation::full, "kernel RBD: the Ceph cluster allocates"},
    KindRow{"ublk", Allocation::unknown, "user space block device: its server decides"},
    KindRow{"zram", Allocation::thin, "zram allocates compressed memory at each write"},
    KindRow{"ram", Allocation::thin, "RAM disk (brd) allocates memory at the first write"},
    KindRow{"zd", Allocation::thin, "ZFS volume: copy on write, every write allocates"},
};

/// Device-mapper targets that store nothing themselves and never allocate: what lies below decides.
constexpr std::array<std::string_view, 15> kPassingTargets{
    "linear",    "striped", "crypt", "multipath", "mirror", "raid",       "cache",    "writecache",
    "integrity", "verity",  "delay", "switch",    "flakey", "log-writes", "unstriped"};

constexpr std::array<std::string_view, 6> kAllocatingTargets{"thin",           "snapshot", "snapshot-origin",
                                                             "snapshot-merge", "vdo",      "zoned"};

class StackWalk {
 public:
  StackWalk(std::string sys, const BlockStackHooks& hooks) : sys_(std::move(sys)), hooks_(hooks) {}

  /// The folder of a device, by number or by name, links resolved; empty if there is none.
  fs::path folder_of(const fs::path& link) const {
    std::error_code error;
    fs::path folder = fs::canonical(link, error);
    return error ? fs::path() : folder;
  }
  fs::path folder_by_number(unsigned major, unsigned minor) const {
    return folder_of(sys_ / "dev/block" / fmt::format("{}:{}", major, minor));
  }

  Verdict judge(const fs::path& folder, int depth) {
    const std::string name = folder.filename();
    if (depth > kDeepest) return {Allocation::unknown, {name + ": the stack of devices is too deep to follow"}};
    if (fs::exists(folder / "partition")) return judge_partition(folder, depth);
    if (fs::exists(folder / "dm")) return judge_mapped(folder, depth);
    if (fs::exists(folder / "loop/backing_file")) return judge_loop(folder);
    if (fs::exists(folder / "md")) return judge_slaves(folder, name + ": software RAID (md)", depth);
    if (fs::exists(folder / "bcache")) return judge_slaves(folder, name + ": bcache", depth);
    return judge_by_name(folder);
  }

 private:
  Verdict judge_partition(const fs::path& folder, int depth) {
    Verdict verdict{
        Allocation::unknown,
        {fmt::format("{}: partition of {}", folder.filename().string(), folder.parent_path().filename().string())}};
    return joined(std::move(verdict), judge(folder.parent_path(), depth + 1));
  }

  Verdict judge_by_name(const fs::path& folder) const {
    const std::string name = folder.filename();
    for (const KindRow& kind : kKinds) {
      if (!name.starts_with(kind.prefix)) continue;
      Verdict verdict{kind.allocation, {fmt::format("{}: {}", name, kind.says)}};
      for (const fs::path& disk : entries(folder / "device/scsi_disk"))
        if (read_small_file(disk / "thin_provisioning") == "1")
          verdict.probes.push_back(name + ": the array provisions this LUN thinly; that is the array's own work");
      return verdict;
    }
    return {Allocation::unknown, {name + ": a kind of block device that is not known here"}};
  }

  Verdict judge_loop(const fs::path& folder) const {
    const std::string name = folder.filename();
    const std::string file = read_small_file(folder / "loop/backing_file").value_or("");
    Verdict verdict{Allocation::unknown, {fmt::format("{}: loop device over the file '{}'", name, file)}};
    if (file.ends_with(" (deleted)")) {
      verdict.probes.push_back(name + ": that file is deleted, so its allocation can't be looked at");
      return verdict;
    }
    Result<Verdict> below = hooks_.loop_file ? hooks_.loop_file(file) : fail(ErrorKind::bug, "not looked at");
    if (!below) {
      verdict.probes.push_back(describe(below.error()));
      return verdict;
    }
    return joined(std::move(verdict), std::move(*below));
  }

  Verdict judge_mapped(const fs::path& folder, int depth) {
    const std::string name = folder.filename();
    const std::string uuid = read_small_file(folder / "dm/uuid").value_or("");
    const std::string title =
        fmt::format("{}: device mapper '{}', uuid '{}'", name, read_small_file(folder / "dm/name").value_or(""), uuid);
    if (std::string reason = thin_by_uuid(folder, uuid); !reason.empty())
      return {Allocation::thin, {title, name + ": " + reason}};
    // These say by themselves that they only pass requests on; anything else may have any table.
    for (const std::string_view passing : {"mpath-", "CRYPT-", "LVM-", "DMRAID-"})
      if (uuid.starts_with(passing)) return judge_slaves(folder, title, depth);
    if (uuid.starts_with("part") && uuid.find("-mpath-") != std::string::npos)
      return judge_slaves(folder, title, depth);
    return judge_by_table(folder, title, depth);
  }

  /// Why a device-mapper device allocates at writes, as its own and its slaves' uuids tell; empty if they do not.
  /// LVM writes "LVM-<VG><LV>" and for hidden layers "-tpool", "-vpool", "-cow", "-real". Source: lvm2's
  /// lib/activate/dev_manager.c. cryptsetup, multipath, VDO and Stratis have their own prefixes.
  std::string thin_by_uuid(const fs::path& folder, const std::string& uuid) const {
    if (uuid.starts_with("VDO-")) return "VDO deduplicates and compresses: every write allocates";
    if (uuid.starts_with("stratis-") && uuid.find("-thin-") != std::string::npos)
      return "Stratis file system on dm-thin";
    if (!uuid.starts_with("LVM-")) return {};
    if (uuid.ends_with("-tpool")) return "an LVM thin pool";
    for (const fs::path& slave : entries(folder / "slaves")) {
      const std::string below = read_small_file(slave / "dm/uuid").value_or("");
      if (below.ends_with("-tpool")) return "a thin LV: stands on the thin pool " + slave.filename().string();
      if (below.ends_with("-vpool")) return "an LVM VDO volume: stands on the pool " + slave.filename().string();
      if (below.ends_with("-cow")) return "an LVM snapshot: a write copies into " + slave.filename().string();
      if (below.ends_with("-real")) return "the origin of an LVM snapshot: a write copies the old block first";
    }
    return {};
  }

  Verdict judge_by_table(const fs::path& folder, const std::string& title, int depth) {
    const std::string name = folder.filename();
    const std::optional<std::string> table = hooks_.dm_table ? dm_table(folder) : std::nullopt;
    if (!table)
      return {Allocation::unknown, {title, name + ": its table could not be read (dmsetup), so it may be thin"}};
    std::istringstream lines(*table);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);  // "0 8192 thin 253:4 1"
      std::string start;
      std::string length;
      std::string target;
      if (!(words >> start >> length >> target)) continue;
      if (std::find(kAllocatingTargets.begin(), kAllocatingTargets.end(), target) != kAllocatingTargets.end())
        return {Allocation::thin, {title, fmt::format("{}: dmsetup table has target '{}'", name, target)}};
      if (std::find(kPassingTargets.begin(), kPassingTargets.end(), target) == kPassingTargets.end())
        return {Allocation::unknown,
                {title, fmt::format("{}: dmsetup table has target '{}', not known here", name, target)}};
    }
    return judge_slaves(folder, title, depth);
  }

  std::optional<std::string> dm_table(const fs::path& folder) const {
    const std::string numbers = read_small_file(folder / "dev").value_or("");  // "253:4"
    unsigned major = 0;
    unsigned minor = 0;
    const char* end = numbers.data() + numbers.size();
    const auto [colon, error] = std::from_chars(numbers.data(), end, major);
    if (error != std::errc() || colon == end || std::from_chars(colon + 1, end, minor).ec != std::errc()) return {};
    return hooks_.dm_table(major, minor);
  }

  Verdict judge_slaves(const fs::path& folder, const std::string& title, int depth) {
    Verdict verdict{Allocation::unknown, {title}};
    const std::vector<fs::path> slaves = entries(folder / "slaves");
    if (slaves.empty()) verdict.probes.push_back(folder.filename().string() + ": sysfs names no device below it");
    bool first = true;
    for (const fs::path& slave : slaves) {
      Verdict below = judge(folder_of(slave), depth + 1);
      const Allocation before = verdict.allocation;
      verdict = joined(std::move(verdict), std::move(below));
      if (!first && severity(before) > severity(verdict.allocation)) verdict.allocation = before;
      first = false;
    }
    return verdict;
  }

  /// `below`'s allocation, with the sentences of both.
  static Verdict joined(Verdict above, Verdict below) {
    above.allocation = below.allocation;
    for (std::string& probe : below.probes) above.probes.push_back(std::move(probe));
    return above;
  }

  fs::path sys_;
  const BlockStackHooks& hooks_;
};

}  // namespace

Result<BlockStackFacts> inspect_block_stack(const std::string& sys, unsigned major, unsigned minor,
                                            const BlockStackHooks& hooks) {
  StackWalk walk(sys, hooks);
  const fs::path folder = walk.folder_by_number(major, minor);
  if (folder.empty())
    return fail(ErrorKind::storage, fmt::format("{} has no block device {}:{}", sys, major, minor),
                "the device has gone: connect the volume again");
  BlockStackFacts facts;
  facts.name = folder.filename();
  facts.verdict = walk.judge(folder, 0);
  // A partition has no queue of its own.
  const fs::path disk = fs::exists(folder / "partition") ? folder.parent_path() : folder;
  if (const auto bytes = number_in(disk / "queue/logical_block_size")) facts.logical_block_size = *bytes;
  if (const auto sectors = number_in(folder / "size")) facts.size = *sectors * 512;  // sysfs counts in 512 bytes always
  return facts;
}

}  // namespace aiolos
