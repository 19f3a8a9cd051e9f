// SPDX-License-Identifier: Apache-2.0
// JSON text to values: fast where it is right, explained where it is wrong.
#include <algorithm>

#include <fmt/format.h>

#include "aiolos/core/json.h"
#include "aiolos/core/json_document.h"
#include "json_explain.h"

namespace aiolos {
namespace {

/// "line:column" of a byte offset, both from 1.
std::string position(std::string_view text, std::size_t offset) {
  offset = std::min(offset, text.size());
  const std::string_view before = text.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0: the first line
  return fmt::format("{}:{}", line, offset - line_start + 1);
}

}  // namespace

Result<Json> parse_or_explain(std::string_view text, std::string_view origin) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ...": the position is ours.
    std::string what = error.what();
    if (const auto colon = what.find(": "); colon != std::string::npos) what.erase(0, colon + 2);
    // It goes on to quote the document, where a password may stand.
    if (const auto quote = what.find("; last read: "); quote != std::string::npos) what.erase(quote);
    const std::size_t offset = error.byte > 0 ? error.byte - 1 : 0;
    return fail(ErrorKind::bad_input, "not valid JSON: " + what, "correct the JSON at that line and column",
                fmt::format("{}:{}", origin, position(text, offset)));
  } catch (const std::exception& error) {
    return fail(ErrorKind::bad_input, fmt::format("not valid JSON: {}", error.what()), "correct the JSON",
                std::string(origin));
  }
}

Result<Json> parse_json(std::string_view text, std::string_view origin) {
  thread_local JsonDocument document;
  return document.parse(text, origin).map([](const JsonNode* root) { return to_json(*root); });
}

}  // namespace aiolos
