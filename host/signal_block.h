// SPDX-License-Identifier: Apache-2.0
// Threads that a library starts inherit the starter's signal mask; this keeps the program's signals away from them.
#pragma once

#include <csignal>

namespace aiolos {

/// Blocks every signal of this thread while it lives. SIGPIPE among them: the embedded driver writes to sockets of
/// guests that may die.
class SignalBlock {
 public:
  SignalBlock() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;
  ~SignalBlock() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace aiolos
