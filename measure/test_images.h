// SPDX-License-Identifier: Apache-2.0
// Images that are made to be measured, in a folder that goes away.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "aiolos/core/vocabulary.h"
#include "outside.h"

namespace aiolos::measure {

struct ImageKind {
  std::string format;  ///< "raw" or "qcow2".
  bool preallocated = false;

  bool operator==(const ImageKind&) const = default;
};

/// Those that a folder is measured with.
const std::array<ImageKind, 4>& image_kinds();

/// "raw, preallocated"
std::string describe(const ImageKind& kind);

/// Makes an image, in place of one that may be there. A preallocated one is written in full, so that neither reads find
/// holes nor writes change metadata.
Result<void> make_image(const ImageKind& kind, const std::string& path, std::uint64_t size,
                        const TemporaryFolder& folder, const Stop& stop);

/// ErrorKind::storage if the folder's file system has not that much free. @param bytes that will be allocated at once.
Result<void> require_room(const std::string& folder, std::uint64_t bytes);

}  // namespace aiolos::measure
