// SPDX-License-Identifier: Apache-2.0
// One file or block device as the kernel describes it, and what that says of allocation. Observing does all the I/O;
// judging is pure, so that every file system's answers can be tested from a table.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/facts.h"
#include "aiolos/core/result.h"
#include "extents.h"

namespace aiolos {

/// What happened when O_DIRECT was tried.
struct DirectIo {
  int open_error = 0;                      ///< errno of open(2) with O_DIRECT; 0: it opened.
  int read_error = 0;                      ///< errno of an aligned read; some FUSE file systems fail only here.
  std::optional<std::uint32_t> alignment;  ///< Bytes that offset and length must be a multiple of.
  std::string alignment_source;            ///< "STATX_DIOALIGN", "a read of 512 bytes", "BLKSSZGET".
};

/// Raw observations; nothing is concluded yet.
struct FileObservation {
  std::string real_path;  ///< Symbolic links resolved.
  bool block_device = false;
  std::uint64_t inode = 0;           ///< With `device`: which file it is, for loops in a chain.
  std::uint64_t device = 0;          ///< st_dev; for a block device st_rdev.
  std::uint64_t size = 0;            ///< Bytes.
  std::uint64_t allocated = 0;       ///< st_blocks * 512.
  std::uint64_t filesystem = 0;      ///< statfs(2) f_type.
  std::optional<unsigned> flags;     ///< FS_IOC_GETFLAGS.
  std::optional<ExtentMap> extents;  ///< FIEMAP; absent: see extents_error.
  int extents_error = 0;
  bool flushed = false;                     ///< Delayed extents were seen, and FIEMAP asked again after a flush.
  std::optional<std::uint64_t> first_hole;  ///< SEEK_HOLE; `size` if there is none. Absent: see hole_error.
  int hole_error = 0;
  DirectIo direct;
  std::string head;  ///< The first bytes, at most 512: an image format's magic.
};

/// Looks at a file or block device. Blocks for as long as its storage does: call through run_bounded.
/// @param abandoned ends the walk over extents early. @return ErrorKind::storage with the errno's text, or
/// ErrorKind::bad_input if it is neither a regular file nor a block device.
Result<FileObservation> observe_file(const std::string& path, const std::atomic<bool>& abandoned);

/// An allocation with the sentences that led to it.
struct Verdict {
  Allocation allocation = Allocation::unknown;
  std::vector<std::string> probes;
};

/// Whether writes to `areas` of a regular file allocate. Pure.
/// @param filesystem type as the mount table has it. @param areas the bytes that a guest can write, {0, size} for raw.
Verdict judge_file(const FileObservation& file, const std::string& filesystem, const std::vector<Range>& areas);

/// Whether O_DIRECT works, with a sentence. Pure.
bool judge_direct_io(const DirectIo& direct, std::vector<std::string>& probes);

/// The name of a file system by its magic number, for when the mount table does not tell; "0x..." if not known here.
std::string filesystem_name(std::uint64_t magic);

/// "4.0 MiB (4194304 bytes)".
std::string bytes_text(std::uint64_t bytes);

}  // namespace aiolos
