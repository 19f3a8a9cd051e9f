// SPDX-License-Identifier: Apache-2.0
// One line on a terminal that says how far a measurement or a migration has come and how long it will take.
#pragma once

#include <chrono>
#include <string>

#include "runner.h"

namespace aiolos::cli {

/// "[####------]  40 %, 1:20 left  doing", no wider than the terminal. @param elapsed since the first step began.
std::string progress_text(const measure::Progress& progress, std::chrono::seconds elapsed, std::size_t columns);

/// Shows nothing where the descriptor is no terminal. Clears its line when it goes.
class ProgressLine {
 public:
  explicit ProgressLine(int fd);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(const measure::Progress& progress);
  /// @param text cut to the terminal's width.
  void show(std::string text);

 private:
  const int fd_;
  const bool terminal_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace aiolos::cli
