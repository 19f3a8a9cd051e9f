// SPDX-License-Identifier: Apache-2.0
#include "outside.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "test_images.h"

namespace aiolos::measure {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

const Stop kGoOn = [] { return false; };

TemporaryFolder folder() { return *TemporaryFolder::make(std::filesystem::temp_directory_path()); }

TEST(TemporaryFolder, IsGoneWithAllThatIsInIt) {
  std::string path;
  {
    const TemporaryFolder made = folder();
    path = made.path();
    std::filesystem::create_directory(made / "sub");
    std::ofstream(made / "sub/file") << "x";
    ASSERT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TemporaryFolder, NamesTheFolderThatItCannotBeIn) {
  const auto made = TemporaryFolder::make("/proc/self");
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, HasSubstr("'/proc/self'"));
}

TEST(RunProgram, GivesWhatItWrote) {
  const auto made = folder();
  EXPECT_EQ(*run_program({"sh", "-c", "echo one; echo two >&2"}, made, seconds(10), kGoOn), "one\ntwo");
}

TEST(RunProgram, NamesTheLastWordsOfOneThatFails) {
  const auto made = folder();
  const auto done = run_program({"sh", "-c", "echo first; echo the disk is full; exit 3"}, made, seconds(10), kGoOn);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message, "sh failed (3): the disk is full");
}

TEST(RunProgram, EndsOneThatTakesTooLong) {
  const auto made = folder();
  const auto began = std::chrono::steady_clock::now();
  const auto done = run_program({"sleep", "60"}, made, std::chrono::milliseconds(300), kGoOn);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::retry);
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(10));
}

TEST(RunProgram, EndsWhenItIsToldTo) {
  const auto made = folder();
  const auto done = run_program({"sleep", "60"}, made, seconds(60), [] { return true; });
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("stopped"));
}

TEST(SignalWatch, NotesTheFirstSignalAndGivesTheActionsBack) {
  ::signal(SIGTERM, SIG_IGN);
  {
    const SignalWatch watch;
    EXPECT_EQ(SignalWatch::seen(), 0);
    ::raise(SIGTERM);
    ::raise(SIGINT);
    EXPECT_EQ(SignalWatch::seen(), SIGTERM);
  }
  EXPECT_EQ(::signal(SIGTERM, SIG_DFL), SIG_IGN);
  const SignalWatch another;
  EXPECT_EQ(SignalWatch::seen(), 0);
}

TEST(RequireRoom, NamesTheFolderAndWhatItLacks) {
  const auto made = folder();
  EXPECT_TRUE(require_room(made.path(), 4096));
  const auto room = require_room(made.path(), std::uint64_t{1} << 62);
  ASSERT_FALSE(room);
  EXPECT_THAT(room.error().message, HasSubstr(made.path()));
  EXPECT_THAT(room.error().next, HasSubstr("--size"));
}

}  // namespace
}  // namespace aiolos::measure
