// SPDX-License-Identifier: Apache-2.0
// When a guest may switch over, by ticks.
#include "aiolos/core/switchover.h"

#include <gtest/gtest.h>

namespace aiolos {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

SwitchoverView view(std::chrono::milliseconds elapsed, std::uint64_t remaining_mib = 500,
                    std::optional<std::chrono::microseconds> drain = std::nullopt) {
  SwitchoverView seen;
  seen.elapsed = elapsed;
  seen.progress.total_bytes = 1024 * kMiB;
  seen.progress.remaining_bytes = remaining_mib * kMiB;
  seen.progress.bandwidth = 100 * kMiB;
  seen.drain = drain;
  return seen;
}

TEST(Switchover, RaisesTheDowntimeLimitInSteps) {
  SwitchoverSettings settings;
  settings.downtime_limit = 400ms;
  settings.downtime_steps = 4;
  settings.downtime_step_delay = 10s;
  EXPECT_EQ(steer_switchover(settings, view(0s), {}).downtime_limit, 100ms);
  EXPECT_EQ(steer_switchover(settings, view(9999ms), {}).downtime_limit, 100ms);
  EXPECT_EQ(steer_switchover(settings, view(10s), {}).downtime_limit, 200ms);
  EXPECT_EQ(steer_switchover(settings, view(500s), {}).downtime_limit, 400ms);
}

TEST(Switchover, AtOnceWithoutADelay) {
  SwitchoverSettings settings;
  settings.downtime_limit = 400ms;
  settings.downtime_steps = 4;
  EXPECT_EQ(steer_switchover(settings, view(0s), {}).downtime_limit, 400ms);
}

TEST(Switchover, IsNearWhenLittleIsLeftAndStaysSoForAWhile) {
  SwitchoverOrder order = steer_switchover({}, view(1s, 500), {});
  EXPECT_FALSE(order.near);
  order = steer_switchover({}, view(2s, 80), order);  // 0.8 s of copying, three limits of 300 ms
  EXPECT_TRUE(order.near);
  order = steer_switchover({}, view(3s, 150), order);
  EXPECT_TRUE(order.near) << "what is dirtied anew goes up and down";
  EXPECT_FALSE(steer_switchover({}, view(4s, 400), order).near);
}

TEST(Switchover, IsNotNearBeforeAnythingIsKnown) { EXPECT_FALSE(steer_switchover({}, SwitchoverView{}, {}).near); }

TEST(Switchover, IsHeldWhileTheDrainIsTooLong) {
  SwitchoverSettings settings;
  settings.max_drain = 20ms;
  SwitchoverOrder order = steer_switchover(settings, view(1s, 500, 40ms), {});
  EXPECT_TRUE(order.held);
  EXPECT_EQ(order.downtime_limit, 1ms);
  EXPECT_FALSE(order.trickle) << "most of the memory is copied at full speed";
  order = steer_switchover(settings, view(2s, 10, 40ms), order);
  EXPECT_TRUE(order.trickle);
  EXPECT_FALSE(order.near);
  order = steer_switchover(settings, view(3s, 100, 40ms), order);
  EXPECT_TRUE(order.trickle) << "or it would race down again";
  order = steer_switchover(settings, view(4s, 10, 15ms), order);
  EXPECT_FALSE(order.held);
  EXPECT_FALSE(order.trickle);
  EXPECT_TRUE(order.near);
  EXPECT_EQ(order.downtime_limit, kUsualDowntime);
  EXPECT_EQ(order.bandwidth_mib_s, kNoBandwidthLimit);
}

TEST(Switchover, ADrainThatNobodyKnowsIsTooLong) {
  SwitchoverSettings settings;
  settings.max_drain = 20ms;
  EXPECT_TRUE(steer_switchover(settings, view(1s), {}).held);
}

TEST(Switchover, KeepsTheOperatorsBandwidth) {
  SwitchoverSettings settings;
  settings.bandwidth_mib_s = 50;
  EXPECT_EQ(steer_switchover(settings, view(1s), {}).bandwidth_mib_s, 50U);
}

TEST(Switchover, IsOverdueAtTheDeadline) {
  SwitchoverSettings settings;
  settings.deadline = 60s;
  EXPECT_FALSE(steer_switchover(settings, view(59999ms), {}).overdue);
  EXPECT_TRUE(steer_switchover(settings, view(60s), {}).overdue);
}

TEST(Switchover, PostCopyHasNoWayBack) {
  SwitchoverSettings settings;
  settings.post_copy_after = 30s;
  settings.deadline = 60s;
  settings.max_drain = 20ms;
  SwitchoverOrder order = steer_switchover(settings, view(29s, 500, 40ms), {});
  EXPECT_FALSE(order.post_copy);
  EXPECT_TRUE(order.held);
  order = steer_switchover(settings, view(30s, 500, 40ms), order);
  EXPECT_TRUE(order.post_copy);
  EXPECT_FALSE(order.held);
  EXPECT_TRUE(order.near);
  order = steer_switchover(settings, view(60s), order);
  EXPECT_TRUE(order.post_copy);
  EXPECT_FALSE(order.overdue);
}

TEST(PredictedDowntime, AddsTheDrainToTheCopying) {
  EXPECT_EQ(predicted_downtime(view(1s, 10, 20ms)), 120ms);
  SwitchoverView told = view(1s, 10, 20ms);
  told.progress.downtime_ms = 50;
  EXPECT_EQ(predicted_downtime(told), 70ms);
  EXPECT_EQ(predicted_downtime(SwitchoverView{}), std::nullopt);
}

}  // namespace
}  // namespace aiolos
