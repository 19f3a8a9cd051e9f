// SPDX-License-Identifier: Apache-2.0
// Keeps the program's signals away from this library's threads, and out of the middle of libvirt's work.
#pragma once

#include <csignal>
#include <ctime>

namespace aiolos {

/// Blocks signals of this thread while it lives, by default every one; what came meanwhile is delivered at its end.
/// Threads that are started meanwhile inherit the mask and keep it.
///
/// Held across calls in which libvirt's embedded driver changes a guest: a process that dies between two of QEMU's
/// commands leaves the guest with half a disk. A signal to the process goes to any thread that has it unblocked, so all
/// of this library's threads are started under one of these. A program with more threads of its own should block
/// SIGINT, SIGTERM and SIGHUP in them, or handle them. Nothing holds SIGKILL off: see leftovers.h.
///
/// SIGPIPE is discarded, as libvirt asks of its callers: its sockets lead to guests and daemons that may die.
class SignalBlock {
 public:
  enum class Of { every_signal, sigpipe };

  explicit SignalBlock(Of which = Of::every_signal) {
    sigset_t blocked;
    if (which == Of::every_signal) {
      sigfillset(&blocked);
    } else {
      sigemptyset(&blocked);
      sigaddset(&blocked, SIGPIPE);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;
  ~SignalBlock() {
    if (sigismember(&before_, SIGPIPE) == 0) discard_pending_pipe();
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  static void discard_pending_pipe() {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    constexpr timespec kAtOnce{};
    sigtimedwait(&pipe, nullptr, &kAtOnce);
  }

  sigset_t before_;
};

}  // namespace aiolos
