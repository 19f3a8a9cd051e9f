// SPDX-License-Identifier: Apache-2.0
// QEMU's own block layer without a guest: a qemu-storage-daemon of ours, whose main loop serves all disks that it is
// given as vhost-user-blk, as QEMU's main loop does for guests without iothreads; or iothreads do.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/vocabulary.h"
#include "aiolos/host/background_process.h"
#include "outside.h"
#include "qemu_arguments.h"

namespace aiolos::measure {

/// What to serve, and where.
struct DaemonDisk : QemuDisk {
  std::string socket;
};

struct DaemonOptions {
  std::vector<DaemonDisk> disks;
  AioMode mode = AioMode::threads;
  unsigned iothreads = 0;  ///< That the disks are spread over; 0: the main loop serves them all.
  /// Where to serve a disk that answers at once, without any storage, by the engine of the first disk; nullopt: none.
  std::optional<std::string> null_socket;
};

/// Pure.
std::vector<std::string> daemon_command(const DaemonOptions& options);

/// Starts it and waits until it serves. ErrorKind::storage with the daemon's own words if it does not.
Result<std::unique_ptr<BackgroundProcess>> start_daemon(const DaemonOptions& options, const TemporaryFolder& folder,
                                                        const Stop& stop);

}  // namespace aiolos::measure
