// SPDX-License-Identifier: Apache-2.0
// What stood in an element beyond what the model knows, kept so that a round trip loses nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/disk/box.h"

namespace aiolos::disk {

/// One thing kept verbatim, with its place among the properties that the model knows.
struct ExtraItem {
  enum class Kind : std::uint8_t {
    attribute,  ///< An attribute the model does not know: `name` and its value as `text`.
    element,    ///< An element the model does not know, or a second one of what may stand once; `text` is its XML.
    comment,    ///< A comment or processing instruction; `text` is its XML.
    text,       ///< Character data where the model expects none; `text` is its XML.
    spelling,   ///< How a known property was written where that differs from canonical form; see `text`.
    value,      ///< A known property whose value the model cannot hold, e.g. a cache mode of a newer libvirt.
  };
  static constexpr std::int16_t kAtStart = -1;

  Kind kind = Kind::element;
  std::int16_t row = kAtStart;   ///< The property it belongs to or stands after: an index into the property table.
  std::uint16_t occurrence = 0;  ///< Which one of a repeated element it stands after, from 0.
  std::string name;              ///< Attribute or element name; for a spelling the canonical value that it spells.
  std::string text;              ///< Attribute value (unescaped) or XML (verbatim).

  bool operator==(const ExtraItem&) const = default;
};

/// The extras of one element. Costs one pointer while there are none.
class Extra {
 public:
  /// Whether the element was there, even with nothing in it; keeps `<driver/>` apart from no `<driver>` at all.
  bool present() const { return items_.has_value(); }
  void mark_present() { items_.ensure(); }

  const std::vector<ExtraItem>& items() const;
  void add(ExtraItem item) { items_.ensure().push_back(std::move(item)); }

  /// Forgets everything kept for the property or unknown thing of that name, and nothing else.
  void forget(std::string_view name);
  /// Forgets all; the element is then emitted only if it has properties that are set.
  void clear() { items_.reset(); }

 private:
  Box<std::vector<ExtraItem>> items_;
};

}  // namespace aiolos::disk
