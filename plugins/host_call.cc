// SPDX-License-Identifier: Apache-2.0
#include "host_call.h"

#include <simdjson.h>

#include <cstring>

namespace aiolos {
namespace {

bool is_ascii(std::string_view text) {
  using Word = std::uint64_t;
  constexpr Word kHighBits = 0x8080808080808080;
  Word all = 0;
  const auto look_at = [&](std::size_t place) {
    Word word;
    std::memcpy(&word, text.data() + place, sizeof word);
    all |= word;
  };
  if (text.size() < sizeof(Word)) {
    for (const char c : text) all |= static_cast<unsigned char>(c);
  } else {
    for (std::size_t i = 0; i + sizeof(Word) < text.size(); i += sizeof(Word)) look_at(i);
    look_at(text.size() - sizeof(Word));
  }
  return (all & kHighBits) == 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  // ASCII, as nearly all are, is told without the dispatch to a vector unit.
  return is_ascii(text) || simdjson::validate_utf8(text.data(), text.size());
}

std::string readable(std::string_view text) {
  if (is_utf8(text)) return std::string(text);
  // nlohmann/json's writer replaces bad bytes by U+FFFD, and its reader takes the quotes off again.
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

}  // namespace aiolos
