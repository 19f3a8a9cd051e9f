// SPDX-License-Identifier: Apache-2.0
// Descriptors that the service manager keeps open for this process and for the next one: sd_notify(3), FDSTORE=1.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/posix.h"

namespace aiolos::engine {

struct NamedDescriptor {
  std::string name;
  UniqueFd fd;
};

/// What the service manager has kept for this process: sd_listen_fds_with_names(3). Once a process, before it makes
/// threads.
std::vector<NamedDescriptor> take_kept_descriptors();

/// Safe for all threads.
class DescriptorStore {
 public:
  /// @param kept by the service manager already. Each is used by nobody yet.
  explicit DescriptorStore(std::vector<NamedDescriptor> kept);

  /// Whether there is a service manager to keep anything, and the kernel tells equal descriptors from others; if only
  /// that is missing, it is logged.
  static bool is_possible();

  /// Has a descriptor kept. systemd keeps each open file once, so what is kept already gets a user more instead.
  /// @param kind a part of the name if it is new: letters. @return its name.
  std::string put(int fd, std::string_view kind);
  /// One user more of what is kept. @return a descriptor of the caller's own; none if nothing has this name.
  UniqueFd use(const std::string& name);
  /// One user less; the last one's goes.
  void release(const std::string& name);
  /// Lets go what nobody uses.
  void release_unused();

  /// Names of one kind, with the number by which a later one is greater.
  std::map<std::uint64_t, std::string> names(std::string_view kind) const;

 private:
  struct Kept {
    UniqueFd fd;
    unsigned users = 0;
  };

  mutable std::mutex mutex_;
  std::map<std::string, Kept> kept_;
  std::uint64_t next_number_ = 0;
};

}  // namespace aiolos::engine
