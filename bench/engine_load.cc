// SPDX-License-Identifier: Apache-2.0
// engine_load: random I/O on vhost-user-blk disks, as their guests would do it; one thread for all of them.
//
//   engine_load --depth N --bytes N --seconds S [--write] SOCKET...
//
// Prints one JSON line: {"iops": .., "mean_us": .., "p50_us": .., "p99_us": .., "errors": .., "per_disk": [IOPS, ...]}.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>

#include "guest_load.h"

namespace aiolos::engine {
namespace {

using Clock = LoadedDisk::Clock;
using Disks = std::vector<std::unique_ptr<LoadedDisk>>;

void run_for(const Disks& disks, double seconds) {
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  while (Clock::now() < end) {
    bool any = false;
    for (const auto& disk : disks) any |= disk->turn(true);
    if (!any) wait_for_any(disks);
  }
}

void report(const Disks& disks, double seconds) {
  std::vector<float> all;
  std::vector<unsigned> per_disk;
  unsigned errors = 0;
  for (const auto& disk : disks) {
    all.insert(all.end(), disk->latencies().begin(), disk->latencies().end());
    per_disk.push_back(static_cast<unsigned>(static_cast<double>(disk->latencies().size()) / seconds));
    errors += disk->errors();
  }
  if (all.empty()) all.push_back(0);
  std::sort(all.begin(), all.end());
  const double mean = std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
  fmt::print(
      "{{\"iops\": {:.0f}, \"mean_us\": {:.1f}, \"p50_us\": {:.1f}, \"p99_us\": {:.1f}, \"errors\": {}, \"per_disk\": "
      "[{}]}}\n",
      static_cast<double>(all.size()) / seconds, mean, all[all.size() / 2], all[all.size() * 99 / 100], errors,
      fmt::join(per_disk, ", "));
}

}  // namespace
}  // namespace aiolos::engine

int main(int argc, char** argv) {
  using namespace aiolos::engine;
  CLI::App app("Random I/O on vhost-user-blk disks.");
  GuestLoad load;
  double seconds = 2;
  std::vector<std::string> sockets;
  app.add_option("--depth", load.depth)->check(CLI::Range(1, 256));
  app.add_option("--bytes", load.bytes);
  app.add_option("--seconds", seconds);
  app.add_flag("--write", load.write);
  app.add_option("sockets", sockets)->required();
  CLI11_PARSE(app, argc, argv);
  try {
    Disks disks;
    for (const std::string& socket : sockets) {
      auto disk = LoadedDisk::start(socket, load);
      if (!disk) throw std::runtime_error(aiolos::describe(disk.error()));
      disks.push_back(std::move(*disk));
    }
    run_for(disks, seconds / 4);  // until it is steady
    for (const auto& disk : disks) disk->reset();
    std::puts("begin");  // who measures the server's processor time begins now
    std::fflush(stdout);
    run_for(disks, seconds);
    std::puts("end");
    std::fflush(stdout);
    report(disks, seconds);
    for (const auto& disk : disks) disk->finish(std::chrono::seconds(10));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "engine_load: %s\n", error.what());
    return 1;
  }
  return 0;
}
