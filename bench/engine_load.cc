// SPDX-License-Identifier: Apache-2.0
// engine_load: random I/O on vhost-user-blk disks, as their guests would do it; one thread for all of them.
//
//   engine_load --depth N --bytes N --seconds S [--write] SOCKET...
//
// Prints one JSON line: {"iops": .., "mean_us": .., "p50_us": .., "p99_us": .., "errors": .., "per_disk": [IOPS, ...]}.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <random>

#include "front_end.h"

namespace aiolos::engine {
namespace {

using Clock = std::chrono::steady_clock;

struct Load {
  unsigned depth = 32;
  std::uint32_t bytes = 4096;
  double seconds = 2;
  bool write = false;
};

/// One disk with its guest.
class Guest {
 public:
  Guest(const std::string& socket, const Load& load) : load_(load), began_(load.depth) {
    FrontEndOptions options;
    options.queue_size = load.depth * 3 <= 128 ? 128 : 1024;
    options.memory = (std::uint64_t{load.bytes} + 4096) * load.depth + (1U << 20);
    options.inflight = false;  // the other server pays for it, too, where it is on; off it compares what the disks do
    auto made = FrontEnd::connect(socket, options);
    if (!made) throw std::runtime_error(describe(made.error()));
    front_end_ = std::move(*made);
    const auto config = front_end_->config();
    if (!config) throw std::runtime_error(describe(config.error()));
    sectors_ = config->capacity;
    driver_ = std::make_unique<BlockDriver>(*front_end_, 0, load.depth, load.bytes);
    if (auto started = front_end_->start(); !started) throw std::runtime_error(describe(started.error()));
    for (unsigned slot = 0; slot < load.depth; ++slot) start(slot);
    driver_->kick();
  }

  /// Takes what is done and starts as much. @return whether there was something.
  bool turn(bool again) {
    bool any = false;
    const auto now = Clock::now();
    while (const auto done = driver_->poll()) {
      any = true;
      latencies_.push_back(
          static_cast<float>(std::chrono::duration<double, std::micro>(now - began_[done->slot]).count()));
      errors_ += done->status != 0;
      if (again) start(done->slot);
    }
    if (any) driver_->kick();
    return any;
  }

  void reset() {
    latencies_.clear();
    errors_ = 0;
  }
  void finish() { (void)front_end_->stop(0); }
  bool arm() { return front_end_->ring(0).arm(); }
  int call_fd() const { return front_end_->call_fd(0); }
  const std::vector<float>& latencies() const { return latencies_; }
  unsigned errors() const { return errors_; }

 private:
  void start(unsigned slot) {
    const std::uint64_t blocks = (sectors_ << 9) / load_.bytes;
    began_[slot] = Clock::now();
    driver_->start(slot, load_.write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, random_() % blocks * (load_.bytes >> 9),
                   load_.bytes);
  }

  const Load& load_;
  std::unique_ptr<FrontEnd> front_end_;
  std::unique_ptr<BlockDriver> driver_;
  std::uint64_t sectors_ = 0;
  std::mt19937_64 random_{1};
  std::vector<Clock::time_point> began_;
  std::vector<float> latencies_;
  unsigned errors_ = 0;
};

void wait(const std::vector<std::unique_ptr<Guest>>& guests) {
  std::vector<pollfd> polls;
  for (const auto& guest : guests) {
    if (guest->arm()) return;
    polls.push_back({guest->call_fd(), POLLIN, 0});
  }
  ::poll(polls.data(), polls.size(), 100);
  for (const pollfd& poll : polls) {
    eventfd_t count = 0;
    if ((poll.revents & POLLIN) != 0) ::eventfd_read(poll.fd, &count);
  }
}

void run_for(const std::vector<std::unique_ptr<Guest>>& guests, double seconds) {
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  while (Clock::now() < end) {
    bool any = false;
    for (const auto& guest : guests) any |= guest->turn(true);
    if (!any) wait(guests);
  }
}

void report(const std::vector<std::unique_ptr<Guest>>& guests, double seconds) {
  std::vector<float> all;
  std::vector<unsigned> per_disk;
  unsigned errors = 0;
  for (const auto& guest : guests) {
    all.insert(all.end(), guest->latencies().begin(), guest->latencies().end());
    per_disk.push_back(static_cast<unsigned>(guest->latencies().size() / seconds));
    errors += guest->errors();
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
  Load load;
  std::vector<std::string> sockets;
  app.add_option("--depth", load.depth)->check(CLI::Range(1, 256));
  app.add_option("--bytes", load.bytes);
  app.add_option("--seconds", load.seconds);
  app.add_flag("--write", load.write);
  app.add_option("sockets", sockets)->required();
  CLI11_PARSE(app, argc, argv);
  try {
    std::vector<std::unique_ptr<Guest>> guests;
    for (const std::string& socket : sockets) guests.push_back(std::make_unique<Guest>(socket, load));
    run_for(guests, load.seconds / 4);  // until it is steady
    for (const auto& guest : guests) guest->reset();
    std::puts("begin");  // who measures the server's processor time begins now
    std::fflush(stdout);
    run_for(guests, load.seconds);
    std::puts("end");
    std::fflush(stdout);
    report(guests, load.seconds);
    for (const auto& guest : guests) guest->finish();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "engine_load: %s\n", error.what());
    return 1;
  }
  return 0;
}
