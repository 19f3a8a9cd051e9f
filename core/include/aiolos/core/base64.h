// SPDX-License-Identifier: Apache-2.0
// Base64 of RFC 4648, as programs that speak JSON send bytes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace aiolos {

/// With padding.
std::string base64_encode(std::string_view bytes);

/// nullopt if it is none; with or without padding.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace aiolos
