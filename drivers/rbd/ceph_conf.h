// SPDX-License-Identifier: Apache-2.0
// ceph.conf for QEMU's client: what bounds its waits. By themselves librados and librbd wait 300 s for a monitor, and
// the guest whose disk is being opened stands still meanwhile.
//
// A client reads one file. So ours is the operator's own with a section added, for the very client that opens the image
// ([client.cinder]): nothing in [global] or [client] goes before that. Source: Ceph's documentation, "Configuring
// Ceph", sections; of a section that stands there twice, the later line wins.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>

#include "aiolos/core/posix.h"
#include "aiolos/plugin.hpp"

namespace aiolos::rbd {

/// A ceph.conf as it is, or is to be, on disk.
struct CephConf {
  std::string text;
  // Who may read it: it may hold a key.
  mode_t mode = 0644;
  uid_t owner = 0;
  gid_t group = 0;
};

/// The operator's file. @param path empty: librados' own, /etc/ceph/ceph.conf, where there need be none.
/// @return ErrorKind::configuration if it cannot be read.
Result<CephConf> read_conf(const std::string& path);

/// Which of a client's waits are bounded.
enum class Waits {
  monitors,  ///< Opening the image. What a disk may have: an OSD that stalls then holds its I/O, and no more.
  all,       ///< An answer of an OSD as well. For questions: a guest's disk would give I/O errors.
};

/// `conf` with the bound added for this client.
CephConf bounded(CephConf conf, std::string_view entity, std::chrono::seconds patience, Waits waits);

/// A file that is in memory only, for a command of this process to read; gone with the object, and with the process.
class MemoryFile {
 public:
  /// @return ErrorKind::retry where the host has no memory or descriptors left.
  static Result<MemoryFile> of(std::string_view text);
  /// Under which others open it.
  std::string path() const;

 private:
  explicit MemoryFile(UniqueFd descriptor) : descriptor_(std::move(descriptor)) {}
  UniqueFd descriptor_;
};

/// Has the file in `folder`, for QEMU to read as long as the volume is connected, and holds it. Volumes with the same
/// settings share one: its name is the hash of what is in it, which therefore never changes.
/// @return its path; ErrorKind::configuration if it cannot be written.
Result<std::string> publish_conf(sdk::Call& call, const std::string& folder, const CephConf& conf);

/// Gives up what this volume holds of `folder`; a file that no other volume holds is removed.
Result<void> withdraw_confs(sdk::Call& call, const std::string& folder);

}  // namespace aiolos::rbd
