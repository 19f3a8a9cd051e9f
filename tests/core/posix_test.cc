// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/posix.h"

#include <fcntl.h>

#include <cerrno>
#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

namespace aiolos {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFd, ClosesOnceWhoeverOwnsItLast) {
  UniqueFd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int fd = first.get();
  {
    const UniqueFd second(std::move(first));
    EXPECT_FALSE(first);
    EXPECT_TRUE(is_open(second.get()));
  }
  EXPECT_FALSE(is_open(fd));
}

TEST(UniqueFd, ReleasedIsTheCallersToClose) {
  UniqueFd owner(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd taken(owner.release());
  owner.reset();
  EXPECT_TRUE(is_open(taken.get()));
}

TEST(WriteAll, GoesOnWhereTheKernelTakesAPart) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const std::string text(std::size_t{1} << 20, 'x');  // a pipe takes 64 KiB at a time
  std::string received;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t got = 0; (got = ::read(from.get(), buffer, sizeof buffer)) > 0;)
      received.append(buffer, static_cast<std::size_t>(got));
  });
  EXPECT_TRUE(write_all(to.get(), text));
  to.reset();
  reader.join();
  EXPECT_EQ(received, text);
}

TEST(WriteAll, FailsWithTheKernelsReason) {
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full);
  EXPECT_FALSE(write_all(full.get(), "text"));
  EXPECT_EQ(errno_text(errno), "No space left on device");
}

}  // namespace
}  // namespace aiolos
