// SPDX-License-Identifier: Apache-2.0
// The property table: each of its lines is exercised by a fixture, and each word of a closed vocabulary goes both ways.
#include "property_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "aiolos/disk/disk_xml.h"
#include "fixture_folder.h"

namespace aiolos::disk {
namespace {

using RowSet = std::set<const Row*>;

/// Every row reachable from `<disk>`, with the path that leads there first.
void collect(const Table& table, const std::string& path, std::vector<std::pair<const Row*, std::string>>& rows,
             std::set<const Table*>& visited) {
  if (!visited.insert(&table).second) return;
  for (const Row& row : table.rows) {
    const std::string inner = path + (row.shape == Row::Shape::attribute ? "/@" : "/") + std::string(row.name);
    rows.emplace_back(&row, inner);
    if (row.shape == Row::Shape::element) collect(row.table(), inner, rows, visited);
  }
}

std::vector<std::pair<const Row*, std::string>> all_rows() {
  std::vector<std::pair<const Row*, std::string>> rows;
  std::set<const Table*> visited;
  collect(disk_table(), "disk", rows, visited);
  return rows;
}

/// Adds the rows that are set in a struct and below it; whether there are any.
bool collect_set(const Table& table, const void* owner, RowSet& set) {
  const auto add = [&set](const Row& row) { return set.insert(&row), true; };
  bool any = false;
  for (const Row& row : table.rows) {
    if (row.shape == Row::Shape::element) {
      for (std::size_t i = 0; i < row.count(owner); ++i)
        if (collect_set(row.table(), row.at(owner, i), set) || row.optional) any = add(row);
    } else {
      char scratch[kScratchSize];
      std::string_view value;
      if (row.get(owner, scratch, value)) any = add(row);
    }
  }
  return any;
}

RowSet rows_set_by_fixtures() {
  RowSet set;
  for (const Folder folder : {Folder::valid, Folder::newer})
    for (const std::string& name : names_in(folder)) {
      const auto parsed = parse(read_file(path_of(folder) / (name + ".xml")));
      if (parsed) collect_set(disk_table(), &parsed->disk, set);
    }
  return set;
}

TEST(PropertyTable, HasAFixtureForEachProperty) {
  const RowSet exercised = rows_set_by_fixtures();
  for (const auto& [row, path] : all_rows())
    EXPECT_TRUE(exercised.count(row)) << path << " is declared, but no golden in fixtures/disk sets it";
}

TEST(PropertyTable, NamesNoPropertyTwiceInOneElement) {
  std::set<const Table*> tables{&disk_table()};
  for (const auto& [row, path] : all_rows())
    if (row->shape == Row::Shape::element) tables.insert(&row->table());
  for (const Table* table : tables) {
    std::set<std::pair<bool, std::string_view>> names;
    for (const Row& row : table->rows)
      EXPECT_TRUE(names.emplace(row.shape == Row::Shape::attribute, row.name).second) << row.name << " stands twice";
  }
}

/// Sets one row of a fresh disk, wherever it is, and gives the disk.
bool set_row(const Table& table, void* owner, const Row* wanted, std::string_view value, int depth = 0) {
  if (depth > 6) return false;
  for (const Row& row : table.rows)
    if (&row == wanted) return row.set(owner, value);
  for (const Row& row : table.rows) {
    if (row.shape != Row::Shape::element) continue;
    DiskConfig probe;  // Look first, so that no empty element is left on the way.
    std::set<const Table*> visited;
    std::vector<std::pair<const Row*, std::string>> below;
    collect(row.table(), "", below, visited);
    const bool leads_there =
        std::any_of(below.begin(), below.end(), [wanted](const auto& entry) { return entry.first == wanted; });
    if (leads_there) return set_row(row.table(), row.add(owner), wanted, value, depth + 1);
  }
  return false;
}

TEST(PropertyTable, EveryWordGoesOutAndComesBack) {
  for (const auto& [row, path] : all_rows()) {
    if (row->value != Row::Value::word) continue;
    for (const std::string_view word : row->words()) {
      DiskConfig disk;
      ASSERT_TRUE(set_row(disk_table(), &disk, row, word)) << path << '=' << word;
      const std::string xml = emit(disk);
      EXPECT_NE(xml.find('\'' + std::string(word) + '\''), std::string::npos) << path << '=' << word << " in " << xml;
      const auto parsed = parse(xml);
      ASSERT_TRUE(parsed) << describe(parsed.error());
      EXPECT_TRUE(parsed->unknown.empty()) << path << '=' << word;
      EXPECT_TRUE(compare(disk, parsed->disk).empty()) << path << '=' << word;
    }
  }
}

TEST(PropertyTable, RefusesAWordThatIsNone) {
  for (const auto& [row, path] : all_rows()) {
    if (row->value != Row::Value::word) continue;
    DiskConfig disk;
    EXPECT_FALSE(set_row(disk_table(), &disk, row, "nonesuch")) << path;
  }
}

TEST(PropertyTable, OnlyAWrittenPropertyIsSet) {
  RowSet set;
  const DiskConfig disk;
  collect_set(disk_table(), &disk, set);
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(emit(disk), "<disk/>\n");
}

TEST(Numbers, AreReadAsLibvirtReadsThem) {
  constexpr NumberFormat pci{.hex_digits = 4, .base = 0};
  constexpr NumberFormat bare_hex{.hex_digits = 8, .base = 16};
  EXPECT_EQ(parse_number("10", kDecimal), 10U);
  EXPECT_EQ(parse_number(" 010\n", kDecimal), 10U);
  EXPECT_EQ(parse_number("0x10", kDecimal), std::nullopt);
  EXPECT_EQ(parse_number("0x1F", pci), 31U);
  EXPECT_EQ(parse_number("010", pci), 8U);
  EXPECT_EQ(parse_number("09", pci), std::nullopt);
  EXPECT_EQ(parse_number("1f", bare_hex), 31U);
  EXPECT_EQ(parse_number("0x1f", bare_hex), 31U);
  EXPECT_EQ(parse_number("18446744073709551615", kDecimal), UINT64_MAX);
  for (const char* bad : {"", " ", "-1", "+1", "1 2", "18446744073709551616", "1.5", "0x"})
    EXPECT_EQ(parse_number(bad, kDecimal), std::nullopt) << bad;
}

TEST(Numbers, AreWrittenAsLibvirtWritesThem) {
  char scratch[kScratchSize];
  EXPECT_EQ(format_number(0, kDecimal, scratch), "0");
  EXPECT_EQ(format_number(UINT64_MAX, kDecimal, scratch), "18446744073709551615");
  EXPECT_EQ(format_number(0xa, {.hex_digits = 4}, scratch), "0x000a");
  EXPECT_EQ(format_number(0x12345, {.hex_digits = 2}, scratch), "0x12345");
  EXPECT_EQ(format_number(UINT64_MAX, {.hex_digits = 8}, scratch), "0xffffffffffffffff");
}

}  // namespace
}  // namespace aiolos::disk
