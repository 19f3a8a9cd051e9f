// SPDX-License-Identifier: Apache-2.0
// What the host tests share: folders that go away, files, commands that must succeed.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "aiolos/host/command_runner.h"

namespace aiolos {

/// A folder of this test's own, removed with it. `base` on a file system of the test's choice.
class TempDir {
 public:
  explicit TempDir(const std::string& base = "/var/tmp") {
    std::string pattern = base + "/aiolos-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

/// Runs a command that the test needs; its output.
inline std::string must_run(std::vector<std::string> argv) {
  const Result<CommandResult> result = make_command_runner()->run({argv, {}, std::chrono::seconds(60)});
  if (!result) {
    ADD_FAILURE() << argv[0] << ": " << describe(result.error());
    return {};
  }
  EXPECT_EQ(result->status, 0) << argv[0] << ": " << result->errors;
  return result->output;
}

/// The sentences as one text, for HasSubstr.
inline std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace aiolos
