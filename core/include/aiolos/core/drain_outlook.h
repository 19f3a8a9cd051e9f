// SPDX-License-Identifier: Apache-2.0
// Which disks' drains are bounded at a live migration, and why others are not. Pure; docs/drain.md has the rules.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/json.h"
#include "aiolos/core/queue_plan.h"

namespace aiolos {

/// What a drain of one disk can come to.
struct DrainOutlook {
  bool bounded = false;
  std::optional<std::chrono::microseconds> longest;  ///< With all that the guest can put in flight; nullopt: not known.
  std::string because;
  std::vector<std::string> helps;  ///< What would bound it; empty if it is bounded.
};

/// {"bounded", "longest_us", "because", "helps"}
Json to_json(const DrainOutlook& outlook);

/// "bounded to 64.0 ms: ..", "not bounded, up to 512.0 ms: ..".
std::string describe(const DrainOutlook& outlook);

/// Of a disk that aiolos-engine serves. @param bound as the engine has it, 0 for none; nullopt: not asked.
DrainOutlook engine_outlook(std::optional<std::chrono::microseconds> bound);

/// Of a disk that QEMU serves. @param vcpus of the guest: a virtio disk without a number of queues has one for each.
/// @param threads of the pool that serves it, where that matters.
DrainOutlook stock_outlook(const PlanDisk& disk, unsigned vcpus, unsigned threads = kPoolPerDisk);

}  // namespace aiolos
