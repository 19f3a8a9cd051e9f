// SPDX-License-Identifier: Apache-2.0
#include "libvirt_api.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include <gtest/gtest.h>

namespace aiolos {
namespace {

/// What libvirt's client does when the daemon has closed its end. @return errno, or 0 if it could be written.
int write_to_nobody(int) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return 0;
  ::close(ends[1]);
  const int error = ::write(ends[0], "x", 1) < 0 ? errno : 0;
  ::close(ends[0]);
  return error;
}

volatile std::sig_atomic_t handled = 0;

/// Whether the signal was delivered at once. A call that waits for its daemon can be given up with Ctrl-C.
int is_interrupted_by(int signal) {
  handled = 0;
  ::raise(signal);
  return handled;
}

class LibvirtFunctionTest : public testing::Test {
 protected:
  // A parent that ignores it, as Python does, would let every one of these pass.
  void SetUp() override {
    pipe_before_ = std::signal(SIGPIPE, SIG_DFL);
    term_before_ = std::signal(SIGTERM, [](int) { handled = 1; });
  }
  void TearDown() override {
    std::signal(SIGPIPE, pipe_before_);
    std::signal(SIGTERM, term_before_);
  }

 private:
  void (*pipe_before_)(int) = SIG_DFL;
  void (*term_before_)(int) = SIG_DFL;
};

TEST_F(LibvirtFunctionTest, LivesOnWhenTheDaemonHasHungUp) {
  const LibvirtFunction<int (*)(int)> function(write_to_nobody);
  EXPECT_EQ(function(0), EPIPE);
  EXPECT_EQ(function(0), EPIPE);
}

TEST_F(LibvirtFunctionTest, HoldsNoOtherSignalOffAndLeavesNoneBlocked) {
  const LibvirtFunction<int (*)(int)> function(is_interrupted_by);
  EXPECT_EQ(function(SIGTERM), 1);
  sigset_t blocked;
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, nullptr, &blocked), 0);
  EXPECT_EQ(sigismember(&blocked, SIGPIPE), 0);
}

}  // namespace
}  // namespace aiolos
