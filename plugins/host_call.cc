// SPDX-License-Identifier: Apache-2.0
#include "host_call.h"

#include <simdjson.h>

namespace aiolos {

bool is_utf8(std::string_view text) {
  // ASCII, as nearly all are, without the dispatch to a vector unit.
  char all = 0;
  for (const char c : text) all = static_cast<char>(all | c);
  return static_cast<signed char>(all) >= 0 || simdjson::validate_utf8(text.data(), text.size());
}

std::string readable(std::string_view text) {
  if (is_utf8(text)) return std::string(text);
  // nlohmann/json's writer replaces bad bytes by U+FFFD, and its reader takes the quotes off again.
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

}  // namespace aiolos
