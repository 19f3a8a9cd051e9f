// SPDX-License-Identifier: Apache-2.0
// What a command that failed had to say.
#pragma once

#include <string>

#include "aiolos/plugin.hpp"

namespace aiolos::scsi {

/// The last line of its errors, or of its output where it has none (multipathd answers there); its exit status if it
/// said nothing.
std::string complaint(const CommandResult& result);

}  // namespace aiolos::scsi
