// SPDX-License-Identifier: Apache-2.0
#include "database_lock.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <thread>

namespace aiolos::iscsi {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{5};
constexpr int kTurns = 5;

constexpr std::int64_t kFree = -1;

/// When the lock was taken, in ns since 1970: making a link changes the status of what it links to. Or kFree.
std::int64_t taken_at(const std::string& lock) {
  struct stat status {};
  if (::lstat(lock.c_str(), &status) != 0) return kFree;
  return std::int64_t{status.st_ctim.tv_sec} * 1'000'000'000 + status.st_ctim.tv_nsec;
}

}  // namespace

void wait_for_database(const std::string& folder, std::chrono::milliseconds patience) {
  const std::string lock = folder + "/lock.write";
  const auto end = Clock::now() + kTurns * patience;
  std::int64_t holder = taken_at(lock);
  for (auto since = Clock::now(); holder != kFree && Clock::now() < end; std::this_thread::sleep_for(kLook)) {
    const std::int64_t now_held = taken_at(lock);
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
