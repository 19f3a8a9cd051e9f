// SPDX-License-Identifier: Apache-2.0
// Files and standard input that commands read.
#pragma once

#include <string>

#include "aiolos/core/json.h"

namespace aiolos::cli {

/// The content of `path`; of standard input for "-", which can be read once. ErrorKind::bad_input.
Result<std::string> read_text(const std::string& path);

/// The JSON document in `path`, as above.
Result<Json> read_json(const std::string& path);

}  // namespace aiolos::cli
