// SPDX-License-Identifier: Apache-2.0
// What the disks of a guest do when it is stopped, and before.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>

#include "served.h"

namespace aiolos::engine {
namespace {

using namespace std::chrono_literals;

class DrainTest : public testing::Test {
 protected:
  /// A disk of the guest "vm".
  std::shared_ptr<DiskStatistics> serve(const std::string& name, const std::string& path) {
    DiskSettings settings;
    settings.path = path;
    settings.socket = folder_ / name;
    settings.group = "vm";
    return served_.add(settings);
  }

  std::unique_ptr<FrontEnd> connected(const std::string& name) { return connect(folder_ / name); }

  Folder folder_;
  Served served_;
};

TEST_F(DrainTest, TheFirstStopStopsTheGuestsOtherDisks) {
  for (const char* name : {"a", "b"}) serve(name, folder_.file(std::string("disk-") + name, 1U << 20));
  served_.reactor().set_drain_target("vm", 1h);
  const auto a = connected("a");
  const auto b = connected("b");
  BlockDriver driver(*b, 0, 1, kBlock);
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);

  ASSERT_TRUE(a->stop(0).has_value());
  ASSERT_TRUE(driver.start(0, VIRTIO_BLK_T_IN, 0, kBlock));
  driver.kick();
  EXPECT_FALSE(driver.wait(300ms).has_value()) << "a request was taken from a guest that is being stopped";
  ASSERT_TRUE(a->start().has_value());
  EXPECT_TRUE(driver.wait().has_value()) << "the guest goes on, and so do all its disks";
}

TEST_F(DrainTest, TheOthersGoOnWhereTheyAreNotStoppedToo) {
  for (const char* name : {"a", "b"}) serve(name, folder_.file(std::string("disk-") + name, 1U << 20));
  const auto a = connected("a");
  const auto b = connected("b");
  BlockDriver driver(*b, 0, 1, kBlock);
  ASSERT_TRUE(a->stop(0).has_value());
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
}

/// By how much is the governor's own test: here the storage is as fast as the machine lets it be.
TEST_F(DrainTest, AGuestThatMigratesHasLessInFlight) {
  const SlowFile slow(folder_, 64 * kBlock, "delay 10000 gap 2000");
  const auto statistics = serve("a", slow.path());
  const auto front_end = connected("a");
  constexpr unsigned kDepth = 64;
  BlockDriver driver(*front_end, 0, kDepth, kBlock);
  const auto busy = [&](std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      while (const auto slot = driver.free_slot())
        if (!driver.start(*slot, VIRTIO_BLK_T_IN, *slot * (kBlock / 512), kBlock)) break;
      driver.kick();
      if (!driver.wait()) return false;
    }
    return true;
  };
  ASSERT_TRUE(busy(3s));
  const auto wanted = statistics->in_flight.get();
  EXPECT_GT(wanted, 20U);

  const std::uint64_t features = front_end->features() | kFeatureLogAll;
  ASSERT_TRUE(front_end->tell(Request::set_features, std::as_bytes(std::span(&features, 1))).has_value());
  ASSERT_TRUE(busy(4s));
  EXPECT_LT(statistics->in_flight.get(), wanted) << "forecast " << statistics->drain_forecast_ns.get() / 1000
                                                 << " us, bound " << statistics->drain_bound_ns.get() / 1000 << " us";
  EXPECT_EQ(statistics->drain_state.get(), static_cast<std::uint64_t>(DrainGroup::State::track));
  ASSERT_TRUE(front_end->stop(0).has_value());
  EXPECT_EQ(statistics->drains.get(), 1U);
}

}  // namespace
}  // namespace aiolos::engine
