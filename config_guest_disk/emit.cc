// SPDX-License-Identifier: Apache-2.0
// Writes a disk as XML, straight into a string, in the order of the property table.
#include <bit>
#include <cstring>
#include <memory>

#include "aiolos/disk/disk_xml.h"
#include "property_table.h"

namespace aiolos::disk {
namespace {

enum class Place { attribute, text };

/// What XML 1.0 needs escaped, so that the value reads back the same: blanks other than a space would be normalised.
std::string_view escape_of(char c, Place place) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '\r':
      return "&#13;";
    case '\'':
      return place == Place::attribute ? "&apos;" : "";
    case '\n':
      return place == Place::attribute ? "&#10;" : "";
    case '\t':
      return place == Place::attribute ? "&#9;" : "";
    default:
      return {};
  }
}

/// Characters that `escape_of` may have an answer for; everything else is copied in runs.
constexpr auto kMaySpecial = [] {
  std::array<bool, 256> special{};
  for (const char c : {'&', '<', '>', '\r', '\'', '\n', '\t'}) special[static_cast<unsigned char>(c)] = true;
  return special;
}();

/// Where the text is gathered; appending to it is what most of the work is.
class Buffer {
 public:
  void put(std::string_view text) {
    reserve(text.size());
    put_reserved(text);
  }
  /// Makes room for `size` bytes, which put_reserved then fills without looking.
  void reserve(std::size_t size) {
    if (static_cast<std::size_t>(end_ - at_) < size) grow(size);
  }
  void put_reserved(char c) { *at_++ = c; }
  void put_reserved(std::string_view text) {
    // Names and values are short, and a call for each would cost more than their bytes.
    constexpr std::size_t word = sizeof(std::uint64_t);
    if (text.size() >= word && text.size() <= 2 * word) {
      std::memcpy(at_, text.data(), word);
      std::memcpy(at_ + text.size() - word, text.data() + text.size() - word, word);
    } else if (text.size() < word) {
      for (std::size_t i = 0; i < text.size(); ++i) at_[i] = text[i];
    } else {
      std::memcpy(at_, text.data(), text.size());
    }
    at_ += text.size();
  }
  void put(char c) {
    if (at_ == end_) grow(1);
    *at_++ = c;
  }
  void put_blanks(std::size_t count) {
    if (static_cast<std::size_t>(end_ - at_) < count) grow(count);
    std::memset(at_, ' ', count);
    at_ += count;
  }
  std::size_t size() const { return static_cast<std::size_t>(at_ - begin_); }
  void shrink(std::size_t size) { at_ = begin_ + size; }
  std::string_view text() const { return {begin_, size()}; }

 private:
  void grow(std::size_t more) {
    const std::size_t used = size();
    auto larger = std::make_unique<char[]>(2 * (used + more));
    std::memcpy(larger.get(), begin_, used);
    heap_ = std::move(larger);
    begin_ = heap_.get();
    at_ = begin_ + used;
    end_ = begin_ + 2 * (used + more);
  }

  char first_[2048];  ///< Room for nearly every disk.
  std::unique_ptr<char[]> heap_;
  char* begin_ = first_;
  char* at_ = first_;
  char* end_ = first_ + sizeof first_;
};

/// Whether none of eight bytes may need an escape; they are letters, digits and dashes nearly always. Exact but for
/// what follows a byte that does need one.
bool is_plain_word(const char* bytes) {
  constexpr std::uint64_t ones = 0x0101010101010101U;
  constexpr std::uint64_t high_bits = 0x8080808080808080U;
  constexpr auto zero_bytes = [](std::uint64_t word) { return (word - ones) & ~word; };
  std::uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  const std::uint64_t control = (word - 0x20 * ones) & ~word;
  const std::uint64_t ampersand_or_quote = zero_bytes((word & ~ones) ^ 0x26 * ones);  // 0x26 and 0x27
  const std::uint64_t angle = zero_bytes((word & ~(2 * ones)) ^ 0x3C * ones);         // 0x3C and 0x3E
  return ((control | ampersand_or_quote | angle) & high_bits) == 0;
}

void put_escaped(Buffer& out, std::string_view value, Place place) {
  std::size_t run = 0;
  for (std::size_t i = 0; i < value.size(); ++i) {
    while (value.size() - i >= sizeof(std::uint64_t) && is_plain_word(value.data() + i)) i += sizeof(std::uint64_t);
    if (i == value.size()) break;
    if (!kMaySpecial[static_cast<unsigned char>(value[i])]) continue;
    const std::string_view escape = escape_of(value[i], place);
    if (escape.empty()) continue;
    out.put(value.substr(run, i - run));
    out.put(escape);
    run = i + 1;
  }
  out.put(value.substr(run));
}

bool is_child(ExtraItem::Kind kind) {
  return kind == ExtraItem::Kind::element || kind == ExtraItem::Kind::comment || kind == ExtraItem::Kind::text;
}

class Emitter {
 public:
  Emitter(Buffer& out, Indent indent) : out_(out), indent_(indent) {}

  /// Writes an element; one without any content is written only if it was marked present or `always` is set.
  void element(std::string_view name, const Table& table, const void* owner, int level, bool always) {
    const Extra& extra = table.extra_of(owner);
    const std::size_t start = out_.size();
    begin_line(level);
    out_.put('<');
    out_.put(name);
    const std::size_t bare = out_.size();
    const std::uint64_t present = table.present(owner);
    attributes(table, owner, extra, present);
    Body body{level, is_mixed(table, extra)};
    children(table, owner, extra, present, body);
    if (out_.size() == bare && !always && !extra.present()) {
      out_.shrink(start);
      return;
    }
    finish(name, body);
  }

 private:
  static constexpr int kInline = -1;  ///< The level inside mixed content, where added blanks would change the text.

  struct Body {
    int level;
    bool mixed;
    bool open = false;  ///< Whether the start tag has got its `>`.

    int child_level() const { return mixed || level == kInline ? kInline : level + 1; }
  };

  static bool is_mixed(const Table& table, const Extra& extra) {
    if (!extra.present()) return false;
    for (const ExtraItem& item : extra.items())
      if (item.kind == ExtraItem::Kind::text) return true;
    const bool has_content = table.rows.back().shape == Row::Shape::content;
    for (const ExtraItem& item : extra.items())
      if (has_content && is_child(item.kind)) return true;
    return false;
  }

  void begin_line(int level) {
    if (level > 0) out_.put_blanks(static_cast<std::size_t>(level * indent_.width));
  }

  void end_line(int level) {
    if (level != kInline && indent_.width > 0) out_.put('\n');
  }

  void open(Body& body) {
    if (body.open) return;
    body.open = true;
    out_.put('>');
    end_line(body.child_level());
  }

  void finish(std::string_view name, const Body& body) {
    if (!body.open) {
      out_.put("/>");
    } else {
      if (body.child_level() != kInline) begin_line(body.level);
      out_.put("</");
      out_.put(name);
      out_.put('>');
    }
    end_line(body.level);
  }

  void attribute(std::string_view name, std::string_view value) {
    begin_attribute(name, 0);
    put_escaped(out_, value, Place::attribute);
    out_.put('\'');
  }

  /// As above; words and numbers hold nothing that is escaped.
  void attribute(const Row& row, std::string_view value) {
    if (row.value == Row::Value::text) {
      attribute(row.name, value);
      return;
    }
    begin_attribute(row.name, value.size() + 1);
    out_.put_reserved(value);
    out_.put_reserved('\'');
  }

  /// @param more bytes to make room for behind the quote.
  void begin_attribute(std::string_view name, std::size_t more) {
    out_.reserve(name.size() + 3 + more);
    out_.put_reserved(' ');
    out_.put_reserved(name);
    out_.put_reserved('=');
    out_.put_reserved('\'');
  }

  /// The verbatim form that stands for a scalar: its own spelling while its value is unchanged, or a value that the
  /// model cannot hold while no other is set.
  static const std::string* verbatim(const Extra& extra, std::size_t row, bool is_set, std::string_view value) {
    for (const ExtraItem& item : extra.items()) {
      if (item.row != static_cast<std::int16_t>(row)) continue;
      if (item.kind == ExtraItem::Kind::spelling && is_set && item.name == value) return &item.text;
      if (item.kind == ExtraItem::Kind::value && !is_set) return &item.text;
    }
    return nullptr;
  }

  static std::uint64_t attribute_rows(const Table& table) { return (std::uint64_t{1} << table.attributes) - 1; }

  void attributes(const Table& table, const void* owner, const Extra& extra, std::uint64_t present) {
    if (extra.present()) {
      attributes_and_extra(table, owner, extra);
      return;
    }
    for (std::uint64_t rows = present & attribute_rows(table); rows != 0; rows &= rows - 1) {
      const Row& row = table.rows[static_cast<std::size_t>(std::countr_zero(rows))];
      std::string_view value;
      row.get(owner, scratch_, value);
      attribute(row, value);
    }
  }

  void attributes_and_extra(const Table& table, const void* owner, const Extra& extra) {
    extra_attributes(extra, ExtraItem::kAtStart);
    for (std::size_t i = 0; i < table.attributes; ++i) {
      std::string_view value;
      const bool is_set = table.rows[i].get(owner, scratch_, value);
      if (const std::string* kept = verbatim(extra, i, is_set, value))
        attribute(table.rows[i].name, *kept);
      else if (is_set)
        attribute(table.rows[i].name, value);
      extra_attributes(extra, static_cast<std::int16_t>(i));
    }
  }

  void extra_attributes(const Extra& extra, std::int16_t row) {
    for (const ExtraItem& item : extra.items())
      if (item.kind == ExtraItem::Kind::attribute && item.row == row) attribute(item.name, item.text);
  }

  void children(const Table& table, const void* owner, const Extra& extra, std::uint64_t present, Body& body) {
    if (extra.present()) {
      extra_children(extra, ExtraItem::kAtStart, 0, false, body);
      present = ~std::uint64_t{0} >> (64 - table.rows.size());  // What is not set may have a kept value, or neighbours.
    }
    for (std::uint64_t rows = present & ~attribute_rows(table); rows != 0; rows &= rows - 1) {
      const auto i = static_cast<std::size_t>(std::countr_zero(rows));
      const Row& row = table.rows[i];
      if (row.shape == Row::Shape::element)
        elements(row, i, owner, extra, body);
      else
        scalar(row, i, owner, extra, body);
    }
  }

  /// Whether an element that every disk's struct has would be empty, and so is not written.
  static bool is_unset(const Row& row, const void* element) {
    const Table& table = row.table();
    return !row.optional && table.present(element) == 0 && !table.extra_of(element).present();
  }

  void elements(const Row& row, std::size_t index, const void* owner, const Extra& extra, Body& body) {
    const std::size_t count = row.count(owner);
    if (count == 1 && !extra.present() && is_unset(row, row.at(owner, 0))) return;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t before = out_.size();
      const bool was_open = body.open;
      open(body);
      const std::size_t inner = out_.size();
      element(row.name, row.table(), row.at(owner, i), body.child_level(), row.optional);
      if (out_.size() == inner) {
        out_.shrink(before);
        body.open = was_open;
      }
      if (extra.present()) extra_children(extra, static_cast<std::int16_t>(index), i, i + 1 >= count, body);
    }
    if (count == 0 && extra.present()) extra_children(extra, static_cast<std::int16_t>(index), 0, true, body);
  }

  void scalar(const Row& row, std::size_t index, const void* owner, const Extra& extra, Body& body) {
    std::string_view value;
    const bool is_set = row.get(owner, scratch_, value);
    const std::string* kept = extra.present() ? verbatim(extra, index, is_set, value) : nullptr;
    if (row.shape == Row::Shape::content) {
      if (kept || (is_set && !value.empty())) content(kept, value, body);
    } else if (kept) {
      line(*kept, body);
    } else if (is_set) {
      text_element(row, value, body);
    }
    if (extra.present()) extra_children(extra, static_cast<std::int16_t>(index), 0, true, body);
  }

  void content(const std::string* kept, std::string_view value, Body& body) {
    body.mixed = true;
    open(body);
    if (kept)
      out_.put(*kept);
    else
      put_escaped(out_, value, Place::text);
  }

  void text_element(const Row& row, std::string_view value, Body& body) {
    open(body);
    begin_line(body.child_level());
    out_.put('<');
    out_.put(row.name);
    if (value.empty()) {
      out_.put("/>");
    } else {
      out_.put('>');
      put_escaped(out_, value, Place::text);
      out_.put("</");
      out_.put(row.name);
      out_.put('>');
    }
    end_line(body.child_level());
  }

  void line(std::string_view xml, Body& body) {
    open(body);
    begin_line(body.child_level());
    out_.put(xml);
    end_line(body.child_level());
  }

  /// The unknown children that stand after occurrence `i` of a row; after the last one also those of later ones.
  void extra_children(const Extra& extra, std::int16_t row, std::size_t i, bool last, Body& body) {
    for (const ExtraItem& item : extra.items()) {
      if (!is_child(item.kind) || item.row != row) continue;
      if (item.occurrence == i || (last && item.occurrence > i)) line(item.text, body);
    }
  }

  Buffer& out_;
  const Indent indent_;
  char scratch_[kScratchSize];
};

}  // namespace

void emit_to(std::string& out, const DiskConfig& disk, Indent indent) {
  Buffer buffer;
  Emitter(buffer, indent).element("disk", disk_table(), &disk, indent.level, true);
  if (!indent.final_newline && indent.width > 0) buffer.shrink(buffer.size() - 1);
  out += buffer.text();
}

std::string emit(const DiskConfig& disk, Indent indent) {
  std::string out;
  emit_to(out, disk, indent);
  return out;
}

}  // namespace aiolos::disk
