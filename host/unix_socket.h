// SPDX-License-Identifier: Apache-2.0
// Connections to sockets that have a path.
#pragma once

#include <string>

#include "aiolos/core/posix.h"

namespace aiolos {

/// A stream to who listens at `path`, which does not block. @return none with errno set; ENAMETOOLONG for a path of
/// more than 107 bytes.
UniqueFd connect_unix_socket(const std::string& path);

}  // namespace aiolos
