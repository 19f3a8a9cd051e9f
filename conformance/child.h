// SPDX-License-Identifier: Apache-2.0
// A process of its own for what a plugin may do to it: crash, hang, or be killed on purpose.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "aiolos/core/json.h"

namespace aiolos::conformance {

/// What a child is about to do, in memory that its parent sees too: whoever crashes cannot say what it was doing.
class Progress {
 public:
  Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  /// Replaces the text; what is too long for it is cut off.
  void now(std::string_view doing);
  std::string text() const;

 private:
  char* memory_;
};

/// How a child ended.
struct ChildEnd {
  enum class How { answered, killed, overran, silent };
  How how = How::silent;
  int signal = 0;     ///< With `killed`: by which.
  int status = 0;     ///< With `silent`: its exit status.
  Json answer;        ///< With `answered`.
  std::string doing;  ///< Its progress at the end.
};

/// Runs `body` in a child process, a copy of this one, which has one thread only.
/// @param deadline then the child is killed, with all processes of its session.
/// @param body gives the child's answer; what it throws is not caught, so that it shows as SIGABRT.
ChildEnd run_in_child(std::chrono::milliseconds deadline, const std::function<Json(Progress&)>& body);

/// "was ended by signal 11 (Segmentation fault) at: ..."
std::string describe(const ChildEnd& end);

}  // namespace aiolos::conformance
