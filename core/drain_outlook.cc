// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/drain_outlook.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace aiolos {
namespace {

using std::chrono::microseconds;

// QEMU's own sizes: hw/block/virtio-blk.c, queue-size; hw/scsi/virtio-scsi.c, cmd_per_lun.
constexpr unsigned kUsualQueue = 256;
constexpr unsigned kUsualCommands = 128;

/// Requests that the guest can have in flight on the disk.
unsigned queue_of(const PlanDisk& disk, unsigned vcpus) {
  if (disk.bus == PlanBus::scsi) return kUsualCommands;
  return disk.queues.value_or(std::max(1U, vcpus)) * disk.queue_size.value_or(kUsualQueue);
}

bool uses_pool(const PlanDisk& disk) {
  return !disk.network && disk.mode.value_or(AioMode::threads) == AioMode::threads;
}

microseconds milliseconds_to(double milliseconds) {
  return microseconds(static_cast<std::int64_t>(std::llround(milliseconds * 1000)));
}

/// A full queue, by what the storage does in a second, or by the pool's threads.
microseconds time_of(const PlanDisk& disk, unsigned queue, unsigned threads) {
  const double latency = disk.speed.latency_ms.value_or(0);
  double longest = std::max(latency, queue * 1000 / *disk.speed.iops);
  if (uses_pool(disk) && threads > 0) longest = std::max(longest, std::ceil(double(queue) / threads) * latency);
  return milliseconds_to(longest);
}

std::vector<std::string> what_helps(const PlanDisk& disk, bool is_speed_known) {
  std::vector<std::string> helps;
  if (!is_speed_known)
    helps.emplace_back(
        "say what its storage does (plan.storage: {TYPE: {iops: .., latency_ms: ..}}): aiolos plan then "
        "sizes its queue by that");
  else if (disk.bus == PlanBus::virtio)
    helps.emplace_back("a queue_size that its storage needs, which aiolos plan names (at the guest's next start)");
  helps.emplace_back("aiolos-engine (data_plane: engine), which takes no more than it can finish in time");
  if (disk.bus == PlanBus::virtio)
    helps.emplace_back("fewer requests in the guest while it moves, by its agent (migration.guest_agent)");
  return helps;
}

}  // namespace

Json to_json(const DrainOutlook& outlook) {
  return {{"bounded", outlook.bounded},
          {"longest_us", outlook.longest ? Json(outlook.longest->count()) : Json(nullptr)},
          {"because", outlook.because},
          {"helps", outlook.helps}};
}

std::string describe(const DrainOutlook& outlook) {
  std::string text = outlook.bounded ? "bounded" : "not bounded";
  if (outlook.longest)
    text += fmt::format("{} {:.1f} ms", outlook.bounded ? " to" : ", up to",
                        static_cast<double>(outlook.longest->count()) / 1000);
  return text + ": " + outlook.because;
}

DrainOutlook engine_outlook(std::optional<microseconds> bound) {
  if (bound == microseconds::zero())
    return {false,
            std::nullopt,
            "aiolos-engine takes all that the guest asks for, as its drain_target_ms is 0",
            {"drain_target_ms of aiolos-engine, or its command set-drain-target for this guest"}};
  return {true, bound, "aiolos-engine takes no more from the guest than it can finish within its drain_target_ms", {}};
}

DrainOutlook stock_outlook(const PlanDisk& disk, unsigned vcpus, unsigned threads) {
  const unsigned queue = queue_of(disk, vcpus);
  if (!disk.speed.iops)
    return {false, std::nullopt,
            fmt::format("QEMU takes all that the guest asks for, up to {} requests, and it is not known how fast its "
                        "storage is",
                        queue),
            what_helps(disk, /*is_speed_known=*/false)};
  const unsigned useful = useful_depth(disk.speed);
  // What the plan would give it counts as no deeper: smaller queues cost throughput by themselves.
  const unsigned planned = std::max(kSmallestPlannedQueue, std::bit_ceil(useful));
  DrainOutlook outlook{queue <= planned, time_of(disk, queue, threads), {}, {}};
  outlook.because = fmt::format("QEMU takes up to {} requests, and its storage ({:.0f} IOPS, by {}) has use for {}",
                                queue, *disk.speed.iops, disk.speed.source, useful);
  if (!outlook.bounded) outlook.helps = what_helps(disk, /*is_speed_known=*/true);
  return outlook;
}

}  // namespace aiolos
