// SPDX-License-Identifier: Apache-2.0
// What every part that makes system calls itself needs of POSIX.
#pragma once

#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>

namespace aiolos {

/// A file descriptor that closes itself. Not shared between threads.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

  /// Gives the descriptor up without closing it.
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

/// strerror for threads: "No such file or directory".
std::string errno_text(int error);

/// Writes all of `text`, however few bytes the kernel takes at a time, and goes on after a signal.
/// @return false with errno set; some of it may have been written then.
bool write_all(int fd, std::string_view text);

}  // namespace aiolos
