// SPDX-License-Identifier: Apache-2.0
// The folder of libvirt's embedded QEMU driver: its place in a URI, and who may use it.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "aiolos/core/result.h"

namespace aiolos {

/// DIR of `qemu:///embed?root=DIR`, percent-escapes undone; nullopt for any other URI. Pure.
std::optional<std::string> embed_root(std::string_view uri);

/// Creates `root` with its parents and takes the locks that the embedded drivers will take, waiting for another process
/// at most `timeout`. They are kept until this process ends.
///
/// Why not let libvirt try: a first open that fails for the lock leaves the driver unusable for the rest of the process
/// ("qemu state driver is not active", libvirt 9.0), so it must not be tried before the lock is ours. libvirt locks
/// DIR/run/qemu/driver.pid with fcntl(2), whose locks belong to the process: ours let libvirt in, and keep others out
/// without a gap. They end when the process closes any descriptor of the file, so ours stays open.
/// @return ErrorKind::retry naming the process that holds it; ErrorKind::configuration if the folder can't be made or
/// its name is too long for the sockets that libvirt puts below.
Result<void> take_embed_root(const std::string& root, std::chrono::milliseconds timeout);

}  // namespace aiolos
