// SPDX-License-Identifier: Apache-2.0
// Locks between processes and threads of this host, one file each: what must not be worked on twice at once.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "aiolos/core/interfaces.h"

namespace aiolos {

/// A held lock; released when it goes, also when the process dies. Its file goes with it, so that a host does not
/// gather one for each volume it ever had; only a process that died leaves its file. Movable.
class LockFile {
 public:
  /// Waits for DIR/NAME-of-the-key.lock. @param dir made if it does not exist. @param key any text.
  /// @return ErrorKind::retry if another holds it for longer than `timeout`, ErrorKind::configuration if the folder
  /// can't be used.
  static Result<LockFile> acquire(const std::string& dir, std::string_view key, std::chrono::milliseconds timeout,
                                  Clock& clock);
  LockFile(LockFile&& other) noexcept;
  LockFile& operator=(LockFile&& other) noexcept;
  ~LockFile();

 private:
  explicit LockFile(int fd) : fd_(fd) {}

  int fd_;
  std::string path_;  ///< Empty while the lock is not held.
};

/// HostLocks by lock files in one folder.
class FileLocks final : public HostLocks {
 public:
  /// @param clock borrowed.
  FileLocks(std::string dir, Clock& clock) : dir_(std::move(dir)), clock_(clock) {}
  Result<std::unique_ptr<Held>> acquire(std::string_view key, std::chrono::milliseconds timeout) override;

 private:
  const std::string dir_;
  Clock& clock_;
};

}  // namespace aiolos
