// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/line_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include <fmt/format.h>

#include "aiolos/host/command_runner.h"
#include "process_start.h"
#include "signal_block.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;
using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kGrace{5'000};
// An answer holds a guest's XML twice; more than this is no answer.
constexpr std::size_t kLongestAnswer = std::size_t{64} << 20;

UniqueFd above_standard(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)); }

struct Pipe {
  UniqueFd reads;
  UniqueFd writes;
};

/// Both ends above the standard descriptors, closed by exec; invalid if there are no more.
Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return {};
  const UniqueFd low_reads(ends[0]);
  const UniqueFd low_writes(ends[1]);
  return {above_standard(low_reads.get()), above_standard(low_writes.get())};
}

}  // namespace

Result<std::unique_ptr<LineProcess>> LineProcess::start(const std::vector<std::string>& argv) {
  const auto program = find_program(argv.at(0), CommandRunnerOptions().path);
  if (!program) return tl::unexpected(program.error());
  Pipe asked = make_pipe();
  Pipe answered = make_pipe();
  const UniqueFd errors = above_standard(STDERR_FILENO);
  pid_t pid = -1;
  int error = errno;
  if (asked.reads && asked.writes && answered.reads && answered.writes && errors)
    error = start_program(*program, argv, {asked.reads.get(), answered.writes.get(), errors.get()}, pid);
  if (error != 0 || pid < 0)
    return fail(ErrorKind::retry, fmt::format("cannot start {}: {}", argv[0], errno_text(error)),
                "try again when this host has memory, processes and descriptors to spare");
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  return std::unique_ptr<LineProcess>(
      new LineProcess(argv[0], pid, std::move(pidfd), std::move(asked.writes), std::move(answered.reads)));
}

LineProcess::~LineProcess() {
  input_ = UniqueFd();
  if (ends_within(kGrace)) return;
  ::kill(-pid_, SIGTERM);
  if (ends_within(kGrace)) return;
  ::kill(-pid_, SIGKILL);
  ends_within(kGrace);  // if not, its storage does not answer, and the kernel ends it when that does
}

bool LineProcess::ends_within(std::chrono::milliseconds most) {
  const auto until = SteadyClock::now() + most;
  while (::waitpid(pid_, nullptr, WNOHANG) == 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - SteadyClock::now());
    if (left <= 0ms) return false;
    pollfd ended{pidfd_.get(), POLLIN, 0};
    ::poll(&ended, 1, static_cast<int>(left.count()));
  }
  return true;
}

/// After it, what comes would be the answer to another question.
tl::unexpected<Error> LineProcess::broken(const std::string& why) {
  input_ = UniqueFd();
  output_ = UniqueFd();
  return fail(ErrorKind::retry, fmt::format("{} {}", name_, why), "see what it wrote to standard error");
}

Result<std::string> LineProcess::ask(const std::string& line, std::chrono::milliseconds timeout) {
  if (!input_) return broken("is not there any more");
  const SignalBlock no_sigpipe;  // a program that has ended is an error, and no signal
  const auto deadline = SteadyClock::now() + timeout;
  const std::string text = line + "\n";
  for (std::size_t sent = 0; read_.find('\n') == std::string::npos;) {
    const bool sends = sent < text.size();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SteadyClock::now());
    pollfd wanted{sends ? input_.get() : output_.get(), static_cast<short>(sends ? POLLOUT : POLLIN), 0};
    if (left <= 0ms || ::poll(&wanted, 1, static_cast<int>(left.count())) == 0)
      return broken(fmt::format("does not answer within {} s",
                                std::chrono::duration_cast<std::chrono::seconds>(timeout).count()));
    std::array<char, 1 << 14> part;
    const std::size_t most = std::min<std::size_t>(text.size() - sent, PIPE_BUF);  // what does not block once polled
    const ssize_t moved =
        sends ? ::write(input_.get(), text.data() + sent, most) : ::read(output_.get(), part.data(), part.size());
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0 || read_.size() > kLongestAnswer) return broken("has ended the conversation");
    if (sends)
      sent += static_cast<std::size_t>(moved);
    else
      read_.append(part.data(), static_cast<std::size_t>(moved));
  }
  const auto end = read_.find('\n');
  std::string answer = read_.substr(0, end);
  read_.erase(0, end + 1);
  return answer;
}

}  // namespace aiolos
