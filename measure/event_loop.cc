// SPDX-License-Identifier: Apache-2.0
#include "event_loop.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "aiolos/core/posix.h"
#include "front_end.h"
#include "signal_block.h"
#include "statistics.h"

namespace aiolos::measure {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kInterval{1};
constexpr std::uint32_t kBytes = 4096;

/// A disk with one request at a time.
struct Probe {
  std::unique_ptr<engine::FrontEnd> front_end;
  std::unique_ptr<engine::BlockDriver> driver;
};

Result<Probe> open_probe(const std::string& socket) {
  auto front_end = engine::FrontEnd::connect(socket, {.memory = 1U << 20, .inflight = false});
  if (!front_end) return tl::unexpected(front_end.error());
  auto driver = std::make_unique<engine::BlockDriver>(**front_end, 0, 1, kBytes);
  if (auto started = (*front_end)->start(); !started) return tl::unexpected(started.error());
  return Probe{std::move(*front_end), std::move(driver)};
}

LoopFigures figures_of(std::vector<double> latencies) {
  std::sort(latencies.begin(), latencies.end());
  return {percentile(latencies, 0.5), percentile(latencies, 0.99), latencies.back()};
}

}  // namespace

Result<LoopFigures> probe_event_loop(const std::string& socket, double seconds, const Stop& stop,
                                     const std::function<bool()>& over) {
  const auto probe = open_probe(socket);
  if (!probe) return tl::unexpected(probe.error());
  std::vector<double> latencies;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  for (auto due = Clock::now(); due < end && (latencies.empty() || !over()); due += kInterval) {
    std::this_thread::sleep_until(due);
    if (probe->driver->run(VIRTIO_BLK_T_IN, 0, kBytes) != VIRTIO_BLK_S_OK)
      return fail(ErrorKind::retry, "QEMU's event loop did not answer within 10 s",
                  "check that the storage answers, then try again");
    latencies.push_back(std::chrono::duration<double, std::micro>(Clock::now() - due).count());
    if (stop()) return stopped();
  }
  (void)probe->front_end->stop(0);
  return figures_of(std::move(latencies));
}

Result<LoopFigures> probe_beside(const std::string& socket, const std::string& neighbour, const LoadCase& load,
                                 const RunOptions& options, const Stop& stop, RunFigures& written) {
  std::atomic<bool> given_up{false};
  std::atomic<bool> ended{false};
  Result<RunFigures> wrote;
  std::thread writer;
  {
    const SignalBlock signals_are_for_this_thread;
    writer = std::thread([&] {
      wrote = run_load({neighbour}, load, options, [&] { return given_up.load(); });
      ended = true;
    });
  }
  auto figures = probe_event_loop(socket, options.seconds, stop, [&] { return ended.load(); });
  if (!figures) given_up = true;
  writer.join();
  if (!figures) return figures;
  if (!wrote) return tl::unexpected(wrote.error());
  written = *wrote;
  return figures;
}

}  // namespace aiolos::measure
