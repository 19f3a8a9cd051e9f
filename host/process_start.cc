// SPDX-License-Identifier: Apache-2.0
// Not posix_spawn(3): it has no way to set the signal that follows the parent's death. What it does is done here, too.
#include "process_start.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <memory>

#include "signal_block.h"

namespace aiolos {
namespace {

// For the calls of run_program() alone; execve(2) gives the program a stack of its own.
constexpr std::size_t kStackSize = std::size_t{64} * 1024;

/// What both sides of clone(2) see.
struct Shared {
  const ProcessStart& start;
  pid_t parent;
  int error = 0;
};

/// Whoever ignores a signal has all its children ignore it, and a handler of ours must not run in the child.
void reset_signals() {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &standard, nullptr);  // some refuse: they have it
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

bool prepare(const ProcessStart& start) {
  return ::setpgid(0, 0) == 0 && ::dup2(start.input, STDIN_FILENO) >= 0 && ::dup2(start.output, STDOUT_FILENO) >= 0 &&
         ::dup2(start.errors, STDERR_FILENO) >= 0;
}

/// The child, in its parent's memory and with the parent's thread standing still: system calls only.
int run_program(void* argument) {
  auto& shared = *static_cast<Shared*>(argument);
  const bool bound = ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
  if (::getppid() != shared.parent) return 1;  // it died before it could be followed
  if (bound && prepare(shared.start)) {
    // Whatever other libraries of this process opened without O_CLOEXEC ends here.
    ::closefrom(STDERR_FILENO + 1);
    reset_signals();
    ::execve(shared.start.program, shared.start.argv, shared.start.environment);
  }
  shared.error = errno;
  return 1;
}

}  // namespace

int start_process(const ProcessStart& start, pid_t& pid) {
  const auto stack = std::make_unique_for_overwrite<char[]>(kStackSize);
  Shared shared{start, ::getpid()};
  const SignalBlock until_the_child_has_its_own_signals;
  // As vfork(2): this thread goes on when the child has become the program or has ended, so the memory of both can be
  // one.
  const pid_t child = ::clone(run_program, stack.get() + kStackSize, CLONE_VM | CLONE_VFORK | SIGCHLD, &shared);
  if (child < 0) return errno;
  if (shared.error == 0) {
    pid = child;
    return 0;
  }
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return shared.error;
}

}  // namespace aiolos
