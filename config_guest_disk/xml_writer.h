// SPDX-License-Identifier: Apache-2.0
// Tags, attributes and text, written straight into one buffer: what both ways of emitting an element are made of.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "aiolos/disk/disk_xml.h"

/// For what takes a name that is known when it is compiled: only inlined is it copied without looking at its size.
#define AIOLOS_ALWAYS_INLINE [[gnu::always_inline]] inline

namespace aiolos::disk {

/// Writes XML, or the same as the inside of a JSON string. For one thread, and one document at a time.
class XmlWriter {
 public:
  enum class Form { xml, json };
  static constexpr int kInline = -1;  ///< The level inside mixed content, where added blanks would change the text.

  XmlWriter(Form form, Indent indent)
      : json_(form == Form::json), indent_(indent), newline_(json_ ? "\\n" : "\n"), newline_size_(json_ ? 2 : 1) {}

  std::size_t size() const { return static_cast<std::size_t>(at_ - begin_); }
  /// Takes back what was written behind a place that size() told.
  void shrink(std::size_t size) { at_ = begin_ + size; }
  std::string_view text() const { return {begin_, size()}; }
  /// Without the newline at its end, if the layout has newlines.
  void remove_final_newline() {
    if (indent_.width > 0) at_ -= newline_size_;
  }
  /// Whether something was written that a JSON string may not hold as it is, for what is not ASCII need not be UTF-8.
  /// That is too rare to be this class's work.
  bool needs_json_escapes() const { return needs_json_escapes_; }

  AIOLOS_ALWAYS_INLINE void begin_line(int level) {
    if (level <= 0) return;
    const auto blanks = static_cast<std::size_t>(level) * static_cast<std::size_t>(indent_.width);
    reserve(blanks);
    std::memcpy(at_, "                ", kSlack);
    if (blanks > kSlack) [[unlikely]]
      std::memset(at_, ' ', blanks);
    at_ += blanks;
  }
  AIOLOS_ALWAYS_INLINE void end_line(int level) {
    if (level == kInline || indent_.width == 0) return;
    reserve(2);
    std::memcpy(at_, newline_, 2);
    at_ += newline_size_;
  }

  AIOLOS_ALWAYS_INLINE void begin_tag(std::string_view name) {
    reserve(name.size() + 1);
    *at_++ = '<';
    append(name);
  }
  AIOLOS_ALWAYS_INLINE void end_tag(std::string_view name) {
    reserve(name.size() + 3);
    append("</");
    append(name);
    *at_++ = '>';
  }
  AIOLOS_ALWAYS_INLINE void close_empty_tag() {
    reserve(2);
    append("/>");
  }
  AIOLOS_ALWAYS_INLINE void close_tag() {
    reserve(1);
    *at_++ = '>';
  }

  AIOLOS_ALWAYS_INLINE void attribute(std::string_view name, std::string_view value) {
    begin_attribute(name, value.size());
    escaped(value, Place::attribute);
    *at_++ = '\'';
  }
  /// As above, for a word or number: they hold nothing that is escaped.
  AIOLOS_ALWAYS_INLINE void plain_attribute(std::string_view name, std::string_view value) {
    begin_attribute(name, value.size());
    append(value);
    *at_++ = '\'';
  }

  /// `<name>value</name>`.
  AIOLOS_ALWAYS_INLINE void text_element(std::string_view name, std::string_view value) {
    begin_tag(name);
    if (value.empty()) return close_empty_tag();
    close_tag();
    escaped_text(value);
    end_tag(name);
  }

  void escaped_text(std::string_view value) {
    reserve(value.size());
    escaped(value, Place::text);
  }

  /// XML that was kept as it stood.
  void verbatim(std::string_view xml) {
    needs_json_escapes_ = true;  // perhaps
    put(xml);
  }

 private:
  enum class Place { attribute, text };
  // What is always left behind what was reserved: two words to copy in whole, and a quote.
  static constexpr std::size_t kSlack = 2 * sizeof(std::uint64_t);
  static constexpr std::size_t kRoom = kSlack + 8;

  /// Makes room for `size` bytes and kRoom more.
  void reserve(std::size_t size) {
    if (static_cast<std::size_t>(end_ - at_) < size + kRoom) [[unlikely]]
      grow(size + kRoom);
  }
  void grow(std::size_t more);

  /// Copies into what is reserved. Names and values are short, and a call for each would cost more than their bytes.
  AIOLOS_ALWAYS_INLINE void append(std::string_view text) {
    constexpr std::size_t word = sizeof(std::uint64_t);
    if (__builtin_constant_p(text.size()) || text.size() > 2 * word) {
      std::memcpy(at_, text.data(), text.size());
    } else if (text.size() >= word) {
      std::memcpy(at_, text.data(), word);
      std::memcpy(at_ + text.size() - word, text.data() + text.size() - word, word);
    } else {
      for (std::size_t i = 0; i < text.size(); ++i) at_[i] = text[i];
    }
    at_ += text.size();
  }

  void put(std::string_view text) {
    reserve(text.size());
    append(text);
  }

  /// ` name='`, with room for a value and the quote behind it.
  AIOLOS_ALWAYS_INLINE void begin_attribute(std::string_view name, std::size_t value_size) {
    reserve(name.size() + value_size + 4);
    *at_++ = ' ';
    append(name);
    append("='");
  }

  /// Bytes that are looked at together, and how many they are.
  using Bytes [[gnu::vector_size(16)]] = signed char;
  static constexpr std::size_t kStep = sizeof(Bytes);

  /// Whether none of the bytes may need an escape, in XML or JSON, and all are ASCII. They are letters, digits and
  /// dashes nearly always.
  static bool is_plain(Bytes bytes) {
    const Bytes special = (bytes < 0x20) | (bytes == '&') | (bytes == '\'') | (bytes == '<') | (bytes == '>') |
                          (bytes == '"') | (bytes == '\\');  // what is not ASCII is negative
    const auto halves = std::bit_cast<std::array<std::uint64_t, 2>>(special);
    return (halves[0] | halves[1]) == 0;
  }

  /// Copies `value`, for which there is room, if nothing in it needs an escape; most need none.
  /// @return false, nothing written, if something may.
  bool copy_plain(std::string_view value) {
    Bytes bytes;
    if (value.size() < kStep) {
      std::memset(&bytes, ' ', kStep);
      std::memcpy(&bytes, value.data(), value.size());
      std::memcpy(at_, &bytes, kStep);
      if (!is_plain(bytes)) return false;
    } else {
      const auto copy = [&](std::size_t i) {
        std::memcpy(&bytes, value.data() + i, kStep);
        std::memcpy(at_ + i, &bytes, kStep);
        return is_plain(bytes);
      };
      for (std::size_t i = 0; i + kStep < value.size(); i += kStep)
        if (!copy(i)) return false;
      if (!copy(value.size() - kStep)) return false;
    }
    at_ += value.size();
    return true;
  }

  void escaped(std::string_view value, Place place) {
    if (!copy_plain(value)) [[unlikely]]
      escape(value, place);
  }
  /// Leaves room for a quote.
  void escape(std::string_view value, Place place);

  const bool json_;
  bool needs_json_escapes_ = false;
  const Indent indent_;
  const char* const newline_;
  const std::size_t newline_size_;
  char first_[2048];  ///< Room for nearly every disk.
  std::unique_ptr<char[]> heap_;
  char* begin_ = first_;
  char* at_ = first_;
  char* end_ = first_ + sizeof first_;
};

}  // namespace aiolos::disk

#undef AIOLOS_ALWAYS_INLINE
