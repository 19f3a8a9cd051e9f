// SPDX-License-Identifier: Apache-2.0
#include "host_call.h"

#include <fmt/format.h>
#include <simdjson.h>

namespace aiolos {

std::optional<std::string> pointer_within(const Json& document, const Json* value) {
  if (&document == value) return std::string();
  if (document.is_object()) {
    for (const auto& [key, member] : document.get_ref<const Json::object_t&>())
      if (const auto rest = pointer_within(member, value)) return fmt::format("/{}{}", pointer_token(key), *rest);
  } else if (document.is_array()) {
    const auto& elements = document.get_ref<const Json::array_t&>();
    for (std::size_t index = 0; index < elements.size(); ++index)
      if (const auto rest = pointer_within(elements[index], value)) return fmt::format("/{}{}", index, *rest);
  }
  return std::nullopt;
}

bool is_utf8(std::string_view text) {
  // Short ASCII, as nearly all are, without the dispatch to a vector unit.
  bool ascii = text.size() <= 64;
  for (std::size_t i = 0; ascii && i < text.size(); ++i) ascii = static_cast<signed char>(text[i]) >= 0;
  return ascii || simdjson::validate_utf8(text.data(), text.size());
}

std::string readable(std::string_view text) {
  if (is_utf8(text)) return std::string(text);
  // nlohmann/json's writer replaces bad bytes by U+FFFD, and its reader takes the quotes off again.
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

}  // namespace aiolos
