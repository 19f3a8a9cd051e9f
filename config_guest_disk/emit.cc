// SPDX-License-Identifier: Apache-2.0
// Writes a disk as XML, straight into a string, in the order of the property table.
#include "aiolos/core/json_document.h"
#include "plain_emit.h"
#include "property_table.h"

namespace aiolos::disk {
namespace {

bool is_child(ExtraItem::Kind kind) {
  return kind == ExtraItem::Kind::element || kind == ExtraItem::Kind::comment || kind == ExtraItem::Kind::text;
}

/// An element that has something in it that the model does not know: every row is looked at, for what stands beside it.
class ElementWithExtra {
 public:
  ElementWithExtra(XmlWriter& out, const Table& table, const void* owner, int level)
      : out_(out), table_(table), owner_(owner), extra_(table.extra_of(owner)), level_(level), mixed_(is_mixed()) {}

  void write(std::string_view name) {
    out_.begin_line(level_);
    out_.begin_tag(name);
    attributes();
    children();
    if (!open_) {
      out_.close_empty_tag();
    } else {
      if (child_level() != XmlWriter::kInline) out_.begin_line(level_);
      out_.end_tag(name);
    }
    out_.end_line(level_);
  }

 private:
  bool is_mixed() const {
    for (const ExtraItem& item : extra_.items())
      if (item.kind == ExtraItem::Kind::text) return true;
    if (table_.rows.back().shape != Row::Shape::content) return false;
    for (const ExtraItem& item : extra_.items())
      if (is_child(item.kind)) return true;
    return false;
  }

  int child_level() const { return mixed_ || level_ == XmlWriter::kInline ? XmlWriter::kInline : level_ + 1; }

  void open() {
    if (open_) return;
    open_ = true;
    out_.close_tag();
    out_.end_line(child_level());
  }

  /// The verbatim form that stands for a scalar: its own spelling while its value is unchanged, or a value that the
  /// model cannot hold while no other is set.
  const std::string* verbatim(std::size_t row, bool is_set, std::string_view value) const {
    for (const ExtraItem& item : extra_.items()) {
      if (item.row != static_cast<std::int16_t>(row)) continue;
      if (item.kind == ExtraItem::Kind::spelling && is_set && item.name == value) return &item.text;
      if (item.kind == ExtraItem::Kind::value && !is_set) return &item.text;
    }
    return nullptr;
  }

  void attributes() {
    extra_attributes(ExtraItem::kAtStart);
    for (std::size_t i = 0; i < table_.attributes; ++i) {
      std::string_view value;
      const bool is_set = table_.rows[i].get(owner_, scratch_, value);
      if (const std::string* kept = verbatim(i, is_set, value))
        out_.attribute(table_.rows[i].name, *kept);
      else if (is_set)
        out_.attribute(table_.rows[i].name, value);
      extra_attributes(static_cast<std::int16_t>(i));
    }
  }

  void extra_attributes(std::int16_t row) {
    for (const ExtraItem& item : extra_.items())
      if (item.kind == ExtraItem::Kind::attribute && item.row == row) out_.attribute(item.name, item.text);
  }

  void children() {
    extra_children(ExtraItem::kAtStart, 0, false);
    for (std::size_t i = table_.attributes; i < table_.rows.size(); ++i) {
      if (table_.rows[i].shape == Row::Shape::element)
        elements(i);
      else
        scalar(i);
    }
  }

  void elements(std::size_t index) {
    const Row& row = table_.rows[index];
    const std::size_t count = row.count(owner_);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t before = out_.size();
      const bool was_open = open_;
      open();
      const std::size_t inner = out_.size();
      row.table().emit(out_, row.name, row.at(owner_, i), child_level(), row.optional);
      if (out_.size() == inner) {
        out_.shrink(before);
        open_ = was_open;
      }
      extra_children(static_cast<std::int16_t>(index), i, i + 1 >= count);
    }
    if (count == 0) extra_children(static_cast<std::int16_t>(index), 0, true);
  }

  void scalar(std::size_t index) {
    const Row& row = table_.rows[index];
    std::string_view value;
    const bool is_set = row.get(owner_, scratch_, value);
    const std::string* kept = verbatim(index, is_set, value);
    if (row.shape == Row::Shape::content) {
      if (kept || (is_set && !value.empty())) content(kept, value);
    } else if (kept) {
      line(*kept);
    } else if (is_set) {
      open();
      out_.begin_line(child_level());
      out_.text_element(row.name, value);
      out_.end_line(child_level());
    }
    extra_children(static_cast<std::int16_t>(index), 0, true);
  }

  void content(const std::string* kept, std::string_view value) {
    mixed_ = true;
    open();
    if (kept)
      out_.verbatim(*kept);
    else
      out_.escaped_text(value);
  }

  void line(std::string_view xml) {
    open();
    out_.begin_line(child_level());
    out_.verbatim(xml);
    out_.end_line(child_level());
  }

  /// The unknown children that stand after occurrence `i` of a row; after the last one also those of later ones.
  void extra_children(std::int16_t row, std::size_t i, bool last) {
    for (const ExtraItem& item : extra_.items()) {
      if (!is_child(item.kind) || item.row != row) continue;
      if (item.occurrence == i || (last && item.occurrence > i)) line(item.text);
    }
  }

  XmlWriter& out_;
  const Table& table_;
  const void* const owner_;
  const Extra& extra_;
  const int level_;
  bool mixed_;         ///< Whether blanks added to it would change its text.
  bool open_ = false;  ///< Whether the start tag has got its `>`.
  char scratch_[kScratchSize];
};

void write_disk(XmlWriter& out, const DiskConfig& disk, Indent indent) {
  disk_table().emit(out, "disk", &disk, indent.level, true);
  if (!indent.final_newline) out.remove_final_newline();
}

/// What XML 1.0 needs escaped, so that the value reads back the same: blanks other than a space would be normalised.
std::string_view xml_escape(char c, bool in_attribute) {
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
      return in_attribute ? "&apos;" : "";
    case '\n':
      return in_attribute ? "&#10;" : "";
    case '\t':
      return in_attribute ? "&#9;" : "";
    default:
      return {};
  }
}

}  // namespace

void emit_with_extra(XmlWriter& out, std::string_view name, const Table& table, const void* owner, int level) {
  ElementWithExtra(out, table, owner, level).write(name);
}

void XmlWriter::grow(std::size_t more) {
  const std::size_t used = size();
  const std::size_t capacity = 2 * (used + more);
  auto larger = std::make_unique_for_overwrite<char[]>(capacity);
  std::memcpy(larger.get(), begin_, used);
  heap_ = std::move(larger);
  begin_ = heap_.get();
  at_ = begin_ + used;
  end_ = begin_ + capacity;
}

void XmlWriter::escape(std::string_view value, Place place) {
  for (const char& c : value) {
    if (const std::string_view escape = xml_escape(c, place == Place::attribute); !escape.empty()) {
      put(escape);
      continue;
    }
    if (c < 0x20 || c == 0x7f) needs_json_escapes_ = true;
    if (json_ && (c == '"' || c == '\\')) put("\\");
    put(std::string_view(&c, 1));
  }
}

void emit_to(std::string& out, const DiskConfig& disk, Indent indent) {
  XmlWriter writer(XmlWriter::Form::xml, indent);
  write_disk(writer, disk, indent);
  out += writer.text();
}

std::string emit(const DiskConfig& disk, Indent indent) {
  std::string out;
  emit_to(out, disk, indent);
  return out;
}

void emit_json_to(std::string& out, const DiskConfig& disk, Indent indent) {
  XmlWriter writer(XmlWriter::Form::json, indent);
  write_disk(writer, disk, indent);
  if (writer.needs_json_escapes()) return append_json_string(out, emit(disk, indent));
  out += '"';
  out += writer.text();
  out += '"';
}

}  // namespace aiolos::disk
