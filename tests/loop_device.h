// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace aiolos::test {

/// A loop device over a file, detached when it goes; without a path where this machine allows none.
class LoopDevice {
 public:
  /// @param options of losetup(8).
  explicit LoopDevice(const std::string& file, const std::string& options = "") {
    std::array<char, 64> line{};
    const std::string command = "losetup --find --show " + options + " " + file + " 2>/dev/null";
    if (FILE* pipe = ::popen(command.c_str(), "r")) {
      if (std::fgets(line.data(), line.size(), pipe) != nullptr) path_ = line.data();
      ::pclose(pipe);
    }
    if (!path_.empty() && path_.back() == '\n') path_.pop_back();
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  ~LoopDevice() {
    if (!path_.empty() && std::system(("losetup --detach " + path_).c_str()) != 0) std::perror("losetup --detach");
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace aiolos::test
