// SPDX-License-Identifier: Apache-2.0
// Old plugins work for ever: today's tables only append to those of ABI 1.0, and a plugin of then runs as it did.
#include "layout.h"
#include "testing.h"

namespace aiolos::testing {
namespace {

using ::testing::ElementsAre;

TEST(Abi, TodaysTablesOnlyAppendToThoseOf10) {
  const abi_member* now = abi_now;
  for (const abi_member* old = abi_1_0; old->name != nullptr; ++old, ++now) {
    ASSERT_STREQ(old->name, now->name);
    if (std::string_view(old->name).starts_with("sizeof "))
      EXPECT_GE(now->offset, old->offset) << old->name << " has shrunk";
    else
      EXPECT_EQ(now->offset, old->offset) << old->name << " has moved";
    EXPECT_EQ(now->size, old->size) << old->name << " has another size";
  }
}

TEST(Abi, TheMajorVersionIsThatOf10) { EXPECT_EQ(AIOLOS_ABI_MAJOR, 1u); }

TEST(Abi, APluginOfALaterMinorVersionLoads) {
  const auto registry = load({kFixtures});
  Driver* newer = driver(*registry, "newer_minor");
  EXPECT_TRUE(newer->capabilities() & AIOLOS_CAN_MULTIATTACH);
  EXPECT_EQ(newer->describe(Json())->source.path, "/dev/null");
}

class OldPlugin : public ::testing::Test {
 protected:
  OldPlugin() {
    PluginServices services;
    services.commands = &commands_;
    services.log = log_.sink();
    registry_ = load({kFixtures}, services);
    driver_ = driver(*registry_, "old");
  }
  ::testing::NiceMock<MockCommands> commands_;
  Log log_;
  std::unique_ptr<Registry> registry_;
  Driver* driver_ = nullptr;
  const Json info_ = volume("old", {{"path", "/a"}});
};

TEST_F(OldPlugin, EverySlotRuns) {
  EXPECT_CALL(commands_, run(::testing::_))
      .WillOnce(::testing::Return(CommandResult{0, "ran", "", {}}))
      .WillOnce(::testing::Return(fail(ErrorKind::retry, "slow", "wait")));
  EXPECT_EQ(driver_->describe(info_)->state, Json::parse(R"({"n": 1, "b": true, "j": [1]})"));
  EXPECT_EQ(driver_->describe(volume("old", {})).error(),
            (Error{ErrorKind::bad_input, "no path", "add it", "/data/path"}));
  EXPECT_EQ(driver_->target(info_).value(), "old:old");
  EXPECT_EQ(driver_->connect(info_)->source.path, "/a");
  EXPECT_EQ(driver_->connect(info_)->source.path, "/a");
  EXPECT_TRUE(driver_->disconnect(info_, nullptr, true).has_value());
  EXPECT_EQ(driver_->extend(info_, {}, 4096).value(), 4096u);
  EXPECT_TRUE(driver_->facts(info_, {})->chain.empty());
  EXPECT_THAT(driver_->aio_mode({}, nullptr)->permitted, ElementsAre(AioMode::threads));
  EXPECT_THAT(log_.lines(), ElementsAre("everything: init", "old: ran", "old: {\"colour\":\"grey\"}", "old: slow",
                                        "old: {\"colour\":\"grey\"}", "old: forced"));
}

}  // namespace
}  // namespace aiolos::testing
