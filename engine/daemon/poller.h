// SPDX-License-Identifier: Apache-2.0
// What a thread waits for: descriptors, and tasks that other threads give it.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "aiolos/core/posix.h"

namespace aiolos::engine {

/// For one thread; only post() may be called by others.
class Poller {
 public:
  Poller();

  using Handler = std::function<void()>;

  /// Calls `handler` when `events` (EPOLLIN, ...) come to `fd`, which stays open until it is removed.
  /// @return false if the descriptor is none that can be waited for.
  bool add(int fd, std::uint32_t events, Handler handler);
  void remove(int fd);

  /// Has `task` run by the poller's thread, soon. Safe for all threads.
  void post(std::function<void()> task);

  /// Calls the handlers of what is there, waiting up to `most` for the first. @return how many were called.
  int wait(std::chrono::milliseconds most);

 private:
  void run_tasks();

  struct Source {
    std::uint64_t token;
    Handler handler;
  };

  UniqueFd epoll_;
  UniqueFd wake_;
  std::unordered_map<int, Source> sources_;
  std::uint64_t next_token_ = 1;  ///< Tells a source from an earlier one with the same descriptor.
  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;
};

}  // namespace aiolos::engine
