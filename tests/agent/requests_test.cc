// SPDX-License-Identifier: Apache-2.0
#include "requests.h"

#include <gtest/gtest.h>

#include "aiolos/aiolos.h"
#include "fake_machine.h"
#include "temporary_folder.h"

namespace aiolos {
namespace {

class Requests : public ::testing::Test {
 protected:
  void SetUp() override {
    Agent::Options options;
    options.config.plugins.path = {TEST_PLUGINS};
    options.config.state.dir = state_.path();
    options.machine = std::make_unique<test::FakeMachine>(world_);
    agent_ = std::move(*Agent::open(std::move(options)));
  }
  Json run(const Json& request) { return run_request(*agent_, request); }

  const Json volume_ = {{"driver_volume_type", "scripted"}, {"data", {{"path", "/x"}}}};
  const Json disk_ = {{"bus", "virtio"}, {"dev", "vdb"}};
  test::TemporaryFolder state_;
  test::World world_;
  std::unique_ptr<Agent> agent_;
};

TEST_F(Requests, RunEveryFlow) {
  const Json driver = run({{"command", "drivers"}})["drivers"][0];
  EXPECT_EQ(driver["name"], "scripted");
  EXPECT_EQ(driver["configuration"], Json::parse(R"({"scripted": {"word": "none"}})"));
  EXPECT_EQ(run({{"command", "host"}})["qemu"], "7.2.22");
  EXPECT_TRUE(run({{"command", "disk_xml"}, {"connection_info", volume_}, {"disk_info", disk_}}).contains("xml"));
  const Json volume = {{"connection_info", volume_}, {"disk_info", disk_}, {"domain", "guest"}};
  Json explain = volume;
  explain["command"] = "explain";
  EXPECT_EQ(run(explain)["aio"]["mode"], "native");
  EXPECT_EQ(run(explain)["facts"]["storage"]["allocation"], "full");
  Json attach = volume;
  attach["command"] = "attach";
  attach["dry_run"] = true;
  EXPECT_EQ(run(attach)["aio"]["mode"], "native");
  EXPECT_TRUE(world_.events.empty());
  attach["dry_run"] = false;
  EXPECT_EQ(run(attach)["aio"]["mode"], "native");
  EXPECT_EQ(run({{"command", "extend"}, {"domain", "guest"}, {"target", "vdb"}, {"size", 4096}}),
            (Json{{"size", 4096}}));
  EXPECT_EQ(run({{"command", "detach"}, {"domain", "guest"}, {"target", "vdb"}}), Json::object());
}

TEST_F(Requests, PlanIsTheReport) {
  world_.process = ProcessAio{0, 1};
  const Json planned = run({{"command", "plan"}, {"domain", "guest"}});
  EXPECT_EQ(planned["domain"], "guest");
  EXPECT_EQ(planned["plan"]["engines"][0]["engine"], "main loop");
  EXPECT_EQ(planned["real"]["aio_contexts"], 0);
  EXPECT_TRUE(planned["applied"].empty());
  EXPECT_EQ(run({{"command", "plan"}, {"domain", "guest"}, {"apply", "yes"}})["error"]["where"], "/apply");
}

TEST_F(Requests, MistakesAreAnswers) {
  EXPECT_EQ(run({{"command", "atach"}})["error"]["where"], "/command");
  EXPECT_EQ(run(Json::array())["error"]["kind"], "bad_input");
  EXPECT_EQ(run({{"command", "disk_xml"}})["error"]["where"], "/connection_info");
  EXPECT_EQ(run({{"command", "detach"}, {"domain", 5}})["error"]["where"], "/domain");
  EXPECT_EQ(run({{"command", "extend"}, {"domain", "guest"}, {"target", "vdb"}, {"size", -1}})["error"]["where"],
            "/size");
}

TEST_F(Requests, SizesThatNoDiskHas) {
  for (const Json& size : {Json(-1), Json("-512"), Json("many"), Json(1.5), Json(18446744073709551104u)}) {
    const Json answer = run({{"command", "extend"}, {"domain", "guest"}, {"target", "vdb"}, {"size", size}});
    EXPECT_EQ(answer["error"]["kind"], "bad_input") << size;
    EXPECT_EQ(answer["error"]["where"], "/size") << size;
  }
}

TEST(CApi, GivesAnErrorWhoseTextIsNoUtf8) {
  char* error = nullptr;
  EXPECT_EQ(aiolos_open("/no/such/\xff.yaml", &error), nullptr);
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(Json::parse(error)["error"]["kind"], "configuration");
  aiolos_free(error);
}

TEST(CApi, GivesAnErrorForADirectory) {
  char* error = nullptr;
  EXPECT_EQ(aiolos_open("/tmp", &error), nullptr);
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(Json::parse(error)["error"]["kind"], "configuration");
  aiolos_free(error);
}

TEST(CApi, TakesNullAndNonsense) {
  aiolos_free(nullptr);
  aiolos_close(nullptr);
  char* answer = aiolos_request(nullptr, "{}");
  ASSERT_NE(answer, nullptr);
  EXPECT_EQ(Json::parse(answer)["error"]["kind"], "bad_input");
  aiolos_free(answer);
  char* error = nullptr;
  EXPECT_EQ(aiolos_open("/no/such/file.yaml", &error), nullptr);
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(Json::parse(error)["error"]["kind"], "configuration");
  aiolos_free(error);
  EXPECT_EQ(aiolos_open("/no/such/file.yaml", nullptr), nullptr);
}

}  // namespace
}  // namespace aiolos
