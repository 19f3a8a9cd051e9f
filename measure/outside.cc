// SPDX-License-Identifier: Apache-2.0
#include "outside.h"

#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>

#include "aiolos/core/posix.h"
#include "aiolos/host/background_process.h"

namespace aiolos::measure {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};
constexpr std::chrono::milliseconds kLookForEnd{200};

std::atomic<int> seen_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);
std::array<struct sigaction, kSignals.size()> actions_before;

void note(int signal) {
  int none = 0;
  seen_signal.compare_exchange_strong(none, signal);
}

}  // namespace

tl::unexpected<Error> stopped() {
  return fail(ErrorKind::retry, "stopped before the measurement was complete", "start it again");
}

SignalWatch::SignalWatch() {
  seen_signal = 0;
  struct sigaction action {};
  action.sa_handler = note;  // no SA_RESTART: waits are to end
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &actions_before[i]);
}

SignalWatch::~SignalWatch() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &actions_before[i], nullptr);
}

int SignalWatch::seen() { return seen_signal; }

Result<TemporaryFolder> TemporaryFolder::make(const std::string& parent) {
  std::string pattern = parent + "/.aiolos-measure-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr)
    return fail(ErrorKind::storage, fmt::format("cannot make a folder in '{}': {}", parent, errno_text(errno)),
                "name a folder that exists and that this user can write to");
  return TemporaryFolder(std::move(pattern));
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text.substr(text.find_last_of('\n') + 1));
}

Result<std::string> run_program(const std::vector<std::string>& argv, const TemporaryFolder& folder,
                                std::chrono::milliseconds most, const Stop& stop) {
  const auto process = BackgroundProcess::start(argv, folder / "output");
  if (!process) return tl::unexpected(process.error());
  const auto until = std::chrono::steady_clock::now() + most;
  for (;;) {
    if (const auto status = (*process)->wait(kLookForEnd)) {
      std::string output = (*process)->output();
      if (*status == 0) return output;
      return fail(ErrorKind::storage, fmt::format("{} failed ({}): {}", argv[0], *status, last_line(output)),
                  "check that the storage has room and answers, then try again");
    }
    if (stop()) return stopped();
    if (std::chrono::steady_clock::now() > until)
      return fail(ErrorKind::retry, fmt::format("{} did not end within {} s", argv[0], most.count() / 1000),
                  "check that the storage answers, then try again");
  }
}

}  // namespace aiolos::measure
