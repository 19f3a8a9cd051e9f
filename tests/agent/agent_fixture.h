// SPDX-License-Identifier: Apache-2.0
// An agent on a machine in memory, with a driver that does as it is told.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "fake_machine.h"
#include "temporary_folder.h"

namespace aiolos::test {

class AgentFixture : public ::testing::Test {
 protected:
  void SetUp() override { open({}); }

  /// Opens the agent anew, with this configuration and the state that there is.
  void open(const std::string& yaml) {
    agent_.reset();
    auto config = parse_config(yaml, "test.yaml");
    ASSERT_TRUE(config) << describe(config.error());
    config->plugins.path = {TEST_PLUGINS};
    config->state.dir = state_.path();
    Agent::Options options;
    options.config = std::move(*config);
    options.machine = std::make_unique<FakeMachine>(world_);
    auto agent = Agent::open(std::move(options));
    ASSERT_TRUE(agent) << describe(agent.error());
    agent_ = std::move(*agent);
  }

  TemporaryFolder state_;
  World world_;
  std::unique_ptr<Agent> agent_;
};

}  // namespace aiolos::test
