// SPDX-License-Identifier: Apache-2.0
// JSON text to values: fast where it is right, explained where it is wrong.
#include <algorithm>

#include <fmt/format.h>
#include <simdjson.h>

#include "aiolos/core/json.h"

namespace aiolos {
namespace {

Json to_json_value(simdjson::dom::element element) {
  switch (element.type()) {
    case simdjson::dom::element_type::OBJECT: {
      Json object = Json::object();
      auto& members = object.get_ref<Json::object_t&>();
      const simdjson::dom::object source = element.get_object().value_unsafe();  // named: the loop must not outlive it
      for (const auto& [key, value] : source)
        members.insert_or_assign(std::string(key), to_json_value(value));
      return object;
    }
    case simdjson::dom::element_type::ARRAY: {
      Json array = Json::array();
      const simdjson::dom::array source = element.get_array().value_unsafe();
      for (const auto value : source) array.push_back(to_json_value(value));
      return array;
    }
    case simdjson::dom::element_type::STRING:
      return std::string(element.get_string().value_unsafe());
    case simdjson::dom::element_type::INT64: {
      // nlohmann/json keeps what is not negative as unsigned; so that equal documents compare equal, so do we.
      const std::int64_t number = element.get_int64().value_unsafe();
      return number < 0 ? Json(number) : Json(static_cast<std::uint64_t>(number));
    }
    case simdjson::dom::element_type::UINT64:
      return element.get_uint64().value_unsafe();
    case simdjson::dom::element_type::DOUBLE:
      return element.get_double().value_unsafe();
    case simdjson::dom::element_type::BOOL:
      return element.get_bool().value_unsafe();
    case simdjson::dom::element_type::NULL_VALUE:
      return nullptr;
  }
  return nullptr;
}

/// "line:column" of a byte offset, both from 1.
std::string position(std::string_view text, std::size_t offset) {
  offset = std::min(offset, text.size());
  const std::string_view before = text.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0: the first line
  return fmt::format("{}:{}", line, offset - line_start + 1);
}

/// The slow parser, which can say what is wrong and where.
Result<Json> parse_or_explain(std::string_view text, std::string_view origin) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ...": the position is ours.
    std::string what = error.what();
    if (const auto colon = what.find(": "); colon != std::string::npos) what.erase(0, colon + 2);
    const std::size_t offset = error.byte > 0 ? error.byte - 1 : 0;
    return fail(ErrorKind::bad_input, "not valid JSON: " + what, "correct the JSON at that line and column",
                fmt::format("{}:{}", origin, position(text, offset)));
  } catch (const std::exception& error) {
    return fail(ErrorKind::bad_input, fmt::format("not valid JSON: {}", error.what()), "correct the JSON",
                std::string(origin));
  }
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view origin) {
  // simdjson reads three times as fast as nlohmann/json but says little of what is wrong: the latter explains.
  thread_local simdjson::dom::parser parser;
  simdjson::dom::element document;
  const auto error = parser.parse(text.data(), text.size(), /*realloc_if_needed=*/true).get(document);
  if (error == simdjson::DEPTH_ERROR)
    return fail(ErrorKind::bad_input, "JSON nested more than 1,024 levels deep", "send a document of sensible depth",
                std::string(origin));
  if (error != simdjson::SUCCESS) return parse_or_explain(text, origin);
  return to_json_value(document);
}

}  // namespace aiolos
