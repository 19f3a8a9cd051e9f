// SPDX-License-Identifier: Apache-2.0
#include "load_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "guest_load.h"
#include "statistics.h"

namespace aiolos::measure {
namespace {

using engine::LoadedDisk;
using Clock = LoadedDisk::Clock;
using Disks = std::vector<std::unique_ptr<LoadedDisk>>;

constexpr std::chrono::seconds kLongestRequest{30};

Clock::duration duration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

std::uint64_t sum(const Disks& disks, auto&& of) {
  return std::accumulate(disks.begin(), disks.end(), std::uint64_t{0},
                         [&](std::uint64_t all, const auto& disk) { return all + of(*disk); });
}

std::uint64_t completed(const Disks& disks) {
  return sum(disks, [](const LoadedDisk& disk) { return disk.latencies().size(); });
}

/// Goes on until at least one request came back: storage may stand still for longer than a short run lasts.
/// @param most requests, after which it ends early. @return how long it went on, in seconds; nullopt if stopped.
std::optional<double> keep_busy(const Disks& disks, double seconds, std::uint64_t most, const Stop& stop) {
  const auto began = Clock::now();
  const auto end = began + duration(seconds);
  const auto goes_on = [&](Clock::time_point now, std::uint64_t done) {
    return now < end || (done == 0 && now < end + kLongestRequest);
  };
  std::uint64_t done = 0;
  for (auto now = began; goes_on(now, done) && done < most; now = Clock::now(), done = completed(disks)) {
    bool any = false;
    for (const auto& disk : disks) any |= disk->turn(true);
    if (!any) engine::wait_for_any(disks);
    if (stop()) return std::nullopt;
  }
  return std::chrono::duration<double>(Clock::now() - began).count();
}

Result<Disks> start_all(const std::vector<std::string>& sockets, const LoadCase& load) {
  Disks disks;
  for (const std::string& socket : sockets) {
    auto disk = LoadedDisk::start(socket, {.depth = load.depth,
                                           .bytes = load.block_size,
                                           .write = load.operation == Operation::write,
                                           .sequential = load.pattern == Pattern::sequential});
    if (!disk) return tl::unexpected(disk.error());
    disks.push_back(std::move(*disk));
  }
  return disks;
}

RunFigures figures_of(const Disks& disks, double seconds) {
  std::vector<double> latencies;
  for (const auto& disk : disks) latencies.insert(latencies.end(), disk->latencies().begin(), disk->latencies().end());
  std::sort(latencies.begin(), latencies.end());
  return {static_cast<double>(latencies.size()) / seconds, percentile(latencies, 0.5), percentile(latencies, 0.99)};
}

Result<RunFigures> load_disks(const Disks& disks, const RunOptions& options, const Stop& stop) {
  constexpr std::uint64_t kNoEnd = ~std::uint64_t{0};
  std::uint64_t most = kNoEnd;
  if (options.once_over) {
    most = sum(disks, [](const LoadedDisk& disk) { return disk.blocks(); });
  } else {
    if (!keep_busy(disks, options.seconds / 4, kNoEnd, stop)) return stopped();
    for (const auto& disk : disks) disk->reset();
  }
  const auto took = keep_busy(disks, options.seconds, most, stop);
  if (!took) return stopped();
  if (completed(disks) == 0)
    return fail(ErrorKind::storage, fmt::format("no request came back within {} s", kLongestRequest.count()),
                "check that the storage answers, then try again");
  return figures_of(disks, *took);
}

}  // namespace

Result<RunFigures> run_load(const std::vector<std::string>& sockets, const LoadCase& load, const RunOptions& options,
                            const Stop& stop) {
  const auto disks = start_all(sockets, load);
  if (!disks) return tl::unexpected(disks.error());
  auto figures = load_disks(*disks, options, stop);
  for (const auto& disk : *disks)
    if (!disk->finish(kLongestRequest) && figures)
      return fail(ErrorKind::storage, "requests did not come back", "check that the storage answers, then try again");
  if (const auto errors = sum(*disks, [](const LoadedDisk& disk) { return disk.errors(); }); errors != 0 && figures)
    return fail(ErrorKind::storage, fmt::format("{} requests of {} failed", errors, describe(load)),
                "see the kernel's log for what is wrong with the storage");
  return figures;
}

}  // namespace aiolos::measure
