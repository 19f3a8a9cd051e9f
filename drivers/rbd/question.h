// SPDX-License-Identifier: Apache-2.0
// Asks a cluster for an image before a guest depends on it, by QEMU's own client: what keeps that from opening the
// image keeps QEMU from it, too, and is told here in words that say what to do.
#pragma once

#include <chrono>
#include <cstdint>

#include "aiolos/plugin.hpp"
#include "image.h"
#include "settings.h"

namespace aiolos::rbd {

/// The image's size in bytes; an image that a guest uses may be asked for.
/// @return why it cannot be opened, within seconds: see `explain`, and ErrorKind::configuration for a secret that
/// libvirt does not have.
Result<std::uint64_t> ask_size(sdk::Call& call, const Image& image, const Settings& settings);

/// What is wrong, from what a failed qemu-img wrote: QEMU's block/rbd.c gives the step and librados' error, and
/// librados itself names a monitor that has no address, on standard output. ErrorKind::retry where the cluster does not
/// answer, configuration for credentials, bad_input or storage with the JSON pointer for what the connection_info
/// names.
/// @param patience how long the cluster was waited for.
Error explain(const Image& image, const CommandResult& answer, std::chrono::seconds patience);

}  // namespace aiolos::rbd
