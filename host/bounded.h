// SPDX-License-Identifier: Apache-2.0
// System calls that may never return (stat on a dead NFS server, a read from a lost disk), with bounded time.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

#include "aiolos/core/result.h"
#include "signal_block.h"

namespace aiolos {

/// Threads that were given up and still sit in the kernel. Beyond a few dozen, storage is so broken that more of them
/// would only use this process up.
inline std::atomic<int>& abandoned_probes() {
  static std::atomic<int> count{0};
  return count;
}

/// Runs `work` on a thread of its own and waits for it at most `timeout`.
///
/// Why a thread and not a process: the work is a handful of system calls whose result is a C++ value, and fork(2) in a
/// process with threads may only do async-signal-safe things. A call stuck on storage can't be cancelled from outside
/// but ends by itself when the storage answers or the process ends (NFS waits killably), so the thread is left behind;
/// it owns what it uses, by value and by shared pointer, and writes nowhere else. There are at most 32 of those.
///
/// @param work gets a flag that turns true when nobody waits any more, for loops to stop at. Must capture by value.
/// @return what `work` gave, or ErrorKind::retry when it overran or too many before it did.
template <typename T>
Result<T> run_bounded(std::chrono::milliseconds timeout, const std::string& what,
                      std::function<Result<T>(const std::atomic<bool>& abandoned)> work) {
  struct State {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<Result<T>> result;
    std::atomic<bool> abandoned{false};
  };
  constexpr int kMostAbandoned = 32;
  if (abandoned_probes().load() >= kMostAbandoned)
    return fail(ErrorKind::retry,
                "not " + what + ": " + std::to_string(kMostAbandoned) + " probes before it hang still",
                "see which storage of this host does not answer (dmesg; mounts of dead servers), then try again");

  auto state = std::make_shared<State>();
  try {
    const SignalBlock signals_stay_with_the_caller;
    std::thread([state, work = std::move(work)] {
      Result<T> result = work(state->abandoned);
      const std::lock_guard lock(state->mutex);
      state->result = std::move(result);
      if (state->abandoned) --abandoned_probes();
      state->done.notify_one();
    }).detach();
  } catch (const std::system_error& error) {
    return fail(ErrorKind::retry, "cannot start a thread for " + what + ": " + error.what(),
                "this host is short of threads; try again when it has some");
  }

  std::unique_lock lock(state->mutex);
  if (state->done.wait_for(lock, timeout, [&] { return state->result.has_value(); })) return std::move(*state->result);
  state->abandoned = true;
  ++abandoned_probes();
  return fail(ErrorKind::retry, what + " did not end within " + std::to_string(timeout.count()) + " ms",
              "the storage below does not answer: check its server and network, then try again");
}

}  // namespace aiolos
