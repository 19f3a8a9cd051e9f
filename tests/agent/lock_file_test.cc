// SPDX-License-Identifier: Apache-2.0
#include "lock_file.h"

#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_machine.h"
#include "temporary_folder.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

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
