// SPDX-License-Identifier: Apache-2.0
#include "lock_file.h"

#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

#include "fake_machine.h"
#include "temporary_folder.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

class RealClock : public Clock {
 public:
  std::chrono::steady_clock::time_point now() const override { return std::chrono::steady_clock::now(); }
  std::chrono::system_clock::time_point wall() const override { return std::chrono::system_clock::now(); }
  void sleep_until(std::chrono::steady_clock::time_point deadline) override { std::this_thread::sleep_until(deadline); }
};

class LockFileTest : public ::testing::Test {
 protected:
  Result<LockFile> acquire(std::string_view key, std::chrono::milliseconds timeout = 100ms) {
    return LockFile::acquire(folder_.path() + "/locks", key, timeout, clock_);
  }
  test::TemporaryFolder folder_;
  test::FakeClock clock_;
};

TEST_F(LockFileTest, KeepsOthersOutUntilItGoes) {
  {
    const auto held = acquire("iscsi:iqn.2010-10.org:target");
    ASSERT_TRUE(held);
    const auto second = acquire("iscsi:iqn.2010-10.org:target");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, ErrorKind::retry);
    EXPECT_THAT(second.error().message, HasSubstr("'iscsi:iqn.2010-10.org:target' is being worked on"));
  }
  EXPECT_TRUE(acquire("iscsi:iqn.2010-10.org:target"));
}

TEST_F(LockFileTest, LeavesNoFile) {
  { const auto held = acquire("target"); }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path() + "/locks"));
}

TEST_F(LockFileTest, IsHeldByOneAtATimeWhileItsFileComesAndGoes) {
  std::atomic<int> holders = 0;
  std::atomic<int> mistakes = 0;
  const auto work = [&] {
    RealClock clock;
    for (int i = 0; i < 200; ++i) {
      const auto held = LockFile::acquire(folder_.path() + "/locks", "target", 10s, clock);
      if (!held || ++holders != 1) ++mistakes;
      --holders;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  }
  EXPECT_EQ(mistakes, 0);
}

TEST_F(LockFileTest, OtherTargetsDoNotWait) {
  const auto held = acquire("a/b");
  EXPECT_TRUE(acquire("a_b")) << "keys that look alike as file names are still two";
  EXPECT_TRUE(acquire(std::string(5000, 'x')));
}

TEST_F(LockFileTest, DyingProcessReleasesIt) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto held = acquire("target");
    ::_exit(held ? 0 : 1);  // without unlocking
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_TRUE(acquire("target"));
}

TEST_F(LockFileTest, FolderThatCannotBeUsedIsAnError) {
  const auto lock = LockFile::acquire("/proc/no/such", "x", 1ms, clock_);
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().kind, ErrorKind::configuration);
}

}  // namespace
}  // namespace aiolos
