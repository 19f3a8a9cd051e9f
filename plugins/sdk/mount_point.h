// SPDX-License-Identifier: Apache-2.0
// The place of a share on this host: what is mounted there, whether it answers, who uses it; making and removing it.
// Nothing here waits for a dead server: what touches the share is a command with a deadline.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "aiolos/plugin.hpp"

namespace aiolos::sdk {

class MountPoint {
 public:
  /// @param path absolute; the folder of mount points above it is this host's own, and so answers.
  MountPoint(Call& call, std::string path);

  const std::string& path() const { return path_; }
  /// What volumes hold that use the share, in the journal.
  std::string resource() const { return "mount point " + path_; }

  /// What is mounted there; of several, the one on top. By the mount table: touches no share.
  Result<std::optional<Mount>> mounted() const;
  /// Whether the share mounted there answers. @return ErrorKind::retry naming it and the cause: a dead server, a share
  /// that is gone (ESTALE), a FUSE client that ended (ENOTCONN).
  Result<void> check_answers(const Mount& mount) const;
  /// A process that has a file open there, or works there: "qemu-system-x86 (process 4711)". Reads /proc alone.
  std::optional<std::string> user() const;

  Result<void> make_folder() const;
  /// Removes the folder unless something is in it, which is only warned of.
  Result<void> remove_folder() const;

  /// Takes the share away, under whoever asks not to. One that does not answer is taken away lazily, which makes nobody
  /// wait for it. One that others use stays, with a warning: they are not ours to stop.
  /// @return ErrorKind::retry if it could not be unmounted though nobody was seen to use it.
  Result<void> unmount(const Mount& mount) const;
  /// Takes the share out of the tree at once; who has files open there keeps them.
  Result<void> unmount_lazily(const Mount& mount) const;

  /// Runs a command that touches the share. @return as Call::run, but ErrorKind::retry names the share.
  Result<CommandResult> run(std::vector<std::string> argv, std::chrono::seconds timeout, const Mount& mount) const;

 private:
  Result<bool> is_mounted() const;
  Result<bool> unmount_unless_used(const Mount& mount) const;

  Call& call_;
  std::string path_;
  std::string real_path_;  ///< As the mount table has it: symbolic links above it followed.
};

/// What a command complained of: its last line after the last ": ", such as "Stale file handle".
std::string cause_of(const CommandResult& result);

}  // namespace aiolos::sdk
