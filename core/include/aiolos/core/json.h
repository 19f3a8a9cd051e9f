// SPDX-License-Identifier: Apache-2.0
// JSON from callers: parsing with positions, and typed access whose errors name the JSON pointer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "aiolos/core/result.h"

namespace aiolos {

using Json = nlohmann::json;

/// Parses one UTF-8 JSON document.
/// @param text   the whole document; nothing but white space may follow it.
/// @param origin what to call the document in an error: a file's name, or "connection_info".
/// @return the value, or ErrorKind::bad_input with `where` = "origin:line:column".
/// The value's strings are copies; `text` may go.
Result<Json> parse_json(std::string_view text, std::string_view origin);

/// A value together with the path that led to it, so that every error can name its JSON pointer (RFC 6901).
/// Borrows the Json; cheap to copy; do not outlive it.
class JsonView {
 public:
  /// @param value the document. @param pointer its own place, "" for a whole document.
  explicit JsonView(const Json& value, std::string pointer = {}) : value_(&value), pointer_(std::move(pointer)) {}

  const Json& json() const { return *value_; }
  const std::string& pointer() const { return pointer_; }

  /// The member `key`; nullopt if absent or null. An error if this value is no object.
  Result<std::optional<JsonView>> find(std::string_view key) const;
  /// The member `key`; an error naming the pointer if it is absent or null.
  Result<JsonView> at(std::string_view key) const;

  Result<std::string> string() const;
  Result<bool> boolean() const;
  /// A non-negative integer; also accepts one spelled as a string, as Cinder sends qos_specs.
  Result<std::uint64_t> unsigned_integer() const;

  /// `find` then the conversion; absent gives nullopt.
  Result<std::optional<std::string>> find_string(std::string_view key) const;
  Result<std::optional<bool>> find_boolean(std::string_view key) const;
  Result<std::optional<std::uint64_t>> find_unsigned(std::string_view key) const;

  /// An error of kind bad_input at this value: "expected WHAT, found a number (5)".
  tl::unexpected<Error> mismatch(std::string_view expected) const;

 private:
  const Json* value_;
  std::string pointer_;
};

/// `token` escaped for use in a JSON pointer (RFC 6901, section 3).
std::string pointer_token(std::string_view token);

/// The candidate closest to `name` by edit distance, if any is close enough to be a likely misspelling.
template <typename Range>
std::optional<std::string> nearest(std::string_view name, const Range& candidates);

/// Levenshtein distance, in edits of one byte.
std::size_t edit_distance(std::string_view a, std::string_view b);

template <typename Range>
std::optional<std::string> nearest(std::string_view name, const Range& candidates) {
  std::optional<std::string> best;
  std::size_t best_distance = name.size() / 2 + 1;  // more than half wrong is another word, not a misspelling
  for (const auto& candidate : candidates) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = std::string(candidate);
    }
  }
  return best;
}

}  // namespace aiolos
