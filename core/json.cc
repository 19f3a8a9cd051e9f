// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/json.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include <fmt/format.h>

namespace aiolos {
namespace {

std::string_view type_name(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

}  // namespace

std::string pointer_token(std::string_view token) {
  std::string escaped;
  escaped.reserve(token.size());
  for (const char c : token) {
    if (c == '~')
      escaped += "~0";
    else if (c == '/')
      escaped += "~1";
    else
      escaped += c;
  }
  return escaped;
}

tl::unexpected<Error> JsonView::mismatch(std::string_view expected) const {
  std::string found(type_name(*value_));
  // A value is shown where it is short and cannot be a secret's own text.
  if (value_->is_number() || value_->is_boolean()) found += fmt::format(" ({})", value_->dump());
  return fail(ErrorKind::bad_input, fmt::format("expected {}, found {}", expected, found),
              fmt::format("set {} to {}", pointer_.empty() ? "the document" : pointer_, expected), pointer_);
}

Result<std::optional<JsonView>> JsonView::find(std::string_view key) const {
  if (!value_->is_object()) return mismatch("an object");
  const auto member = value_->find(key);
  if (member == value_->end() || member->is_null()) return std::nullopt;
  return JsonView(*member, pointer_ + "/" + pointer_token(key));
}

Result<JsonView> JsonView::at(std::string_view key) const {
  const auto found = find(key);
  if (!found) return tl::unexpected(found.error());
  if (*found) return **found;
  const std::string pointer = pointer_ + "/" + pointer_token(key);
  return fail(ErrorKind::bad_input, "this key is required and missing", fmt::format("add {}", pointer), pointer);
}

Result<std::string> JsonView::string() const {
  if (!value_->is_string()) return mismatch("a string");
  return value_->get_ref<const std::string&>();
}

Result<bool> JsonView::boolean() const {
  if (!value_->is_boolean()) return mismatch("true or false");
  return value_->get<bool>();
}

Result<std::uint64_t> JsonView::unsigned_integer() const {
  if (value_->is_number_unsigned()) return value_->get<std::uint64_t>();
  if (value_->is_number_integer() && value_->get<std::int64_t>() >= 0) return value_->get<std::uint64_t>();
  if (value_->is_string()) {
    const auto& text = value_->get_ref<const std::string&>();
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size()) return number;
  }
  return mismatch("a non-negative integer");
}

Result<std::optional<std::string>> JsonView::find_string(std::string_view key) const {
  const auto found = find(key);
  if (!found) return tl::unexpected(found.error());
  if (!*found) return std::nullopt;
  return (*found)->string().map([](std::string text) { return std::optional(std::move(text)); });
}

Result<std::optional<bool>> JsonView::find_boolean(std::string_view key) const {
  const auto found = find(key);
  if (!found) return tl::unexpected(found.error());
  if (!*found) return std::nullopt;
  return (*found)->boolean().map([](bool truth) { return std::optional(truth); });
}

Result<std::optional<std::uint64_t>> JsonView::find_unsigned(std::string_view key) const {
  const auto found = find(key);
  if (!found) return tl::unexpected(found.error());
  if (!*found) return std::nullopt;
  return (*found)->unsigned_integer().map([](std::uint64_t number) { return std::optional(number); });
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace aiolos
