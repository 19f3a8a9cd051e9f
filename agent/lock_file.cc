// SPDX-License-Identifier: Apache-2.0
#include "lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

namespace aiolos {
namespace {

constexpr std::chrono::milliseconds kPoll{20};

/// A file name that people recognise and that no two keys share: readable end, then a 64-bit FNV-1a of all of it.
std::string file_name(std::string_view key) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const unsigned char byte : key) hash = (hash ^ byte) * 1099511628211ull;
  std::string readable(key.substr(key.size() - std::min<std::size_t>(key.size(), 60)));
  for (char& c : readable)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '.') c = '_';
  return fmt::format("{}-{:016x}.lock", readable, hash);
}

}  // namespace

Result<LockFile> LockFile::acquire(const std::string& dir, std::string_view key, std::chrono::milliseconds timeout,
                                   Clock& clock) {
  std::error_code ignored;
  std::filesystem::create_directories(dir, ignored);
  const std::string path = dir + "/" + file_name(key);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0)
    return fail(ErrorKind::configuration, fmt::format("cannot open the lock {}: {}", path, std::strerror(errno)),
                "name a folder that may be written in state.dir");
  LockFile lock(fd);
  const auto deadline = clock.now() + timeout;
  // flock(2) belongs to the open file, so it also keeps threads of one process apart; it has no timed wait.
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      return fail(ErrorKind::configuration, fmt::format("cannot lock {}: {}", path, std::strerror(errno)),
                  "use a file system with locks for state.dir");
    if (clock.now() >= deadline)
      return fail(ErrorKind::retry, fmt::format("'{}' is being worked on by another process for over {} ms", key,
                                                timeout.count()),
                  "try again; `fuser " + path + "` shows which process it is");
    clock.sleep_until(clock.now() + kPoll);
  }
  return lock;
}

LockFile::LockFile(LockFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

LockFile& LockFile::operator=(LockFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

LockFile::~LockFile() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace aiolos
