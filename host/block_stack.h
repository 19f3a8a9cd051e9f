// SPDX-License-Identifier: Apache-2.0
// What a block device stands on, by sysfs: partitions, device mapper, md, loop; and so whether a write allocates.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "aiolos/core/result.h"
#include "file_probe.h"

namespace aiolos {

/// What sysfs alone can't tell. Each may block or run a command; tests give canned answers.
struct BlockStackHooks {
  /// The device-mapper table of `kernel_name` ("dm-3"), as `dmsetup table` prints it; nullopt if it can't be had.
  std::function<std::optional<std::string>(unsigned major, unsigned minor)> dm_table;
  /// The verdict over a loop device's whole backing file.
  std::function<Result<Verdict>(const std::string& path)> loop_file;
};

/// Facts of a block device.
struct BlockStackFacts {
  std::string name;  ///< The kernel's: "sda1", "dm-3".
  Verdict verdict;
  std::optional<std::uint32_t> logical_block_size;  ///< Bytes.
  std::optional<std::uint64_t> size;                ///< Bytes.
};

/// Walks from the device down to what really stores. Every device below counts: one thin leg makes a mirror thin.
/// @param sys where sysfs lies: "/sys". @return ErrorKind::storage if sysfs has no such device.
Result<BlockStackFacts> inspect_block_stack(const std::string& sys, unsigned major, unsigned minor,
                                            const BlockStackHooks& hooks);

}  // namespace aiolos
