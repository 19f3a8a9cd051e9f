// SPDX-License-Identifier: Apache-2.0
#include "load_case.h"

#include <fmt/format.h>

#include <algorithm>

namespace aiolos::measure {
namespace {

std::string disks_text(unsigned disks) { return fmt::format("{} disk{}", disks, disks == 1 ? "" : "s"); }

std::string size_text(std::uint32_t bytes) {
  return bytes % 1024 == 0 ? fmt::format("{} KiB", bytes / 1024) : fmt::format("{} bytes", bytes);
}

std::string kind_text(const LoadCase& load) {
  return fmt::format("{} {} {}", to_string(load.pattern), to_string(load.operation), size_text(load.block_size));
}

}  // namespace

std::string_view to_string(Operation operation) { return operation == Operation::read ? "read" : "write"; }
std::string_view to_string(Pattern pattern) { return pattern == Pattern::random ? "random" : "sequential"; }

std::string describe(const LoadCase& load) {
  return fmt::format("{}, depth {}, {}", kind_text(load), load.depth, disks_text(load.disks));
}

std::string describe_without_depth(const LoadCase& load) {
  return fmt::format("{}, {}", kind_text(load), disks_text(load.disks));
}

Json to_json(const LoadCase& load) {
  return {{"operation", to_string(load.operation)},
          {"pattern", to_string(load.pattern)},
          {"block_size", load.block_size},
          {"depth", load.depth},
          {"disks", load.disks}};
}

LoadMatrix quick_matrix() {
  LoadMatrix matrix;
  matrix.patterns = {Pattern::random};
  matrix.depths = {1, 32};
  matrix.disks = {1};
  return matrix;
}

std::vector<LoadCase> cases_of(const LoadMatrix& matrix) {
  std::vector<unsigned> depths = matrix.depths;
  std::sort(depths.begin(), depths.end());
  std::vector<LoadCase> cases;
  for (const Operation operation : matrix.operations)
    for (const Pattern pattern : matrix.patterns)
      for (const std::uint32_t block_size : matrix.block_sizes)
        for (const unsigned disks : matrix.disks)
          for (const unsigned depth : depths) cases.push_back({operation, pattern, block_size, depth, disks});
  return cases;
}

}  // namespace aiolos::measure
