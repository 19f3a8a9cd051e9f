// SPDX-License-Identifier: Apache-2.0
// What lies at a path: a look before a volume is handed to QEMU, so that a wrong one is refused with its own reason.
#pragma once

#include <string>

#include "aiolos/core/result.h"

namespace aiolos::local {

/// What a volume's path has to lead to.
enum class NodeKind { regular_file, block_device };

/// Whether what lies at `path`, symbolic links followed, is of that kind.
/// @param where JSON pointer of the path, for errors.
/// @return ErrorKind::storage if nothing is there or it cannot be looked at; bad_input if it is of another kind.
Result<void> look_at(const std::string& path, NodeKind kind, const std::string& where);

/// Whether this process may read the node, and write it where `writable`.
/// @return ErrorKind::storage naming what is not allowed.
Result<void> check_access(const std::string& path, NodeKind kind, bool writable, const std::string& where);

}  // namespace aiolos::local
