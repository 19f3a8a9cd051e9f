// SPDX-License-Identifier: Apache-2.0
// Profile measured: what was measured on this host decides, where it fits the volume.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "agent_fixture.h"
#include "aiolos/host/measured_profiles.h"

namespace aiolos {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Measured : public test::AgentFixture {
 protected:
  void SetUp() override { open("aio: {profile: measured}"); }

  /// Keeps that io_uring was faster than native on images of this allocation.
  std::string save(Allocation allocation) {
    MeasuredProfile profile;
    profile.storage = {"scripted", "raw", allocation, ""};
    profile.date = "2026-11-22T10:00:00Z";
    profile.kernel = world_.host.kernel;
    profile.qemu = world_.host.qemu;
    profile.modes = {{AioMode::native, 2}, {AioMode::io_uring, 1.5}, {AioMode::threads, 1}};
    if (allocation == Allocation::full) std::swap(profile.modes[0].mode, profile.modes[1].mode);
    profile.cases = 4;
    profile.widest_case = "random read 4 KiB, depth 1, 1 disk";
    profile.widest_lead = 3;
    return *save_measured_profile(state_.path(), profile);
  }
  Explanation explain() {
    const Json info = {{"driver_volume_type", "scripted"}, {"serial", "s"}, {"data", {{"path", "/images/vol"}}}};
    const auto explained = agent_->explain(info, {{"bus", "virtio"}, {"dev", "vdb"}, {"type", "disk"}});
    EXPECT_TRUE(explained) << describe(explained.error());
    return explained.value_or(Explanation());
  }
};

TEST_F(Measured, TheFastestModeIsTakenAndTheMeasurementNamed) {
  save(Allocation::full);
  const Explanation explained = explain();
  EXPECT_EQ(explained.decision.mode, AioMode::io_uring);
  EXPECT_THAT(explained.xml, HasSubstr("io='io_uring'"));
  EXPECT_THAT(to_json(explained.decision).dump(),
              HasSubstr("measured 2026-11-22T10:00:00Z on this class of storage (scripted, raw, full, ), with "
                        "Linux 6.1.0 and QEMU 7.2.22"));
  EXPECT_THAT(explained.notes, IsEmpty());
}

TEST_F(Measured, AMeasurementOfAnotherDayAndQemuDecidesWithANote) {
  save(Allocation::full);
  world_.host.qemu = version(8, 0);
  world_.wall = std::chrono::sys_days(std::chrono::year(2027) / 11 / 22);
  open("aio: {profile: measured}");
  const Explanation explained = explain();
  EXPECT_EQ(explained.decision.mode, AioMode::io_uring);
  EXPECT_THAT(explained.notes, ElementsAre(AllOf(HasSubstr("QEMU 7.2.22 and this host has 8.0.0"),
                                                 HasSubstr("365 days old"), HasSubstr("aiolos measure --save"))));
}

TEST_F(Measured, NeverNativeOnASparseImageHoweverFastItWas) {
  save(Allocation::sparse);
  world_.allocation = Allocation::sparse;
  const Explanation explained = explain();
  EXPECT_EQ(explained.decision.mode, AioMode::io_uring);
  EXPECT_THAT(to_json(explained.decision).dump(), HasSubstr("io_submit(2) can block QEMU"));
}

TEST_F(Measured, FactsDecideWhereTheClassWasNotMeasured) {
  save(Allocation::sparse);
  const Explanation explained = explain();
  EXPECT_EQ(explained.decision.mode, AioMode::native);
  EXPECT_THAT(to_json(explained.decision).dump(),
              HasSubstr("nothing was measured on its class of storage (scripted, raw, full, ); aiolos measure --save"));
}

TEST_F(Measured, FactsDecideWhereTheMeasurementCannotBeRead) {
  const std::string file = save(Allocation::full);
  std::ofstream(file) << "{";
  const Explanation explained = explain();
  EXPECT_EQ(explained.decision.mode, AioMode::native);
  EXPECT_THAT(to_json(explained.decision).dump(), HasSubstr("is no measurement"));
}

TEST_F(Measured, OtherProfilesDoNotLookAtIt) {
  save(Allocation::full);
  open("aio: {profile: auto}");
  EXPECT_EQ(explain().decision.mode, AioMode::native);
}

}  // namespace
}  // namespace aiolos
