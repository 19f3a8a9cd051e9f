// SPDX-License-Identifier: Apache-2.0
// The kernel's RBD client: an image as a block device of this host, by the command `rbd`.
//
// A volume that several guests of this host use is mapped once; each holds that. A mapping that was there before, made
// by somebody else, is used and left alone.
#pragma once

#include <cstdint>

#include "aiolos/plugin.hpp"
#include "image.h"
#include "settings.h"

namespace aiolos::rbd {

/// Maps the image, unless it is mapped already. The cluster has just answered: see ask_size.
/// @return the device, with what it is in the attachment's state. ErrorKind::configuration where the kernel has no such
/// client or does not know the image's features.
Result<Attachment> map_image(sdk::Call& call, const Image& image, const Settings& settings);

/// Unmaps what this volume holds, unless others do, too.
/// @param attachment what map_image gave; nullptr if that is not known.
/// @param force give up what is not written: otherwise a cluster that does not answer keeps the device.
/// @return ErrorKind::refused if something uses the device, retry if the cluster does not answer.
Result<void> unmap_image(sdk::Call& call, const Image& image, const Attachment* attachment, bool force);

/// Whether the device still is the image that it was.
/// @return ErrorKind::refused naming both.
Result<void> verify_mapping(const Attachment& attachment);

}  // namespace aiolos::rbd
