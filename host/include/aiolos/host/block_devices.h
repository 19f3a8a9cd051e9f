// SPDX-License-Identifier: Apache-2.0
// Probes images and block devices of this host.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "aiolos/core/interfaces.h"

namespace aiolos {

struct BlockDevicesOptions {
  std::string sys = "/sys";                           ///< Where sysfs lies.
  std::chrono::milliseconds file_timeout{10'000};     ///< For each file's system calls; beyond it ErrorKind::retry.
  std::chrono::milliseconds command_timeout{30'000};  ///< For each qemu-img and dmsetup.
};

/// The real prober: system calls on a bounded thread (see bounded.h), qemu-img and dmsetup through `runner`.
/// `probe` may be called from several threads at once. Both arguments must outlive it.
std::unique_ptr<BlockDevices> make_block_devices(CommandRunner& runner, MountTable& mounts,
                                                 BlockDevicesOptions options = {});

}  // namespace aiolos
