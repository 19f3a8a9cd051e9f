// SPDX-License-Identifier: Apache-2.0
// Which bytes of a file lie in storage that a write can reuse in place.
#include "extents.h"

#include <linux/fiemap.h>

#include <algorithm>
#include <numeric>

namespace aiolos {

void ExtentMap::add(const Extent& extent) {
  const auto has = [&](std::uint32_t flag) { return (extent.flags & flag) != 0; };
  const std::uint64_t bytes = extent.range.length;
  // The order matters: a delayed extent also says "unknown", an encrypted one also "encoded" and yet is written in
  // place.
  if (has(FIEMAP_EXTENT_DELALLOC) || has(FIEMAP_EXTENT_UNKNOWN)) {
    delayed += bytes;
  } else if (has(FIEMAP_EXTENT_SHARED)) {
    shared += bytes;
  } else if (has(FIEMAP_EXTENT_DATA_INLINE) || has(FIEMAP_EXTENT_DATA_TAIL)) {
    packed += bytes;
  } else if (has(FIEMAP_EXTENT_ENCODED) && !has(FIEMAP_EXTENT_DATA_ENCRYPTED)) {
    compressed += bytes;
  } else {
    if (has(FIEMAP_EXTENT_UNWRITTEN)) unwritten += bytes;
    if (!in_place.empty() && in_place.back().end() >= extent.range.start) {
      Range& last = in_place.back();
      last.length = std::max(last.end(), extent.range.end()) - last.start;
    } else {
      in_place.push_back(extent.range);
    }
  }
}

std::uint64_t bytes_not_in_place(const ExtentMap& map, const std::vector<Range>& areas) {
  std::uint64_t missing = 0;
  for (const Range& area : areas) {
    std::uint64_t covered = 0;
    auto range = std::upper_bound(map.in_place.begin(), map.in_place.end(), area.start,
                                  [](std::uint64_t start, const Range& r) { return start < r.end(); });
    for (; range != map.in_place.end() && range->start < area.end(); ++range)
      covered += std::min(range->end(), area.end()) - std::max(range->start, area.start);
    missing += area.length - covered;
  }
  return missing;
}

std::uint64_t total_length(const std::vector<Range>& ranges) {
  return std::accumulate(ranges.begin(), ranges.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const Range& range) { return sum + range.length; });
}

}  // namespace aiolos
