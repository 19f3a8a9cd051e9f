// SPDX-License-Identifier: Apache-2.0
// Not posix_spawn(3): it has no way to set the signal that follows the parent's death. And fork(2), not a child in our
// own memory as posix_spawn's is: ThreadSanitizer takes the signals, descriptors and threads of such a one for ours.
#include "process_start.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "aiolos/core/posix.h"
#include "aiolos/host/command_runner.h"
#include "signal_block.h"

namespace aiolos {
namespace {

constexpr int kReport = STDERR_FILENO + 1;  // where the child says why it cannot become the program

/// Whoever ignores a signal has all its children ignore it, and a handler of ours must not run in the child.
void reset_signals() {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &standard, nullptr);  // some refuse: they have it
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

bool bind_to_parent(pid_t parent) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return false;
  if (::getppid() != parent) ::_exit(1);  // it died before it could be followed
  return true;
}

bool put_standard_descriptors(const ProcessStart& start) {
  return ::dup2(start.input, STDIN_FILENO) >= 0 && ::dup2(start.output, STDOUT_FILENO) >= 0 &&
         ::dup2(start.errors, STDERR_FILENO) >= 0;
}

/// The child. Of a process with threads it may only make system calls. What keeps it from becoming the program, it
/// writes to `report`, which execve(2) closes.
[[noreturn]] void become_program(const ProcessStart& start, pid_t parent, int report) {
  if (bind_to_parent(parent) && ::setpgid(0, 0) == 0 && put_standard_descriptors(start)) {
    if (report != kReport && ::dup3(report, kReport, O_CLOEXEC) >= 0) report = kReport;
    if (report == kReport) {
      // Whatever other libraries of this process opened without O_CLOEXEC ends here.
      ::closefrom(kReport + 1);
      reset_signals();
      ::execve(start.program, start.argv, start.environment);
    }
  }
  const int error = errno;
  (void)!::write(report, &error, sizeof error);
  ::_exit(1);
}

/// Above the standard descriptors, which the child puts others in the place of.
bool make_report(UniqueFd& read, UniqueFd& write) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return false;
  const UniqueFd first(ends[0]);
  const UniqueFd second(ends[1]);
  read.reset(::fcntl(first.get(), F_DUPFD_CLOEXEC, kReport));
  write.reset(::fcntl(second.get(), F_DUPFD_CLOEXEC, kReport));
  return read && write;
}

}  // namespace

int start_process(const ProcessStart& start, pid_t& pid) {
  UniqueFd reading;
  UniqueFd report;
  if (!make_report(reading, report)) return errno;
  const SignalBlock until_the_child_has_its_own_signals;
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return errno;
  if (child == 0) become_program(start, parent, report.get());
  report.reset();
  int error = 0;
  ssize_t got = 0;
  do got = ::read(reading.get(), &error, sizeof error);
  while (got < 0 && errno == EINTR);
  if (got == 0) {
    pid = child;
    return 0;
  }
  if (got < 0) error = errno;
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return error;
}

int start_program(const std::string& program, const std::vector<std::string>& argv, const StandardFds& fds,
                  pid_t& pid) {
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const std::string path = path_variable(CommandRunnerOptions().path);
  std::array<char*, 4> environment{const_cast<char*>(path.c_str()), const_cast<char*>("LC_ALL=C"),
                                   const_cast<char*>("HOME=/"), nullptr};
  return start_process({.program = program.c_str(),
                        .argv = arguments.data(),
                        .environment = environment.data(),
                        .input = fds.input,
                        .output = fds.output,
                        .errors = fds.errors},
                       pid);
}

}  // namespace aiolos
