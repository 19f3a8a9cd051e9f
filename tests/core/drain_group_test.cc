// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/drain_group.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>

namespace aiolos {
namespace {

using namespace std::chrono_literals;
using Mode = DrainGovernor::Mode;
using State = DrainGroup::State;

class DrainGroupTest : public testing::Test {
 protected:
  DrainGroupTest() {
    for (const DrainGroup::DiskId disk : {0, 1, 2}) group_.add(disk);
  }
  std::array<Mode, 3> modes() const { return {group_.mode(0), group_.mode(1), group_.mode(2)}; }
  static constexpr std::array<Mode, 3> all(Mode mode) { return {mode, mode, mode}; }

  DrainGroup group_{20ms};
  DrainGroup::Time now_{1s};
};

TEST_F(DrainGroupTest, LeavesAGuestAloneThatDoesNotMigrate) {
  EXPECT_EQ(group_.state(), State::normal);
  EXPECT_EQ(modes(), all(Mode::free));
  group_.switchover_near(true);
  EXPECT_EQ(modes(), all(Mode::free)) << "a hint without a migration";
}

TEST_F(DrainGroupTest, TracksAllDisksFromTheFirstLogOn) {
  group_.logging(1, true);
  EXPECT_EQ(group_.state(), State::track);
  EXPECT_EQ(modes(), all(Mode::tracked));
}

TEST_F(DrainGroupTest, ClampsWhenSwitchoverIsNear) {
  group_.logging(0, true);
  group_.switchover_near(true);
  EXPECT_EQ(group_.state(), State::clamp);
  EXPECT_EQ(modes(), all(Mode::clamped));
  group_.switchover_near(false);
  EXPECT_EQ(group_.state(), State::track);
}

TEST_F(DrainGroupTest, AFailedMigrationGoesBackToNormalAndForgetsTheHint) {
  group_.logging(0, true);
  group_.switchover_near(true);
  group_.logging(0, false);
  EXPECT_EQ(modes(), all(Mode::free));
  group_.logging(0, true);
  EXPECT_EQ(group_.state(), State::track);
}

TEST_F(DrainGroupTest, TheFirstStopStopsAll) {
  group_.logging(0, true);
  group_.stopping(0, now_);
  EXPECT_EQ(group_.state(), State::quiesce);
  EXPECT_EQ(modes(), all(Mode::stopped));
  group_.stopping(1, now_ += 15ms);
  group_.stopping(2, now_ += 15ms);
  EXPECT_EQ(group_.state(), State::stopped);
  group_.tick(now_ += 1h);
  EXPECT_EQ(modes(), all(Mode::stopped)) << "a stopped guest stays stopped";
}

TEST_F(DrainGroupTest, ASlowDiskDoesNotSetTheOthersFree) {
  group_.stopping(0, now_);
  group_.tick(now_ += 50ms);
  group_.stopping(1, now_);
  group_.tick(now_ += 50ms);
  EXPECT_EQ(group_.state(), State::quiesce) << "100 ms after the first stop, and 50 ms after the last one";
}

/// QEMU comes to the next disk when the one before has nothing in flight, however long that takes.
TEST_F(DrainGroupTest, TheOthersWaitAsLongAsRequestsAreInFlight) {
  group_.stopping(0, now_);
  for (int i = 0; i < 40; ++i) {
    group_.draining(now_ += 5ms);
    group_.tick(now_);
  }
  group_.tick(now_ += 50ms);
  EXPECT_EQ(group_.state(), State::quiesce);
  group_.tick(now_ += 11ms);
  EXPECT_EQ(group_.state(), State::normal) << "nothing has been in flight for three times the target";
}

TEST_F(DrainGroupTest, KnowsForWhichDisksQemuWaits) {
  group_.stopping(1, now_);
  EXPECT_EQ((std::array{group_.is_stopping(0), group_.is_stopping(1), group_.is_stopping(2)}),
            (std::array{false, true, false}));
  group_.started(1);
  EXPECT_FALSE(group_.is_stopping(1));
}

TEST_F(DrainGroupTest, AResetOfOneDiskStopsTheOthersForAShortTime) {
  group_.stopping(0, now_);
  group_.tick(now_ += 61ms);
  EXPECT_EQ(modes(), (std::array{Mode::stopped, Mode::free, Mode::free}));
  group_.started(0);
  EXPECT_EQ(modes(), all(Mode::free));
}

TEST_F(DrainGroupTest, AGuestThatGoesOnGoesOnAtOnce) {
  for (const DrainGroup::DiskId disk : {0, 1, 2}) group_.stopping(disk, now_);
  ASSERT_EQ(group_.state(), State::stopped);
  group_.started(2);
  EXPECT_EQ(modes(), (std::array{Mode::stopped, Mode::stopped, Mode::free}));
}

TEST_F(DrainGroupTest, TheRestStopsAgainAfterItWentOn) {
  group_.logging(0, true);
  group_.stopping(0, now_);
  group_.tick(now_ += 61ms);
  EXPECT_EQ(modes(), (std::array{Mode::stopped, Mode::tracked, Mode::tracked}));
  group_.stopping(1, now_);
  EXPECT_EQ(modes(), all(Mode::stopped));
}

TEST_F(DrainGroupTest, WithoutATargetNothingIsHeldBackBeforeTheStop) {
  group_.set_target(std::nullopt);
  group_.logging(0, true);
  group_.switchover_near(true);
  EXPECT_EQ(modes(), all(Mode::free));
  group_.stopping(0, now_);
  EXPECT_EQ(modes(), all(Mode::stopped));
}

TEST_F(DrainGroupTest, ADiskThatGoesIsNotWaitedFor) {
  group_.stopping(0, now_);
  group_.stopping(1, now_);
  group_.remove(2);
  EXPECT_EQ(group_.state(), State::stopped);
}

}  // namespace
}  // namespace aiolos
