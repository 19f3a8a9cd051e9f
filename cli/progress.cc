// SPDX-License-Identifier: Apache-2.0
#include "progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "aiolos/core/posix.h"

namespace aiolos::cli {
namespace {

constexpr std::size_t kBar = 20;
constexpr std::string_view kClear = "\r\x1b[K";

std::string left_text(const measure::Progress& progress, std::chrono::seconds elapsed) {
  if (progress.done == 0) return "";
  const auto left = elapsed.count() * (progress.all - std::min(progress.done, progress.all)) / progress.done;
  return fmt::format(", {}:{:02} left", left / 60, left % 60);
}

std::size_t columns_of(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string fitted(std::string text, std::size_t columns) {
  if (text.size() >= columns) text.resize(columns > 0 ? columns - 1 : 0);
  return text;
}

}  // namespace

std::string progress_text(const measure::Progress& progress, std::chrono::seconds elapsed, std::size_t columns) {
  const double share = progress.all == 0 ? 0 : std::min(1.0, static_cast<double>(progress.done) / progress.all);
  const auto full = static_cast<std::size_t>(share * kBar);
  std::string text = fmt::format("[{}{}] {:3.0f} %{}  {}", std::string(full, '#'), std::string(kBar - full, '-'),
                                 share * 100, left_text(progress, elapsed), progress.doing);
  return fitted(std::move(text), columns);
}

ProgressLine::ProgressLine(int fd) : fd_(fd), terminal_(::isatty(fd) == 1) {}

ProgressLine::~ProgressLine() {
  if (terminal_) write_all(fd_, kClear);
}

void ProgressLine::show(const measure::Progress& progress) {
  if (!terminal_) return;
  const auto elapsed = std::chrono::steady_clock::now() - began_;
  write_all(fd_,
            std::string(kClear) +
                progress_text(progress, std::chrono::duration_cast<std::chrono::seconds>(elapsed), columns_of(fd_)));
}

void ProgressLine::show(std::string text) {
  if (terminal_) write_all(fd_, std::string(kClear) + fitted(std::move(text), columns_of(fd_)));
}

}  // namespace aiolos::cli
