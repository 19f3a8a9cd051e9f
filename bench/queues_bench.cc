// SPDX-License-Identifier: Apache-2.0
// The queue plan of a whole host.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "aiolos/core/queue_plan.h"

namespace aiolos {
namespace {

/// Guests with iothreads, each with native disks and disks on threads, half of them of known speed.
std::vector<PlanDomain> guests(unsigned count, unsigned disks) {
  std::vector<PlanDomain> made(count);
  for (unsigned i = 0; i < count; ++i) {
    made[i].name = fmt::format("guest-{}", i);
    made[i].vcpus = 4;
    made[i].engines = {{1, {}, {}, {}, {}}, {2, {}, {}, {}, {}}};
    for (unsigned j = 0; j < disks; ++j) {
      PlanDisk disk;
      disk.target = fmt::format("vd{}", j);
      disk.mode = j % 2 == 0 ? AioMode::native : AioMode::threads;
      disk.attached = false;
      if (j % 4 < 2) disk.speed = {100.0 * (i % 50 + 1), 10.0, "a bench"};
      made[i].disks.push_back(std::move(disk));
    }
  }
  return made;
}

void plan_of_a_host(benchmark::State& state) {
  const auto domains = guests(static_cast<unsigned>(state.range(0)), static_cast<unsigned>(state.range(1)));
  PlanHost host;
  host.cpus = 64;
  host.iothreads = {true, true, true};
  host.contexts_left = 64;
  unsigned contexts = 0;
  for (auto _ : state) {
    const auto plans = plan_host(domains, host, {});
    contexts = 0;
    for (const QueuePlan& plan : plans) contexts += plan.contexts;
    benchmark::DoNotOptimize(plans);
  }
  state.counters["contexts_planned"] = contexts;
  state.counters["contexts_left"] = *host.contexts_left;
  state.counters["contexts_of_qemu_defaults"] = contexts_of_defaults(domains);
}
BENCHMARK(plan_of_a_host)->Args({1000, 16})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace aiolos
