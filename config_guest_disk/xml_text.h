// SPDX-License-Identifier: Apache-2.0
// XML as text: what pugixml lets pass or does not tell, namely encoding, positions and where an element ends.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace aiolos::disk {

struct Position {
  std::size_t line = 1;
  std::size_t column = 1;  ///< In bytes.
};

/// Where byte `offset` of `text` stands.
Position position_of(std::string_view text, std::size_t offset);

/// `3:14`.
std::string to_string(Position position);

/// Offset of the first byte that is no UTF-8 or no character that XML 1.0 allows; empty if all are.
std::optional<std::size_t> find_bad_character(std::string_view text);

/// Offset of the first `&` that begins no reference to a character or to `amp`, `lt`, `gt`, `quot` or `apos`; empty if
/// all do. Entities that a document type defines are not read.
std::optional<std::size_t> find_bad_reference(std::string_view xml);

/// The encoding that the XML declaration names, if it names one.
std::string_view declared_encoding(std::string_view xml);

/// Offset behind the element, comment, instruction or CDATA section whose `<` stands at `begin`. The document is known
/// to be well-formed; `xml.size()` if it ends early all the same.
std::size_t end_of_markup(std::string_view xml, std::size_t begin);

/// Offset of the first thing that may not stand beside the root element: text, or a second element; npos if none does.
std::size_t find_outside_root(std::string_view xml);

}  // namespace aiolos::disk
