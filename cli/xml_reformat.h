// SPDX-License-Identifier: Apache-2.0
// `aiolos xml reformat`: disks through the model and back.
#pragma once

#include <string>
#include <vector>

#include "aiolos/core/json.h"

namespace aiolos::cli {

/// One file's disks, written again from the model.
struct Reformatted {
  std::string xml;                   ///< All its disks, one after another.
  std::vector<std::string> unknown;  ///< What the model does not know and kept, "FILE:line:column: ...".
};

/// Reads the documents of `path` (a `<disk>`, or a document that contains some).
Result<Reformatted> reformat(const std::string& path);

}  // namespace aiolos::cli
