// SPDX-License-Identifier: Apache-2.0
// When a migrating guest may switch over, and what QEMU and aiolos-engine are told for it. Pure: a function of what is
// set, what is seen and what was seen before, so it is tested by ticks.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "aiolos/core/migration.h"

namespace aiolos {

/// QEMU's own downtime limit. Source: QEMU migration/options.c, DEFAULT_MIGRATE_SET_DOWNTIME.
constexpr std::chrono::milliseconds kUsualDowntime{300};

/// What libvirt takes for no limit, in MiB/s. Source: libvirt qemu_domain.h, QEMU_DOMAIN_MIG_BANDWIDTH_MAX.
constexpr std::uint64_t kNoBandwidthLimit = INT64_MAX / (std::int64_t{1024} * 1024);

/// The operator's part.
struct SwitchoverSettings {
  std::chrono::milliseconds downtime_limit = kUsualDowntime;
  unsigned downtime_steps = 1;  ///< As MigrationSettings has it.
  std::chrono::seconds downtime_step_delay{0};
  std::optional<std::uint64_t> bandwidth_mib_s;
  std::optional<std::chrono::microseconds> max_drain;   ///< No switchover while a drain would take longer.
  std::optional<std::chrono::seconds> post_copy_after;  ///< Then the guest goes over, and its pages follow.
  std::chrono::seconds deadline{600};                   ///< Then it is given up.
};

/// What is seen of a migration now.
struct SwitchoverView {
  std::chrono::milliseconds elapsed{0};
  MigrationProgress progress;
  std::optional<std::chrono::microseconds> drain;  ///< What a drain would take; nullopt where nobody knows.
};

/// What is to be.
struct SwitchoverOrder {
  std::chrono::milliseconds downtime_limit = kUsualDowntime;
  std::uint64_t bandwidth_mib_s = kNoBandwidthLimit;
  bool held = false;       ///< The drain is too long: no switchover now.
  bool trickle = false;    ///< Held, with little left: Migrations::hold.
  bool near = false;       ///< The switchover is about to come.
  bool post_copy = false;  ///< Pages follow the guest: it cannot be ended any more.
  bool overdue = false;    ///< The deadline has passed.

  bool operator==(const SwitchoverOrder&) const = default;
};

/// @param before the order that was given last; of the first one the default.
SwitchoverOrder steer_switchover(const SwitchoverSettings& settings, const SwitchoverView& view,
                                 const SwitchoverOrder& before);

/// How long the guest would stand still if it switched over now: what QEMU expects, else what is left by the bandwidth,
/// and the drain before it. nullopt where nothing of it is known.
std::optional<std::chrono::microseconds> predicted_downtime(const SwitchoverView& view);

}  // namespace aiolos
