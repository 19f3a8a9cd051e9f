// SPDX-License-Identifier: Apache-2.0
// Loading the plugins that are shipped.
#include <benchmark/benchmark.h>

#include "aiolos/plugins/registry.h"

namespace aiolos {
namespace {

/// dlopen, checks and init of all of them, and unloading again. The first round reads the files from disk; the rest
/// find them in the page cache, as a second command on a host does.
void load_plugins(benchmark::State& state) {
  std::size_t loaded = 0;
  for (auto _ : state) {
    const auto registry = Registry::load({BENCH_PLUGINS}, {});
    if (!registry->rejected().empty()) return state.SkipWithError("a plugin cannot be loaded");
    loaded = registry->drivers().size();
  }
  state.counters["plugins"] = static_cast<double>(loaded);
}
BENCHMARK(load_plugins)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace aiolos
