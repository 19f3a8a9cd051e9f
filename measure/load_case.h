// SPDX-License-Identifier: Apache-2.0
// The loads that AIO modes are compared under. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/json.h"

namespace aiolos::measure {

enum class Operation { read, write };
enum class Pattern { random, sequential };

std::string_view to_string(Operation operation);
std::string_view to_string(Pattern pattern);

/// One load: what guests ask of their disks.
struct LoadCase {
  Operation operation = Operation::read;
  Pattern pattern = Pattern::random;
  std::uint32_t block_size = 4096;  ///< Bytes of each request.
  unsigned depth = 1;               ///< Requests in flight on each disk.
  unsigned disks = 1;               ///< That share QEMU's main loop, or its iothreads.

  bool operator==(const LoadCase&) const = default;
};

/// "random write 4 KiB, depth 64, 1 disk"
std::string describe(const LoadCase& load);

/// The same without its depth, by which plots are grouped: "random write 4 KiB, 1 disk".
std::string describe_without_depth(const LoadCase& load);

Json to_json(const LoadCase& load);

/// Every combination of these is a case.
struct LoadMatrix {
  std::vector<Operation> operations{Operation::read, Operation::write};
  std::vector<Pattern> patterns{Pattern::random, Pattern::sequential};
  std::vector<std::uint32_t> block_sizes{4096};
  std::vector<unsigned> depths{1, 8, 64};
  std::vector<unsigned> disks{1, 4};
};

/// What takes seconds and not minutes.
LoadMatrix quick_matrix();

/// Its cases; those that differ in depth alone stand beside each other, the shallowest first.
std::vector<LoadCase> cases_of(const LoadMatrix& matrix);

}  // namespace aiolos::measure
