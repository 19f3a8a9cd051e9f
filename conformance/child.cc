// SPDX-License-Identifier: Apache-2.0
#include "child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>

#include "aiolos/core/posix.h"

namespace aiolos::conformance {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kProgressSize = 4096;

/// Session of a process: field 6 of /proc/PID/stat, counted from behind the name, which may hold anything. proc(5).
pid_t session_of(const std::filesystem::path& process) {
  std::ifstream file(process / "stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name_end = text.rfind(')');
  int session = -1;
  if (name_end != std::string::npos) std::sscanf(text.c_str() + name_end + 1, " %*c %*d %*d %d", &session);
  return session;
}

/// Kills all that a child started and that did not leave its session, as a daemon would. Commands have process groups
/// of their own, so killing the child's would not reach them.
void kill_session(pid_t leader) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const pid_t process = std::atoi(entry.path().filename().c_str());
    if (process > 0 && session_of(entry.path()) == leader) ::kill(process, SIGKILL);
  }
  ::kill(leader, SIGKILL);
}

/// Reads until the child has closed its end. @return false if the deadline came first.
bool read_answer(int descriptor, Clock::time_point deadline, std::string& text) {
  char part[4096];
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd waiting{descriptor, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::max<long long>(left, 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t got = ::read(descriptor, part, sizeof part);
    if (got > 0) text.append(part, static_cast<std::size_t>(got));
    if (got == 0 || (got < 0 && errno != EINTR)) return true;
  }
}

[[noreturn]] void be_child(int descriptor, Progress& progress, const std::function<Json(Progress&)>& body) noexcept {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const Json answer = body(progress);
  (void)write_all(descriptor, answer.dump(-1, ' ', false, Json::error_handler_t::replace));
  std::fflush(nullptr);
  ::_exit(0);
}

int reap(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

ChildEnd judge(int status, bool overran, const std::string& text) {
  ChildEnd end;
  if (overran) {
    end.how = ChildEnd::How::overran;
  } else if (WIFSIGNALED(status)) {
    end.how = ChildEnd::How::killed;
    end.signal = WTERMSIG(status);
  } else if (end.answer = Json::parse(text, nullptr, false); WEXITSTATUS(status) == 0 && !end.answer.is_discarded()) {
    end.how = ChildEnd::How::answered;
  } else {
    end.status = WEXITSTATUS(status);
  }
  return end;
}

}  // namespace

Progress::Progress()
    : memory_(static_cast<char*>(
          ::mmap(nullptr, kProgressSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
  if (memory_ == MAP_FAILED) throw std::bad_alloc();
}

Progress::~Progress() { ::munmap(memory_, kProgressSize); }

void Progress::now(std::string_view doing) {
  const std::size_t size = std::min(doing.size(), kProgressSize - 1);
  std::memcpy(memory_, doing.data(), size);
  memory_[size] = '\0';
}

std::string Progress::text() const { return memory_; }

ChildEnd run_in_child(std::chrono::milliseconds deadline, const std::function<Json(Progress&)>& body) {
  Progress progress;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::bad_alloc();
  std::fflush(nullptr);  // or the child would write it once more
  const pid_t child = ::fork();
  if (child < 0) throw std::bad_alloc();
  if (child == 0) {
    ::close(ends[0]);
    be_child(ends[1], progress, body);
  }
  ::close(ends[1]);
  std::string text;
  const bool in_time = read_answer(ends[0], Clock::now() + deadline, text);
  ::close(ends[0]);
  if (!in_time) kill_session(child);
  ChildEnd end = judge(reap(child), !in_time, text);
  end.doing = progress.text();
  return end;
}

std::string describe(const ChildEnd& end) {
  const std::string at = end.doing.empty() ? "" : " at: " + end.doing;
  switch (end.how) {
    case ChildEnd::How::answered:
      return "ended" + at;
    case ChildEnd::How::killed:
      return fmt::format("the process was ended by signal {} ({}){}", end.signal, ::strsignal(end.signal), at);
    case ChildEnd::How::overran:
      return "it did not end before the deadline" + at;
    case ChildEnd::How::silent:
      break;
  }
  return fmt::format("the process ended itself with status {}{}", end.status, at);
}

}  // namespace aiolos::conformance
