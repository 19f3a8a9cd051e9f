// SPDX-License-Identifier: Apache-2.0
// Migration of guests with disks that QEMU serves: what is said of their drains, and when the guest may switch over.
#include "migrating_fixture.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class MigratingStockDisks : public Migrating {
 protected:
  void SetUp() override {
    Migrating::SetUp();
    here_.world.latency = 12ms;
    here_.world.migration.ticks = 20;
  }
};

TEST_F(MigratingStockDisks, TheirDrainIsForecastShownAndReported) {
  attach();
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(done->disks.at(0).drain_predicted, 12ms);
  EXPECT_EQ(done->disks.at(0).drain, std::nullopt);
  const auto is_shown = [](const MigrationStatus& status) { return status.drain == 12ms; };
  EXPECT_TRUE(std::any_of(shown_.begin(), shown_.end(), is_shown));
  EXPECT_GE(done->downtime_predicted, 12ms);
}

TEST_F(MigratingStockDisks, QemuIsAskedWhatIsInFlightOnlyWhereThatIsAllowed) {
  attach();
  request_.dry_run = true;
  ASSERT_TRUE(migrate());
  EXPECT_THAT(here_.world.events, Not(Contains("ask QEMU what is in flight")));
  request_.ask_qemu = true;
  ASSERT_TRUE(migrate());
  EXPECT_THAT(here_.world.events, Contains("ask QEMU what is in flight"));
}

TEST_F(MigratingStockDisks, ARehearsalSaysWhatADrainWouldTake) {
  attach();
  request_.dry_run = true;
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_EQ(done->disks.at(0).drain_predicted, 12ms);
  EXPECT_THAT(here_.world.events, IsEmpty());
}

TEST_F(MigratingStockDisks, AreHeldUntilTheirDrainIsShortEnough) {
  attach();
  request_.max_drain = 20ms;
  request_.deadline = 3600s;
  here_.world.latency = 130ms;
  here_.world.migration.on_tick = [this](unsigned tick) {
    if (tick == 100) here_.world.latency = 10ms;
  };
  const auto done = migrate();
  ASSERT_TRUE(done) << describe(done.error());
  EXPECT_GE(done->result.iterations, 100U);
  EXPECT_THAT(here_.world.events, Contains("hold"));
  EXPECT_LE(done->disks.at(0).drain_predicted, 20ms);
}

TEST_F(MigratingStockDisks, AreGivenUpWhenTheirDrainStaysTooLong) {
  attach();
  request_.max_drain = 20ms;
  request_.deadline = 5s;
  here_.world.latency = 130ms;
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::retry);
  EXPECT_THAT(error.message, HasSubstr("130.0 ms"));
}

TEST_F(MigratingStockDisks, ALimitThatNobodyCanForecastForIsRefused) {
  attach();
  request_.max_drain = 20ms;
  here_.world.latency.reset();
  const Error error = failure();
  EXPECT_EQ(error.kind, ErrorKind::refused);
  EXPECT_THAT(error.message, HasSubstr("vdb"));
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(MigratingStockDisks, OfAGuestWithoutVolumesAreItsOtherDisks) {
  here_.world.disks["vda"] =
      "<disk type='file' device='disk'><source file='/root.img'/><target dev='vda' bus='virtio'/></disk>";
  request_.max_drain = 20ms;
  const auto done = migrate();
  EXPECT_TRUE(done) << describe(done.error());
}

TEST_F(MigratingStockDisks, TheSlowestOfBothDataPlanesCounts) {
  open(", data_plane: engine");
  for (TestHost* const host : {&here_, &there_}) host->world.engines.shared_memory = true;
  attach();
  here_.world.xml_head = "<memoryBacking><access mode='shared'/></memoryBacking>";
  here_.world.disks["vda"] =
      "<disk type='file' device='disk'><source file='/root.img'/><target dev='vda' bus='virtio'/></disk>";
  here_.world.drain.forecast = 5ms;
  here_.world.latency = 40ms;
  request_.max_drain = 20ms;
  request_.deadline = 5s;
  EXPECT_THAT(failure().message, HasSubstr("40.0 ms"));
  here_.world.latency = 10ms;
  const auto done = migrate();
  EXPECT_TRUE(done) << describe(done.error());
}

}  // namespace
}  // namespace aiolos
