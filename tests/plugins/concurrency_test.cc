// SPDX-License-Identifier: Apache-2.0
// One registry, many threads: each call has its own result and error. Most telling under ThreadSanitizer.
#include <atomic>
#include <thread>

#include "testing.h"

namespace aiolos::testing {
namespace {

TEST(Concurrency, CallsDoNotSeeEachOther) {
  Log log;
  PluginServices services;
  services.log = log.sink();
  const auto registry = load({kFixtures}, services);
  constexpr int kThreads = 8;
  constexpr int kRounds = 500;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread)
    threads.emplace_back([&, thread] {
      for (int round = 0; round < kRounds; ++round) {
        const std::string name = std::to_string(thread) + "-" + std::to_string(round);
        const auto found = registry->find("everything");
        if (!found) {
          ++wrong;
          continue;
        }
        const auto good = (*found)->describe(volume("everything", {{"name", name}, {"state", {{"n", round}}}}));
        const auto bad = (*found)->describe(volume("everything", {{"name", round}}));
        if (!good || good->source.path != "/srv/" + name || good->state["n"] != round) ++wrong;
        if (bad || bad.error().where != "/data/name") ++wrong;
        if (good && (*found)->aio_mode(*good, nullptr)->reasons.at(0) != "path /srv/" + name) ++wrong;
        if (!(*found)->disconnect({}, nullptr, false)) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(log.lines().size(), 1u + kThreads * kRounds);
}

TEST(Concurrency, TwoRegistriesAreTwoWorlds) {
  const auto first = load({kFixtures});
  PluginServices services;
  services.section = [](std::string_view, Json defaults) -> Result<Json> {
    if (defaults.contains("base")) defaults["base"] = "/other";
    return defaults;
  };
  const auto second = load({kFixtures}, services);
  const Json info = volume("everything", {{"name", "v"}});
  EXPECT_EQ(driver(*first, "everything")->describe(info)->source.path, "/srv/v");
  EXPECT_EQ(driver(*second, "everything")->describe(info)->source.path, "/other/v");
}

}  // namespace
}  // namespace aiolos::testing
