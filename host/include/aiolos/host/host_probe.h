// SPDX-License-Identifier: Apache-2.0
// What this host's kernel says of itself: version, AIO budget, io_uring.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "aiolos/core/interfaces.h"

namespace aiolos {

struct HostProbeOptions {
  std::string proc = "/proc";           ///< Where procfs lies; tests name a folder.
  std::string release;                  ///< The kernel's release; empty: uname(2).
  std::function<int()> io_uring_setup;  ///< 0 or an errno; empty: io_uring_setup(2) with one entry.
};

/// Fills kernel, io_uring_disabled, io_uring_works, aio_nr and aio_max_nr. A file that can't be read leaves its fact
/// absent; there is no error.
std::unique_ptr<HostProbe> make_host_probe(HostProbeOptions options = {});

}  // namespace aiolos
