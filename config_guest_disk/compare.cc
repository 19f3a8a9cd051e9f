// SPDX-License-Identifier: Apache-2.0
// Compares two disks property by property, along the property table.
#include <algorithm>
#include <bit>

#include "aiolos/disk/disk_xml.h"
#include "property_table.h"

namespace aiolos::disk {
namespace {

bool is_unknown(ExtraItem::Kind kind) {
  return kind == ExtraItem::Kind::attribute || kind == ExtraItem::Kind::element || kind == ExtraItem::Kind::text;
}

/// Whether an element says anything: plain members are always there, and mean nothing until they do.
bool says_something(const Table& table, const void* owner) {
  if (table.extra_of(owner).present()) return true;
  for (std::uint64_t rows = table.present(owner); rows != 0; rows &= rows - 1) {
    const Row& row = table.rows[static_cast<std::size_t>(std::countr_zero(rows))];
    const bool plain_member = row.shape == Row::Shape::element && !row.optional;
    if (!plain_member || says_something(row.table(), row.at(owner, 0))) return true;
  }
  return false;
}

class Comparison {
 public:
  explicit Comparison(std::vector<Difference>& differences) : differences_(differences) {}

  /// Compares two elements of one table; either may be null for one that is not there.
  void elements(const Table& table, const void* left, const void* right, const std::string& path) {
    const std::size_t before = differences_.size();
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
      if (table.rows[i].shape == Row::Shape::element)
        children(table.rows[i], left, right, path);
      else
        scalars(table, i, left, right, path);
    }
    extras(table, left, right, path);
    const bool only_one_there = (left == nullptr) != (right == nullptr);
    if (only_one_there && differences_.size() == before) differ(path, presence(left), presence(right));
  }

 private:
  using Value = std::optional<std::string>;

  static Value presence(const void* element) { return element ? Value("") : std::nullopt; }

  void differ(std::string path, Value left, Value right) {
    differences_.push_back({std::move(path), std::move(left), std::move(right)});
  }

  void children(const Row& row, const void* left, const void* right, const std::string& path) {
    const std::size_t count = std::max(count_of(row, left), count_of(row, right));
    for (std::size_t i = 0; i < count; ++i) {
      std::string inner = path + '/' + std::string(row.name);
      if (row.repeats) inner += '[' + std::to_string(i + 1) + ']';
      const void* left_child = child_of(row, left, i);
      const void* right_child = child_of(row, right, i);
      if (left_child || right_child) elements(row.table(), left_child, right_child, inner);
    }
  }

  static std::size_t count_of(const Row& row, const void* owner) { return owner ? row.count(owner) : 0; }

  static const void* child_of(const Row& row, const void* owner, std::size_t i) {
    if (i >= count_of(row, owner)) return nullptr;
    const void* child = row.at(owner, i);
    return row.optional || says_something(row.table(), child) ? child : nullptr;
  }

  void scalars(const Table& table, std::size_t i, const void* left, const void* right, const std::string& path) {
    const Row& row = table.rows[i];
    Value left_value = value_of(table, i, left);
    Value right_value = value_of(table, i, right);
    if (left_value == right_value) return;
    std::string where = path;
    if (row.shape != Row::Shape::content)
      where.append(row.shape == Row::Shape::attribute ? "/@" : "/").append(row.name);
    differ(std::move(where), std::move(left_value), std::move(right_value));
  }

  /// The value, or what stands there that the model cannot hold.
  static Value value_of(const Table& table, std::size_t i, const void* owner) {
    if (!owner) return std::nullopt;
    char scratch[kScratchSize];
    std::string_view value;
    if (table.rows[i].get(owner, scratch, value)) return std::string(value);
    for (const ExtraItem& item : table.extra_of(owner).items())
      if (item.kind == ExtraItem::Kind::value && item.row == static_cast<std::int16_t>(i)) return item.text;
    return std::nullopt;
  }

  void extras(const Table& table, const void* left, const void* right, const std::string& path) {
    std::vector<const ExtraItem*> unmatched;
    if (right)
      for (const ExtraItem& item : table.extra_of(right).items())
        if (is_unknown(item.kind)) unmatched.push_back(&item);
    if (left)
      for (const ExtraItem& item : table.extra_of(left).items())
        if (is_unknown(item.kind) && !match(item, unmatched)) differ(path_of(item, path), item.text, std::nullopt);
    for (const ExtraItem* item : unmatched) differ(path_of(*item, path), std::nullopt, item->text);
  }

  static bool match(const ExtraItem& item, std::vector<const ExtraItem*>& candidates) {
    const auto same = [&item](const ExtraItem* other) {
      return other->kind == item.kind && other->name == item.name && other->text == item.text;
    };
    const auto found = std::find_if(candidates.begin(), candidates.end(), same);
    if (found == candidates.end()) return false;
    candidates.erase(found);
    return true;
  }

  static std::string path_of(const ExtraItem& item, const std::string& path) {
    if (item.kind == ExtraItem::Kind::text) return path;
    return path + (item.kind == ExtraItem::Kind::attribute ? "/@" : "/") + item.name;
  }

  std::vector<Difference>& differences_;
};

}  // namespace

std::vector<Difference> compare(const DiskConfig& left, const DiskConfig& right) {
  std::vector<Difference> differences;
  Comparison(differences).elements(disk_table(), &left, &right, "disk");
  return differences;
}

std::string describe(const Difference& difference) {
  const auto quoted = [](const std::optional<std::string>& value) {
    return value ? '\'' + *value + '\'' : std::string("(not set)");
  };
  return difference.path + ": " + quoted(difference.left) + " and " + quoted(difference.right);
}

}  // namespace aiolos::disk
