// SPDX-License-Identifier: Apache-2.0
#include "lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "aiolos/core/posix.h"

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

/// Whether the open file is still the one that the path names: its last holder may have removed it meanwhile.
bool is_at(int fd, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
         opened.st_dev == named.st_dev;
}

}  // namespace

Result<LockFile> LockFile::acquire(const std::string& dir, std::string_view key, std::chrono::milliseconds timeout,
                                   Clock& clock) {
  std::error_code ignored;
  std::filesystem::create_directories(dir, ignored);
  const std::string path = dir + "/" + file_name(key);
  const auto deadline = clock.now() + timeout;
  while (true) {
    LockFile lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (lock.fd_ < 0)
      return fail(ErrorKind::configuration, fmt::format("cannot open the lock {}: {}", path, errno_text(errno)),
                  "name a folder that may be written in state.dir");
    // flock(2) belongs to the open file, so it also keeps threads of one process apart; it has no timed wait.
    if (::flock(lock.fd_, LOCK_EX | LOCK_NB) == 0) {
      if (!is_at(lock.fd_, path)) continue;
      lock.path_ = path;
      return lock;
    }
    if (errno != EWOULDBLOCK && errno != EINTR)
      return fail(ErrorKind::configuration, fmt::format("cannot lock {}: {}", path, errno_text(errno)),
                  "use a file system with locks for state.dir");
    if (clock.now() >= deadline)
      return fail(ErrorKind::retry,
                  fmt::format("'{}' is being worked on by another process for over {} ms", key, timeout.count()),
                  "try again; `fuser " + path + "` shows which process it is");
    clock.sleep_until(clock.now() + kPoll);
  }
}

Result<std::unique_ptr<HostLocks::Held>> FileLocks::acquire(std::string_view key, std::chrono::milliseconds timeout) {
  struct HeldFile final : Held {
    explicit HeldFile(LockFile held) : file(std::move(held)) {}
    LockFile file;
  };
  return LockFile::acquire(dir_, key, timeout, clock_).map([](LockFile&& file) -> std::unique_ptr<Held> {
    return std::make_unique<HeldFile>(std::move(file));
  });
}

LockFile::LockFile(LockFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::exchange(other.path_, {})) {}

LockFile& LockFile::operator=(LockFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

LockFile::~LockFile() {
  // While it is held: whoever waits for it looks whether it is still there.
  if (!path_.empty()) ::unlink(path_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace aiolos
