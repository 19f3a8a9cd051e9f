// SPDX-License-Identifier: Apache-2.0
#include "poller.h"

#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

namespace aiolos::engine {

Poller::Poller() : epoll_(::epoll_create1(EPOLL_CLOEXEC)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!epoll_ || !wake_ || !add(wake_.get(), EPOLLIN | EPOLLET, [this] { run_tasks(); }))
    throw std::system_error(errno, std::generic_category(), "epoll");
}

bool Poller::add(int fd, std::uint32_t events, Handler handler) {
  const std::uint64_t token = next_token_++ << 32 | static_cast<std::uint32_t>(fd);
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return false;
  sources_[fd] = {token, std::move(handler)};
  return true;
}

void Poller::remove(int fd) {
  if (sources_.erase(fd) > 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Poller::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  ::eventfd_write(wake_.get(), 1);
}

int Poller::wait(std::chrono::milliseconds most) {
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), static_cast<int>(most.count()));
  for (int i = 0; i < count; ++i) {
    const std::uint64_t token = events[static_cast<std::size_t>(i)].data.u64;
    const auto source = sources_.find(static_cast<int>(token & 0xffffffff));
    if (source == sources_.end() || source->second.token != token) continue;  // removed by a handler before
    const Handler handler = source->second.handler;                           // it may remove itself
    handler();
  }
  return count;
}

void Poller::run_tasks() {
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const auto& task : tasks) task();
}

}  // namespace aiolos::engine
