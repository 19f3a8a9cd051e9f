// SPDX-License-Identifier: Apache-2.0
// One row of the property table: how one attribute or child element of a struct is read, written and walked.
//
// A row is made from a pointer to member at compile time and holds plain function pointers, so that emit, parse and
// compare are one small loop each over any table, and no property is named twice.
#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "aiolos/disk/disk_config.h"

namespace aiolos::disk {

struct Table;
class XmlWriter;

/// Long enough for every number and word that `Row::get` formats.
inline constexpr std::size_t kScratchSize = 24;

struct Row {
  enum class Shape : std::uint8_t {
    attribute,     ///< name='value'
    content,       ///< The text of the element itself.
    text_element,  ///< <name>value</name>
    flag,          ///< <name/>, there or not
    element,       ///< A struct with a table of its own; `repeats` if it is a list.
  };
  enum class Value : std::uint8_t { text, number, word, none };

  std::string_view name;
  Shape shape = Shape::attribute;
  Value value = Value::none;
  bool repeats = false;   ///< A list.
  bool optional = false;  ///< Absent or there, by itself; a plain member is there if it says something.

  /// Whether it is set; always for a plain struct member.
  bool (*has)(const void* owner) = nullptr;
  /// The property in canonical form as `out`, which may lie in `scratch`; false if it is not set. Not for `element`.
  bool (*get)(const void* owner, char* scratch, std::string_view& out) = nullptr;
  /// Sets it from any spelling; false, and nothing changed, for a text that it cannot hold. Not for `element`.
  bool (*set)(void* owner, std::string_view text) = nullptr;
  /// The words of a closed vocabulary; only for Value::word.
  std::span<const std::string_view> (*words)() = nullptr;

  // Only for `element`.
  const Table& (*table)() = nullptr;
  std::size_t (*count)(const void* owner) = nullptr;  ///< A plain member counts as one, set or not.
  const void* (*at)(const void* owner, std::size_t i) = nullptr;
  void* (*add)(void* owner) = nullptr;  ///< Makes room for one more and gives it; a plain member gives itself.
};

/// The properties of one struct in canonical order: attributes first, then content or children.
struct Table {
  std::span<const Row> rows;
  std::size_t attributes = 0;                             ///< How many of `rows` are attributes.
  std::uint64_t (*present)(const void* owner) = nullptr;  ///< Which rows `has` is true for, as bits.
  bool first_decides = false;  ///< The first attribute says how others are to be read: read it before them.
  Extra& (*extra)(void* owner) = nullptr;
  /// Writes the element; one without any content only if `always` is set.
  void (*emit)(XmlWriter& out, std::string_view name, const void* owner, int level, bool always) = nullptr;

  const Extra& extra_of(const void* owner) const { return extra(const_cast<void*>(owner)); }
};

/// A struct's rows; specialised for each in property_table.cc.
template <typename T>
struct Properties;

/// The table of `T`; defined for each struct in property_table.cc.
template <typename T>
const Table& table_of();

// ---- How values are spelled. ----------------------------------------------------------------------------------------

struct Plain {};
struct OnOff {};
struct YesNo {};

/// How a number is written and read. `base` 0 reads as strtoul does with base 0, which libvirt uses for PCI addresses.
struct NumberFormat {
  unsigned hex_digits = 0;  ///< 0 for decimal, else the digits it is padded to behind 0x.
  int base = 10;
  bool only_pci = false;  ///< Decimal when the owner is an address of a type other than pci.
};
inline constexpr NumberFormat kDecimal{};

template <auto Format>
using TypeOfFormat = std::remove_cv_t<decltype(Format)>;

template <auto Format, typename Owner>
NumberFormat number_format(const Owner& owner) {
  if constexpr (std::is_same_v<TypeOfFormat<Format>, NumberFormat>) {
    if constexpr (Format.only_pci)
      if (owner.type && *owner.type != AddressType::pci) return kDecimal;
    return Format;
  } else {
    return kDecimal;
  }
}

std::string_view format_number(std::uint64_t value, NumberFormat format, char* scratch);
std::optional<std::uint64_t> parse_number(std::string_view text, NumberFormat format);

template <typename E>
std::span<const std::string_view> words_of() {
  return spellings<E>;
}
template <>
std::span<const std::string_view> words_of<CacheMode>();
template <>
std::span<const std::string_view> words_of<AioMode>();

template <typename Format>
std::span<const std::string_view> switch_words() {
  static constexpr std::string_view on_off[] = {"off", "on"};
  static constexpr std::string_view yes_no[] = {"no", "yes"};
  if constexpr (std::is_same_v<Format, OnOff>) return on_off;
  return yes_no;
}

inline std::optional<std::size_t> index_of(std::span<const std::string_view> words, std::string_view word) {
  for (std::size_t i = 0; i < words.size(); ++i)
    if (words[i] == word) return i;
  return std::nullopt;
}

// ---- From a pointer to member to a row. -----------------------------------------------------------------------------

template <typename T>
struct MemberTraits;
template <typename O, typename M>
struct MemberTraits<M O::*> {
  using Owner = O;
  using Member = M;
};
template <auto Member>
using OwnerOf = typename MemberTraits<decltype(Member)>::Owner;
template <auto Member>
using TypeOf = typename MemberTraits<decltype(Member)>::Member;

template <auto Member>
const TypeOf<Member>& read(const void* owner) {
  return static_cast<const OwnerOf<Member>*>(owner)->*Member;
}
template <auto Member>
TypeOf<Member>& write(void* owner) {
  return static_cast<OwnerOf<Member>*>(owner)->*Member;
}

template <auto Member>
bool has_value(const void* owner) {
  const auto& member = read<Member>(owner);
  if constexpr (std::is_same_v<TypeOf<Member>, bool>)
    return member;
  else if constexpr (requires { member.has_value(); })
    return member.has_value();
  else if constexpr (requires { member.empty(); })
    return !member.empty();
  else
    return true;
}

template <auto Member, auto Format>
bool get_value(const void* owner, [[maybe_unused]] char* scratch, std::string_view& out) {
  using T = TypeOf<Member>;
  const T& value = read<Member>(owner);
  if constexpr (std::is_same_v<T, bool>) {
    out = {};
    return value;
  } else {
    if (!value) return false;
    if constexpr (std::is_same_v<T, Text>)
      out = *value;
    else if constexpr (std::is_same_v<T, Number>)
      out = format_number(*value, number_format<Format>(*static_cast<const OwnerOf<Member>*>(owner)), scratch);
    else if constexpr (std::is_same_v<T, Switch>)
      out = switch_words<TypeOfFormat<Format>>()[*value ? 1 : 0];
    else
      out = words_of<typename T::value_type>()[static_cast<std::size_t>(*value)];
    return true;
  }
}

template <auto Member, auto Format>
bool set_value(void* owner, [[maybe_unused]] std::string_view text) {
  using T = TypeOf<Member>;
  T& value = write<Member>(owner);
  if constexpr (std::is_same_v<T, bool>) {
    value = true;
    return true;
  } else if constexpr (std::is_same_v<T, Text>) {
    value.emplace(text);
    return true;
  } else if constexpr (std::is_same_v<T, Number>) {
    const auto number = parse_number(text, number_format<Format>(*static_cast<const OwnerOf<Member>*>(owner)));
    if (number) value = number;
    return number.has_value();
  } else if constexpr (std::is_same_v<T, Switch>) {
    const auto index = index_of(switch_words<TypeOfFormat<Format>>(), text);
    if (index) value = *index == 1;
    return index.has_value();
  } else {
    const auto index = index_of(words_of<typename T::value_type>(), text);
    if (index) value = static_cast<typename T::value_type>(*index);
    return index.has_value();
  }
}

template <auto Member, auto Format>
constexpr Row scalar(std::string_view name, Row::Shape shape) {
  using T = TypeOf<Member>;
  Row row{.name = name,
          .shape = shape,
          .has = &has_value<Member>,
          .get = &get_value<Member, Format>,
          .set = &set_value<Member, Format>};
  if constexpr (std::is_same_v<T, bool>) {
    row.value = Row::Value::none;
  } else if constexpr (std::is_same_v<T, Text>) {
    row.value = Row::Value::text;
  } else if constexpr (std::is_same_v<T, Number>) {
    row.value = Row::Value::number;
  } else if constexpr (std::is_same_v<T, Switch>) {
    static_assert(!std::is_same_v<TypeOfFormat<Format>, Plain>, "say whether the switch is on/off or yes/no");
    row.value = Row::Value::word;
    row.words = &switch_words<TypeOfFormat<Format>>;
  } else {
    row.value = Row::Value::word;
    row.words = &words_of<typename T::value_type>;
  }
  return row;
}

/// `name='value'`.
template <auto Member, auto Format = Plain{}>
constexpr Row attribute(std::string_view name) {
  return scalar<Member, Format>(name, Row::Shape::attribute);
}
/// `<name>value</name>`.
template <auto Member, auto Format = Plain{}>
constexpr Row text_element(std::string_view name) {
  return scalar<Member, Format>(name, Row::Shape::text_element);
}
/// The element's own text.
template <auto Member, auto Format = Plain{}>
constexpr Row content() {
  return scalar<Member, Format>("", Row::Shape::content);
}
/// `<name/>`.
template <auto Member>
requires std::same_as < TypeOf<Member>,
bool > constexpr Row flag(std::string_view name) { return scalar<Member, Plain{}>(name, Row::Shape::flag); }

/// How a member holds its element: as it is, in a Box, or in a vector.
template <typename M>
struct Holder {
  using Element = M;
  static std::size_t count(const M&) { return 1; }
  static const M* at(const M& member, std::size_t) { return &member; }
  static M* add(M& member) { return &member; }
};
template <typename T>
struct Holder<Box<T>> {
  using Element = T;
  static std::size_t count(const Box<T>& member) { return member ? 1 : 0; }
  static const T* at(const Box<T>& member, std::size_t) { return &*member; }
  static T* add(Box<T>& member) { return &member.ensure(); }
};
template <typename T>
struct Holder<std::vector<T>> {
  using Element = T;
  static std::size_t count(const std::vector<T>& member) { return member.size(); }
  static const T* at(const std::vector<T>& member, std::size_t i) { return &member[i]; }
  static T* add(std::vector<T>& member) { return &member.emplace_back(); }
};

/// A struct as child element: plain, boxed, or a list of them.
template <auto Member>
constexpr Row element(std::string_view name) {
  using M = TypeOf<Member>;
  using H = Holder<M>;
  Row row{.name = name, .shape = Row::Shape::element, .has = &has_value<Member>};
  row.repeats = std::is_same_v<M, std::vector<typename H::Element>>;
  row.optional = !std::is_same_v<M, typename H::Element>;
  row.table = &table_of<typename H::Element>;
  row.count = [](const void* owner) { return H::count(read<Member>(owner)); };
  row.at = [](const void* owner, std::size_t i) -> const void* { return H::at(read<Member>(owner), i); };
  row.add = [](void* owner) -> void* { return H::add(write<Member>(owner)); };
  return row;
}

}  // namespace aiolos::disk
