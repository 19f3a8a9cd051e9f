// SPDX-License-Identifier: Apache-2.0
// The kernel's view of this host's devices, and waiting for it to change.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/plugin.hpp"

namespace aiolos::scsi {

/// /sys, or a folder that a test puts in its place. Paths are relative to it. What is read here the kernel knows by
/// heart: no read waits for storage. A write may, and so is a command that can be given up.
class Sysfs {
 public:
  explicit Sysfs(std::string root = "/sys") : root_(std::move(root)) {}

  std::string path(std::string_view relative) const { return root_ + "/" + std::string(relative); }
  bool exists(std::string_view relative) const;
  /// An attribute's text without the white space around it; nullopt if there is none or the kernel refuses it.
  std::optional<std::string> attribute(std::string_view relative) const;
  /// Names in a folder, sorted; none if there is no such folder.
  std::vector<std::string> entries(std::string_view folder) const;
  /// The canonical path of a link's target, below the root if that is where it leads; nullopt if it leads nowhere.
  std::optional<std::string> resolve(std::string_view relative) const;
  /// Writes an attribute. @return ErrorKind::retry if the kernel does not come back from it within `timeout` (it goes
  /// on by itself), ErrorKind::storage if it refuses.
  Result<void> write(sdk::Call& call, std::string_view relative, std::string_view value,
                     std::chrono::milliseconds timeout = std::chrono::seconds(10)) const;

 private:
  std::string root_;
};

/// Asks until the answer is yes, every 50 ms. @return false if that took longer than `timeout`.
bool wait_until(std::chrono::milliseconds timeout, const std::function<bool()>& answer);

}  // namespace aiolos::scsi
