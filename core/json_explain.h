// SPDX-License-Identifier: Apache-2.0
// What is wrong with a JSON text, and where.
#pragma once

#include <string_view>

#include "aiolos/core/json.h"

namespace aiolos {

/// Parses with nlohmann/json, which is slow and explains. It also reads what simdjson does not: numbers of any size.
/// @return the value, or the error as `parse_json` words it.
Result<Json> parse_or_explain(std::string_view text, std::string_view origin);

}  // namespace aiolos
