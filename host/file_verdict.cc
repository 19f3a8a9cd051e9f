// SPDX-License-Identifier: Apache-2.0
// What the kernel's description of a file says of allocation and O_DIRECT. Pure.
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/magic.h>

#include <array>
#include <cerrno>

#include "aiolos/core/posix.h"
#include "file_probe.h"

namespace aiolos {
namespace {

/// How a file system treats a write to a block that is allocated already.
enum class Overwrite { in_place, copies };

struct FilesystemRow {
  std::uint64_t magic;
  std::string_view name;
  Overwrite overwrite;
};

// Source: linux/magic.h; for those outside the kernel, their own f_type.
constexpr std::array kFilesystems{
    FilesystemRow{EXT4_SUPER_MAGIC, "ext4", Overwrite::in_place},
    FilesystemRow{XFS_SUPER_MAGIC, "xfs", Overwrite::in_place},
    FilesystemRow{BTRFS_SUPER_MAGIC, "btrfs", Overwrite::copies},
    FilesystemRow{F2FS_SUPER_MAGIC, "f2fs", Overwrite::copies},
    FilesystemRow{NILFS_SUPER_MAGIC, "nilfs2", Overwrite::copies},
    FilesystemRow{0xca451a4e, "bcachefs", Overwrite::copies},
    FilesystemRow{0x2fc12fc1, "zfs", Overwrite::copies},
    FilesystemRow{NFS_SUPER_MAGIC, "nfs", Overwrite::in_place},
    FilesystemRow{TMPFS_MAGIC, "tmpfs", Overwrite::in_place},
    FilesystemRow{OVERLAYFS_SUPER_MAGIC, "overlay", Overwrite::in_place},
    FilesystemRow{FUSE_SUPER_MAGIC, "fuse", Overwrite::in_place},
    FilesystemRow{CEPH_SUPER_MAGIC, "ceph", Overwrite::in_place},
    FilesystemRow{0xff534d42, "cifs", Overwrite::in_place},
    FilesystemRow{0x01161970, "gfs2", Overwrite::in_place},
    FilesystemRow{0x7461636f, "ocfs2", Overwrite::in_place},
    FilesystemRow{V9FS_MAGIC, "9p", Overwrite::in_place},
};

const FilesystemRow* row_of(std::uint64_t magic) {
  for (const FilesystemRow& row : kFilesystems)
    if (row.magic == magic) return &row;
  return nullptr;
}

/// Why every write allocates on this file system whatever the file's extents; empty if it does not.
std::string reason_every_write_copies(const FileObservation& file, const std::string& filesystem) {
  const FilesystemRow* row = row_of(file.filesystem);
  if (row == nullptr || row->overwrite == Overwrite::in_place) return {};
  if (file.filesystem == BTRFS_SUPER_MAGIC && file.flags && (*file.flags & FS_NOCOW_FL) != 0) return {};
  std::string reason = filesystem + " writes every block to a new place (copy on write), so every write allocates";
  if (file.filesystem == BTRFS_SUPER_MAGIC) reason += "; the file has no NOCOW attribute (chattr +C, when empty)";
  return reason;
}

/// With FIEMAP: exact.
Verdict judge_by_extents(const FileObservation& file, const std::vector<Range>& areas, Verdict verdict) {
  const ExtentMap& map = *file.extents;
  if (file.flushed)
    verdict.probes.push_back(
        "blocks of freshly written data were not chosen yet: had them written out (FIEMAP_FLAG_SYNC)");
  const std::uint64_t missing = bytes_not_in_place(map, areas);
  if (missing == 0) {
    verdict.allocation = Allocation::full;
    verdict.probes.push_back("FIEMAP: every byte that the guest can write is allocated");
    if (map.unwritten > 0)
      verdict.probes.push_back(
          fmt::format("FIEMAP: {} preallocated by fallocate and not written yet (unwritten extents): "
                      "the first write there converts an extent, but allocates nothing",
                      bytes_text(map.unwritten)));
    return verdict;
  }
  verdict.allocation = Allocation::sparse;
  verdict.probes.push_back(fmt::format("FIEMAP: a write to {} would have to allocate", bytes_text(missing)));
  const auto add = [&](std::uint64_t bytes, std::string_view what) {
    if (bytes > 0) verdict.probes.push_back(fmt::format("FIEMAP: {} {}", bytes_text(bytes), what));
  };
  add(map.shared, "shared with another file or a snapshot (reflink): a write copies");
  add(map.compressed, "compressed by the file system: a write stores the extent anew");
  add(map.delayed, "in memory only, no block chosen yet");
  add(map.packed, "packed into the inode or a tail block");
  return verdict;
}

/// Without FIEMAP (NFS, FUSE, tmpfs, ...): by the number of blocks. SEEK_HOLE does not decide: ext4 behind NFS reports
/// preallocated but unwritten blocks as holes.
Verdict judge_by_blocks(const FileObservation& file, const std::vector<Range>& areas, Verdict verdict) {
  verdict.probes.push_back("no FIEMAP here: " + errno_text(file.extents_error));
  const std::uint64_t wanted = total_length(areas);
  verdict.allocation = file.allocated >= wanted ? Allocation::full : Allocation::sparse;
  verdict.probes.push_back(fmt::format("st_blocks: {} allocated of {} that the guest can write",
                                       bytes_text(file.allocated), bytes_text(wanted)));
  if (!file.first_hole)
    verdict.probes.push_back("no SEEK_HOLE here: " + errno_text(file.hole_error));
  else if (*file.first_hole >= file.size)
    verdict.probes.push_back("SEEK_HOLE: no hole");
  else if (verdict.allocation == Allocation::full)
    verdict.probes.push_back(
        fmt::format("SEEK_HOLE: nothing written yet at byte {}; the blocks are there all the same", *file.first_hole));
  else
    verdict.probes.push_back(fmt::format("SEEK_HOLE: a hole at byte {}", *file.first_hole));
  return verdict;
}

}  // namespace

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array kUnits{"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} bytes", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.1f} {} ({} bytes)", value, kUnits[unit], bytes);
}

std::string filesystem_name(std::uint64_t magic) {
  const FilesystemRow* row = row_of(magic);
  return row != nullptr ? std::string(row->name) : fmt::format("{:#x}", magic);
}

Verdict judge_file(const FileObservation& file, const std::string& filesystem, const std::vector<Range>& areas) {
  Verdict verdict;
  verdict.probes.push_back(
      fmt::format("file on {}: size {}, {} allocated", filesystem, bytes_text(file.size), bytes_text(file.allocated)));
  if (file.filesystem == OVERLAYFS_SUPER_MAGIC)
    verdict.probes.push_back("overlay: opening a file of a lower layer for writing copies it first");
  if (std::string reason = reason_every_write_copies(file, filesystem); !reason.empty()) {
    verdict.allocation = Allocation::sparse;
    verdict.probes.push_back(std::move(reason));
    return verdict;
  }
  if (total_length(areas) == 0) {
    verdict.probes.push_back("there is nothing in it that a guest could write");
    return verdict;
  }
  return file.extents ? judge_by_extents(file, areas, std::move(verdict))
                      : judge_by_blocks(file, areas, std::move(verdict));
}

bool judge_direct_io(const DirectIo& direct, std::vector<std::string>& probes) {
  if (direct.open_error != 0) {
    probes.push_back("O_DIRECT: open fails: " + errno_text(direct.open_error));
    return false;
  }
  if (direct.read_error != 0) {
    probes.push_back("O_DIRECT: opens, but an aligned read fails: " + errno_text(direct.read_error));
    return false;
  }
  probes.push_back(direct.alignment ? fmt::format("O_DIRECT: opens and reads; {} bytes alignment by {}",
                                                  *direct.alignment, direct.alignment_source)
                                    : "O_DIRECT: opens and reads");
  return true;
}

}  // namespace aiolos
