// SPDX-License-Identifier: Apache-2.0
// Which bytes of a file lie in storage that a write can reuse in place. Pure; the numbers come from FIEMAP.
#pragma once

#include <cstdint>
#include <vector>

namespace aiolos {

/// Bytes [start, start + length).
struct Range {
  std::uint64_t start = 0;
  std::uint64_t length = 0;

  std::uint64_t end() const { return start + length; }
  bool operator==(const Range&) const = default;
};

/// One extent as FIEMAP gives it: place in the file and FIEMAP_EXTENT_* flags.
/// Source: Linux Documentation/filesystems/fiemap.rst.
struct Extent {
  Range range;
  std::uint32_t flags = 0;
};

/// A file's extents, reduced to what the question of allocation needs. Bytes in all counters.
struct ExtentMap {
  std::vector<Range> in_place;   ///< Sorted and merged: a write there allocates nothing.
  std::uint64_t unwritten = 0;   ///< Of in_place: allocated by fallocate(2), not written yet.
  std::uint64_t delayed = 0;     ///< In memory only; no block chosen yet.
  std::uint64_t shared = 0;      ///< With another file (reflink) or snapshot: a write must copy.
  std::uint64_t compressed = 0;  ///< A write must store the whole extent anew.
  std::uint64_t packed = 0;      ///< In the inode or in a shared tail block.

  /// Takes the next extent; they come in the order of the file.
  void add(const Extent& extent);
};

/// How many bytes of `areas` are not in `map.in_place`. Areas need no order.
std::uint64_t bytes_not_in_place(const ExtentMap& map, const std::vector<Range>& areas);

/// The sum of the ranges' lengths.
std::uint64_t total_length(const std::vector<Range>& ranges);

}  // namespace aiolos
