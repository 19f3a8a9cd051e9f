// SPDX-License-Identifier: Apache-2.0
// Emitting a struct that holds only what the model knows, as nearly all do: its table is walked by the compiler, so that
// the hundred properties that a disk has not cost a test each. What has extras is emitted by emit.cc's walk.
#pragma once

#include <utility>

#include "property_row.h"
#include "xml_writer.h"

namespace aiolos::disk {

/// The walk for elements with something in them that the model does not know. See emit.cc.
void emit_with_extra(XmlWriter& out, std::string_view name, const Table& table, const void* owner, int level);

/// One element, row by row.
template <typename T>
class PlainElement {
 public:
  /// Writes the element; one without any content is written only if `always` is set.
  static void emit(XmlWriter& out, std::string_view name, const void* owner, int level, bool always) {
    if (static_cast<const T*>(owner)->extra.present())
      return emit_with_extra(out, name, table_of<T>(), owner, level);
    PlainElement(out, owner, level).write(name, always);
  }

 private:
  PlainElement(XmlWriter& out, const void* owner, int level) : out_(out), owner_(owner), level_(level) {}

  static constexpr std::size_t kRows = std::size(Properties<T>::rows);

  void write(std::string_view name, bool always) {
    const std::size_t start = out_.size();
    out_.begin_line(level_);
    out_.begin_tag(name);
    const std::size_t bare = out_.size();
    [this]<std::size_t... i>(std::index_sequence<i...>) { (row<i>(), ...); }(std::make_index_sequence<kRows>{});
    if (out_.size() == bare && !always) return out_.shrink(start);
    if (!open_) {
      out_.close_empty_tag();
    } else {
      if (!mixed_) out_.begin_line(level_);
      out_.end_tag(name);
    }
    out_.end_line(level_);
  }

  template <std::size_t i>
  void row() {
    constexpr const Row& row = Properties<T>::rows[i];
    if constexpr (row.shape == Row::Shape::element)
      elements<i>();
    else
      scalar<i>();
  }

  template <std::size_t i>
  void scalar() {
    constexpr const Row& row = Properties<T>::rows[i];
    constexpr auto get = row.get;
    char scratch[kScratchSize];
    std::string_view value;
    if (!get(owner_, scratch, value)) return;
    if constexpr (row.shape == Row::Shape::attribute) {
      if constexpr (row.value == Row::Value::text)
        out_.attribute(row.name, value);
      else
        out_.plain_attribute(row.name, value);
    } else if constexpr (row.shape == Row::Shape::content) {
      if (value.empty()) return;
      mixed_ = true;
      open();
      out_.escaped_text(value);
    } else {
      open();
      out_.begin_line(child_level());
      out_.text_element(row.name, value);
      out_.end_line(child_level());
    }
  }

  template <std::size_t i>
  void elements() {
    constexpr const Row& row = Properties<T>::rows[i];
    constexpr auto has = row.has;
    if (!has(owner_)) return;
    constexpr auto count = row.count;
    constexpr auto at = row.at;
    constexpr auto table = row.table;
    const std::size_t elements = count(owner_);
    for (std::size_t j = 0; j < elements; ++j) {
      const std::size_t before = out_.size();
      const bool was_open = open_;
      open();
      const std::size_t inner = out_.size();
      table().emit(out_, row.name, at(owner_, j), child_level(), row.optional);
      if (out_.size() != inner) continue;
      out_.shrink(before);
      open_ = was_open;
    }
  }

  int child_level() const { return mixed_ || level_ == XmlWriter::kInline ? XmlWriter::kInline : level_ + 1; }

  void open() {
    if (open_) return;
    open_ = true;
    out_.close_tag();
    out_.end_line(child_level());
  }

  XmlWriter& out_;
  const void* const owner_;
  const int level_;
  bool open_ = false;   ///< Whether the start tag has got its `>`.
  bool mixed_ = false;  ///< Whether it has text of its own.
};

}  // namespace aiolos::disk
