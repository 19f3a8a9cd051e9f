// SPDX-License-Identifier: Apache-2.0
#include "database_lock.h"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <thread>
#include <utility>

namespace aiolos::iscsi {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{5};
constexpr int kTurns = 5;

/// When the lock was taken: making a link changes the status of what it links to. nullopt if nobody has it.
std::optional<std::pair<time_t, long>> taken_at(const std::string& lock) {
  struct stat status {};
  if (::lstat(lock.c_str(), &status) != 0) return std::nullopt;
  return std::pair(status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
}

}  // namespace

void wait_for_database(const std::string& folder, std::chrono::milliseconds patience) {
  const std::string lock = folder + "/lock.write";
  const auto end = Clock::now() + kTurns * patience;
  auto holder = taken_at(lock);
  for (auto since = Clock::now(); holder && Clock::now() < end; std::this_thread::sleep_for(kLook)) {
    const auto now_held = taken_at(lock);
    if (now_held != holder) {
      holder = now_held;
      since = Clock::now();
    } else if (Clock::now() - since >= patience) {
      ::unlink(lock.c_str());
      return;
    }
  }
}

}  // namespace aiolos::iscsi
