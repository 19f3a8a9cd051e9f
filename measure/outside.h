// SPDX-License-Identifier: Apache-2.0
// What a measurement needs besides its storage: when to stop, a folder that goes away, programs that it waits for.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/result.h"

namespace aiolos::measure {

/// Whether to give up now. Asked several times a second.
using Stop = std::function<bool()>;

/// The error of a measurement that was stopped.
tl::unexpected<Error> stopped();

/// While this lives SIGINT, SIGTERM and SIGHUP are noted instead of ending the process, and end its waits. One at a
/// time.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  /// The first that came; 0: none has.
  static int seen();
};

/// A folder of ours, gone with this and all that is in it.
class TemporaryFolder {
 public:
  /// Makes it below `parent`. ErrorKind::storage.
  static Result<TemporaryFolder> make(const std::string& parent);
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// Runs a program to its end. @return what it wrote; ErrorKind::storage with the last line of that if it failed,
/// ErrorKind::retry if it took longer than `most` or was stopped.
Result<std::string> run_program(const std::vector<std::string>& argv, const TemporaryFolder& folder,
                                std::chrono::milliseconds most, const Stop& stop);

/// The last line that is not empty.
std::string last_line(std::string_view text);

}  // namespace aiolos::measure
