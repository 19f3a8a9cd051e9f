// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/background_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>

#include "support.h"

namespace aiolos {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

std::unique_ptr<BackgroundProcess> start(const TempDir& folder, const std::string& script) {
  auto process = BackgroundProcess::start({"sh", "-c", script}, folder / "output");
  EXPECT_TRUE(process) << describe(process.error());
  return std::move(*process);
}

void wait_for_output(const BackgroundProcess& process, const std::string& text) {
  const auto until = std::chrono::steady_clock::now() + seconds(10);
  while (process.output() != text && std::chrono::steady_clock::now() < until) ::usleep(5000);
  ASSERT_EQ(process.output(), text);
}

/// A zombie has ended, too: whose child it was reaps it some time.
bool lives(int pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(stat, text)) return false;
  return text.at(text.rfind(')') + 2) != 'Z';
}

TEST(BackgroundProcess, TellsHowItEnded) {
  const TempDir folder;
  EXPECT_EQ(start(folder, "exit 3")->wait(seconds(10)), 3);
  EXPECT_EQ(start(folder, "kill -KILL $$")->wait(seconds(10)), 128 + SIGKILL);
}

TEST(BackgroundProcess, RunsOnWhileNobodyEndsIt) {
  const TempDir folder;
  const auto process = start(folder, "echo here; echo there >&2; exec sleep 60");
  EXPECT_EQ(process->wait(milliseconds(50)), std::nullopt);
  wait_for_output(*process, "here\nthere");
}

TEST(BackgroundProcess, EndsWithItsValue) {
  const TempDir folder;
  auto process = start(folder, "sleep 60 & echo $!; wait");
  while (process->output().empty()) ASSERT_EQ(process->wait(milliseconds(20)), std::nullopt);
  const int pid = process->pid();
  const int child = std::stoi(process->output());
  process.reset();
  EXPECT_FALSE(lives(pid));
  // What it started itself is of its group.
  const auto until = std::chrono::steady_clock::now() + seconds(10);
  while (lives(child) && std::chrono::steady_clock::now() < until) ::usleep(5000);
  EXPECT_FALSE(lives(child));
}

TEST(BackgroundProcess, IsKilledIfItDoesNotListen) {
  const TempDir folder;
  auto process = start(folder, "trap '' TERM; echo deaf; while :; do sleep 1; done");
  wait_for_output(*process, "deaf");
  const int pid = process->pid();
  process.reset();
  EXPECT_FALSE(lives(pid));
}

TEST(BackgroundProcess, NamesTheProgramThatIsNotThere) {
  const TempDir folder;
  const auto process = BackgroundProcess::start({"no-such-program"}, folder / "output");
  ASSERT_FALSE(process);
  EXPECT_EQ(process.error().kind, ErrorKind::configuration);
  EXPECT_THAT(process.error().message, HasSubstr("'no-such-program'"));
}

TEST(BackgroundProcess, NamesTheOutputThatCannotBeWritten) {
  const auto process = BackgroundProcess::start({"true"}, "/no/such/folder/output");
  ASSERT_FALSE(process);
  EXPECT_THAT(process.error().message, HasSubstr("'/no/such/folder/output'"));
}

}  // namespace
}  // namespace aiolos
