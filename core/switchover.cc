// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/switchover.h"

#include <algorithm>

namespace aiolos {
namespace {

using namespace std::chrono_literals;

// The least that can be set. Alone it holds a guest that writes much, and for the others most of the copying.
constexpr std::chrono::milliseconds kHeldDowntime = 1ms;
// Below it, or what is sent in half a second, a held copy trickles: at full speed the rest could be gone between two
// looks, and QEMU switches over when nothing is left whatever the limit is. Pages of zeros cost nothing to send: 40
// MiB of them were gone within 20 ms.
constexpr std::uint64_t kLittle = std::uint64_t{128} << 20;
// Near is what is sent within so many downtime limits; it stays near up to twice that.
constexpr std::uint64_t kNearLimits = 3;

std::chrono::milliseconds limit_at(const SwitchoverSettings& settings, std::chrono::milliseconds elapsed) {
  const unsigned steps = std::max(1U, settings.downtime_steps);
  const std::chrono::milliseconds delay = settings.downtime_step_delay;
  const auto passed = delay > 0ms ? std::min<std::int64_t>(elapsed / delay, steps - 1) : steps - 1;
  return std::max(1ms, settings.downtime_limit * (passed + 1) / steps);
}

/// Of a switchover that is not held: whether what is left can be sent within a few downtime limits.
bool is_near(const MigrationProgress& progress, std::chrono::milliseconds limit, bool was_near) {
  if (progress.bandwidth == 0 || progress.total_bytes == 0) return false;
  const auto within = static_cast<std::uint64_t>(limit.count()) * kNearLimits * (was_near ? 2 : 1);
  return progress.remaining_bytes <= progress.bandwidth / 1000 * within;
}

bool is_little(const MigrationProgress& progress) {
  return progress.total_bytes != 0 && progress.remaining_bytes <= std::max(kLittle, progress.bandwidth / 2);
}

}  // namespace

SwitchoverOrder steer_switchover(const SwitchoverSettings& settings, const SwitchoverView& view,
                                 const SwitchoverOrder& before) {
  SwitchoverOrder order;
  order.post_copy = before.post_copy || (settings.post_copy_after && view.elapsed >= *settings.post_copy_after);
  order.overdue = !before.post_copy && view.elapsed >= settings.deadline;
  order.held = !order.post_copy && settings.max_drain && (!view.drain || *view.drain > *settings.max_drain);
  order.bandwidth_mib_s = settings.bandwidth_mib_s.value_or(kNoBandwidthLimit);
  if (order.held) {
    order.downtime_limit = kHeldDowntime;
    order.trickle = before.trickle || is_little(view.progress);  // until the hold ends, or it would race down again
    return order;
  }
  order.downtime_limit = limit_at(settings, view.elapsed);
  order.near = order.post_copy || is_near(view.progress, order.downtime_limit, before.near);
  return order;
}

std::optional<std::chrono::microseconds> predicted_downtime(const SwitchoverView& view) {
  std::optional<std::chrono::microseconds> copying;
  if (view.progress.downtime_ms)
    copying = std::chrono::milliseconds(*view.progress.downtime_ms);
  else if (view.progress.bandwidth > 0)
    copying = std::chrono::milliseconds(view.progress.remaining_bytes * 1000 / view.progress.bandwidth);
  if (!copying && !view.drain) return std::nullopt;
  return copying.value_or(0us) + view.drain.value_or(0us);
}

}  // namespace aiolos
