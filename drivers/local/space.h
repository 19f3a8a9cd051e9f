// SPDX-License-Identifier: Apache-2.0
// The space of a raw image file: allocated in full before the guest writes, and grown so that it stays as it was.
#pragma once

#include <cstdint>
#include <string>

#include "aiolos/plugin.hpp"
#include "node.h"

namespace aiolos::local {

/// Allocates what a raw image lacks, as Nova's preallocate_images=space does: fallocate -n -l SIZE. Its content and
/// size stay, so a running guest is not in the way; doing it again changes nothing.
/// @return ErrorKind::storage if the file system has not that much room, before anything is taken. A file system that
/// cannot preallocate is only warned of: the volume works, and the AIO decision goes by what was really allocated.
Result<void> preallocate(sdk::Call& call, const std::string& path, const Node& image);

/// Grows a raw image to `bytes`, more than it has now.
/// @param allocate take the new part's space at once. Then a failure leaves the image at its present size: a guest
///   that uses `native` on a full image must not meet holes after it.
/// @return ErrorKind::storage if the file system has not that much room, before anything is taken, or will not.
Result<void> grow(sdk::Call& call, const std::string& path, const Node& image, std::uint64_t bytes, bool allocate);

}  // namespace aiolos::local
