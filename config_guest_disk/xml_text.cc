// SPDX-License-Identifier: Apache-2.0
// XML as text; see the header.
#include "xml_text.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>

namespace aiolos::disk {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

/// Length of the UTF-8 sequence at `i`; 0 if it is none.
std::size_t sequence_length(std::string_view text, std::size_t i) {
  const auto byte = [&](std::size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U; };
  const auto continues = [&](std::size_t at) { return (byte(at) & 0xC0U) == 0x80U; };
  const unsigned lead = byte(i);
  if (lead >= 0xC2 && lead <= 0xDF) return continues(i + 1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool overlong = lead == 0xE0 && byte(i + 1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(i + 1) > 0x9F;
    return continues(i + 1) && continues(i + 2) && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool out_of_range = (lead == 0xF0 && byte(i + 1) < 0x90) || (lead == 0xF4 && byte(i + 1) > 0x8F);
    return continues(i + 1) && continues(i + 2) && continues(i + 3) && !out_of_range ? 4 : 0;
  }
  return 0;
}

/// Whether the next eight bytes are printable ASCII; looked at together, since nearly all of them are.
bool is_plain_word(std::string_view text, std::size_t i) {
  std::uint64_t word = 0;
  if (text.size() - i < sizeof word) return false;
  std::memcpy(&word, text.data() + i, sizeof word);
  constexpr std::uint64_t high_bits = 0x8080808080808080U;
  constexpr std::uint64_t blanks = 0x2020202020202020U;
  return ((word | (word - blanks)) & high_bits) == 0;
}

std::size_t behind(std::string_view xml, std::string_view what, std::size_t from) {
  const std::size_t found = xml.find(what, from);
  return found == std::string_view::npos ? xml.size() : found + what.size();
}

/// Offset behind the `>` of the tag that begins at `begin`, minding quoted attribute values.
std::size_t end_of_tag(std::string_view xml, std::size_t begin) {
  for (std::size_t i = begin; i < xml.size(); ++i) {
    if (xml[i] == '>') return i + 1;
    if (xml[i] == '\'' || xml[i] == '"') i = xml.find(xml[i], i + 1);
    if (i == std::string_view::npos) break;
  }
  return xml.size();
}

/// Offset behind a document type declaration, whose internal subset may hold `>` in brackets, quotes and comments.
std::size_t end_of_doctype(std::string_view xml, std::size_t begin) {
  bool inside = false;
  for (std::size_t i = begin; i < xml.size();) {
    const std::string_view rest = xml.substr(i);
    if (rest.starts_with("<!--") || rest.starts_with("<?")) {
      i = end_of_markup(xml, i);
      continue;
    }
    if (rest[0] == '\'' || rest[0] == '"') {
      i = behind(xml, rest.substr(0, 1), i + 1);
      continue;
    }
    ++i;
    if (rest[0] == '[') inside = true;
    if (rest[0] == ']') inside = false;
    if (rest[0] == '>' && !inside) return i;
  }
  return xml.size();
}

bool is_character(std::uint32_t code) {
  if (code < 0x20) return code == '\t' || code == '\n' || code == '\r';
  return code < 0xD800 || (code > 0xDFFF && code < 0xFFFE) || (code > 0xFFFF && code < 0x110000);
}

/// Length of the reference that `text` begins with; 0 if it is none.
std::size_t reference_length(std::string_view text) {
  for (const std::string_view entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"})
    if (text.starts_with(entity)) return entity.size();
  if (!text.starts_with("&#")) return 0;
  const bool is_hex = text.starts_with("&#x");
  std::uint32_t code = 0;
  const char* const end = text.data() + text.size();
  const auto [behind_digits, error] = std::from_chars(text.data() + (is_hex ? 3 : 2), end, code, is_hex ? 16 : 10);
  if (error != std::errc{} || behind_digits == end || *behind_digits != ';' || !is_character(code)) return 0;
  return static_cast<std::size_t>(behind_digits - text.data()) + 1;
}

/// Offset behind blanks, comments, instructions and a document type.
std::size_t skip_misc(std::string_view xml, std::size_t i) {
  while (true) {
    i = std::min(xml.find_first_not_of(kBlanks, i), xml.size());
    const std::string_view rest = xml.substr(i);
    if (rest.starts_with("<!--") || rest.starts_with("<?"))
      i = end_of_markup(xml, i);
    else if (rest.starts_with("<!DOCTYPE"))
      i = end_of_doctype(xml, i);
    else
      return i;
  }
}

}  // namespace

Position position_of(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t newline = before.rfind('\n');
  const std::size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
  return {static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')) + 1, before.size() - line_start + 1};
}

std::string to_string(Position position) {
  return std::to_string(position.line) + ':' + std::to_string(position.column);
}

std::optional<std::size_t> find_bad_character(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (is_plain_word(text, i)) {
      i += sizeof(std::uint64_t);
      continue;
    }
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x80) {
      const std::size_t length = sequence_length(text, i);
      if (length == 0) return i;
      i += length;
    } else {
      if (byte < 0x20 && byte != '\n' && byte != '\t' && byte != '\r') return i;
      ++i;
    }
  }
  return std::nullopt;
}

std::optional<std::size_t> find_bad_reference(std::string_view xml) {
  if (xml.find('&') == std::string_view::npos) return std::nullopt;
  for (std::size_t i = 0; (i = xml.find_first_of("&<", i)) != std::string_view::npos;) {
    const std::string_view rest = xml.substr(i);
    if (rest[0] == '&') {
      const std::size_t length = reference_length(rest);
      if (length == 0) return i;
      i += length;
    } else if (rest.starts_with("<!--") || rest.starts_with("<![CDATA[") || rest.starts_with("<?")) {
      i = end_of_markup(xml, i);
    } else {
      i = rest.starts_with("<!DOCTYPE") ? end_of_doctype(xml, i) : i + 1;
    }
  }
  return std::nullopt;
}

std::string_view declared_encoding(std::string_view xml) {
  if (!xml.starts_with("<?xml")) return {};
  const std::string_view declaration = xml.substr(0, behind(xml, "?>", 0));
  const std::size_t name = declaration.find("encoding");
  if (name == std::string_view::npos) return {};
  const std::size_t open = declaration.find_first_of("'\"", name);
  if (open == std::string_view::npos) return {};
  const std::size_t close = declaration.find(declaration[open], open + 1);
  return close == std::string_view::npos ? std::string_view{} : declaration.substr(open + 1, close - open - 1);
}

std::size_t end_of_markup(std::string_view xml, std::size_t begin) {
  std::size_t depth = 0;
  for (std::size_t i = begin; i < xml.size();) {
    const std::string_view rest = xml.substr(i);
    if (rest.starts_with("<!--")) {
      i = behind(xml, "-->", i + 4);
    } else if (rest.starts_with("<![CDATA[")) {
      i = behind(xml, "]]>", i);
    } else if (rest.starts_with("<?")) {
      i = behind(xml, "?>", i);
    } else {
      const std::size_t end = end_of_tag(xml, i);
      const bool closes = rest.starts_with("</");
      const bool empty = end >= 2 && xml[end - 2] == '/';
      if (closes)
        --depth;
      else if (!empty)
        ++depth;
      i = end;
    }
    if (depth == 0) return i;
    i = std::min(xml.find('<', i), xml.size());
  }
  return xml.size();
}

std::size_t find_outside_root(std::string_view xml) {
  const std::size_t root = skip_misc(xml, 0);
  if (root < xml.size() && xml[root] != '<') return root;
  const std::size_t rest = skip_misc(xml, end_of_markup(xml, root));
  return rest < xml.size() ? rest : std::string_view::npos;
}

}  // namespace aiolos::disk
