// SPDX-License-Identifier: Apache-2.0
// A program that is spoken to in lines: real ones.
#include "aiolos/host/line_process.h"

#include <gtest/gtest.h>

namespace aiolos {
namespace {

using namespace std::chrono_literals;

TEST(LineProcess, AnswersEachLine) {
  const auto process = LineProcess::start({"sed", "-u", "s/^/you said /"});
  ASSERT_TRUE(process) << describe(process.error());
  EXPECT_EQ((*process)->ask("a", 10s).value(), "you said a");
  EXPECT_EQ((*process)->ask(std::string(1 << 20, 'x'), 10s).value().size(), (1U << 20) + 9);
}

TEST(LineProcess, SaysThatTheProgramHasEnded) {
  const auto process = LineProcess::start({"true"});
  ASSERT_TRUE(process);
  const auto answer = (*process)->ask("a", 10s);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::retry);
  EXPECT_FALSE((*process)->ask("b", 10s));
}

TEST(LineProcess, DoesNotWaitForEver) {
  const auto process = LineProcess::start({"sleep", "60"});
  ASSERT_TRUE(process);
  const auto answer = (*process)->ask("a", 100ms);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::retry);
}

TEST(LineProcess, NoSuchProgramIsTheConfigurations) {
  const auto process = LineProcess::start({"no-such-program"});
  ASSERT_FALSE(process);
  EXPECT_EQ(process.error().kind, ErrorKind::configuration);
}

}  // namespace
}  // namespace aiolos
