// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/background_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>

#include <fmt/format.h>

#include "aiolos/host/command_runner.h"
#include "process_start.h"
#include "small_file.h"

namespace aiolos {
namespace {

constexpr std::chrono::seconds kGrace{5};

UniqueFd open_above_standard(const char* path, int flags) {
  const UniqueFd fd(::open(path, flags | O_CLOEXEC, 0600));
  return UniqueFd(fd ? ::fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1);
}

}  // namespace

Result<std::unique_ptr<BackgroundProcess>> BackgroundProcess::start(const std::vector<std::string>& argv,
                                                                    const std::string& output) {
  const auto program = find_program(argv.at(0), CommandRunnerOptions().path);
  if (!program) return tl::unexpected(program.error());
  const UniqueFd input = open_above_standard("/dev/null", O_RDONLY);
  const UniqueFd written = open_above_standard(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC);
  if (!input || !written) return tl::unexpected(storage_error("write", output, errno));
  pid_t pid = -1;
  if (const int error = start_program(*program, argv, {input.get(), written.get(), written.get()}, pid); error != 0)
    return fail(ErrorKind::retry, fmt::format("cannot start {}: {}", argv[0], errno_text(error)),
                "try again when this host has memory, processes and descriptors to spare");
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  return std::unique_ptr<BackgroundProcess>(new BackgroundProcess(pid, std::move(pidfd), output));
}

BackgroundProcess::~BackgroundProcess() {
  if (!wait(std::chrono::milliseconds(0))) end();
}

void BackgroundProcess::end() {
  ::kill(-pid_, SIGTERM);
  const auto ended_in_time = [this] {
    const auto until = std::chrono::steady_clock::now() + kGrace;
    while (!status_ && std::chrono::steady_clock::now() < until) wait(std::chrono::milliseconds(100));
    return status_.has_value();
  };
  if (ended_in_time()) return;
  ::kill(-pid_, SIGKILL);
  ended_in_time();  // if not, its storage does not answer, and the kernel ends it when that does
}

std::optional<int> BackgroundProcess::wait(std::chrono::milliseconds most) {
  if (status_) return status_;
  pollfd poll{pidfd_.get(), POLLIN, 0};
  ::poll(&poll, 1, static_cast<int>(most.count()));
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return status_;
}

std::string BackgroundProcess::output() const { return read_small_file(output_).value_or(""); }

}  // namespace aiolos
