// SPDX-License-Identifier: Apache-2.0
#include "guest_load.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>

namespace aiolos::engine {
namespace {

constexpr int kWait = 100;  // ms

/// Written blocks hold what no storage can compress or leave out as zeros.
void fill_with_noise(std::span<std::byte> buffer, std::mt19937_64& random) {
  std::generate(buffer.begin(), buffer.end(), [&] { return static_cast<std::byte>(random()); });
}

FrontEndOptions options_for(const GuestLoad& load) {
  FrontEndOptions options;
  options.queue_size = load.depth * 3 <= 128 ? 128 : 1024;
  options.memory = (std::uint64_t{load.bytes} + 4096) * load.depth + (1U << 20);
  options.inflight = false;  // a server that offers it would pay for it, beside one that does not
  return options;
}

}  // namespace

Result<std::unique_ptr<LoadedDisk>> LoadedDisk::start(const std::string& socket, const GuestLoad& load) {
  std::unique_ptr<LoadedDisk> disk(new LoadedDisk(load));
  if (auto opened = disk->open(socket); !opened) return tl::unexpected(opened.error());
  for (unsigned slot = 0; slot < load.depth; ++slot) disk->start_request(slot);
  disk->driver_->kick();
  return disk;
}

Result<void> LoadedDisk::open(const std::string& socket) {
  auto front_end = FrontEnd::connect(socket, options_for(load_));
  if (!front_end) return tl::unexpected(front_end.error());
  front_end_ = std::move(*front_end);
  const auto config = front_end_->config();
  if (!config) return tl::unexpected(config.error());
  blocks_ = (config->capacity << 9) / load_.bytes;
  if (blocks_ == 0)
    return fail(ErrorKind::bad_input,
                fmt::format("a disk of {} bytes has no room for requests of {}", config->capacity << 9, load_.bytes),
                "use smaller requests or a larger disk");
  driver_ = std::make_unique<BlockDriver>(*front_end_, 0, load_.depth, load_.bytes);
  if (load_.write)
    for (unsigned slot = 0; slot < load_.depth; ++slot) fill_with_noise(driver_->buffer(slot), random_);
  return front_end_->start();
}

void LoadedDisk::start_request(unsigned slot) {
  const std::uint64_t block = (load_.sequential ? next_++ : random_()) % blocks_;
  began_[slot] = Clock::now();
  driver_->start(slot, load_.write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, block * (load_.bytes >> 9), load_.bytes);
  ++in_flight_;
}

/// Kicks with each request, as a guest does whose requests come one by one: a server that sleeps wakes up meanwhile,
/// and one that is awake does not want it.
bool LoadedDisk::turn(bool again) {
  bool any = false;
  const auto now = Clock::now();
  while (const auto done = driver_->poll()) {
    any = true;
    --in_flight_;
    latencies_.push_back(
        static_cast<float>(std::chrono::duration<double, std::micro>(now - began_[done->slot]).count()));
    errors_ += done->status != 0;
    if (again) {
      start_request(done->slot);
      driver_->kick();
    }
  }
  return any;
}

void LoadedDisk::reset() {
  latencies_.clear();
  errors_ = 0;
}

bool LoadedDisk::finish(std::chrono::milliseconds most) {
  const auto end = Clock::now() + most;
  while (in_flight_ > 0 && Clock::now() < end)
    if (!turn(false)) front_end_->wait(0, std::chrono::milliseconds(kWait));
  return front_end_->stop(0) && in_flight_ == 0;
}

void wait_for_any(std::span<const std::unique_ptr<LoadedDisk>> disks) {
  std::vector<pollfd> polls;
  for (const auto& disk : disks) {
    if (disk->arm()) return;
    polls.push_back({disk->call_fd(), POLLIN, 0});
  }
  ::poll(polls.data(), polls.size(), kWait);
  for (const pollfd& poll : polls) {
    eventfd_t count = 0;
    if ((poll.revents & POLLIN) != 0) ::eventfd_read(poll.fd, &count);
  }
}

}  // namespace aiolos::engine
