// SPDX-License-Identifier: Apache-2.0
// Round trips of disks that chance has built, by walking the property table; and of text that chance has damaged.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "aiolos/disk/disk_xml.h"
#include "fixture_folder.h"
#include "property_table.h"

namespace aiolos::disk {
namespace {

class Dice {
 public:
  explicit Dice(unsigned seed) : engine_(seed) {}

  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(engine_); }
  bool one_in(std::size_t n) { return below(n) == 0; }

  std::string text() {
    static constexpr std::string_view pieces[] = {"a", "Z",  "7",  "/",  " ",  "&", "<", ">",
                                                  "'", "\"", "\n", "\t", "\r", "é", "😀", "]]>"};
    // A text of blanks only cannot be told from layout where it stands beside other things.
    std::string out = "x";
    for (std::size_t i = below(8); i > 0; --i) out += pieces[below(std::size(pieces))];
    return one_in(8) ? std::string() : out;
  }

  std::string number() {
    const std::uint64_t value = std::uniform_int_distribution<std::uint64_t>()(engine_);
    return std::to_string(value >> below(64));
  }

 private:
  std::mt19937 engine_;
};

void set_something(const Row& row, void* owner, Dice& dice) {
  switch (row.value) {
    case Row::Value::word:
      row.set(owner, row.words()[dice.below(row.words().size())]);
      break;
    case Row::Value::number:
      row.set(owner, dice.number());
      break;
    case Row::Value::text: {
      const std::string text = dice.text();
      // An element without text and one with an empty text are the same XML.
      if (row.shape != Row::Shape::content || !text.empty()) row.set(owner, text);
      break;
    }
    case Row::Value::none:
      row.set(owner, "");
      break;
  }
}

void fill(const Table& table, void* owner, Dice& dice, int depth) {
  for (const Row& row : table.rows) {
    if (!dice.one_in(3)) continue;
    if (row.shape != Row::Shape::element) {
      set_something(row, owner, dice);
    } else if (depth < 6) {
      const std::size_t count = row.repeats ? dice.below(4) : 1;
      for (std::size_t i = 0; i < count; ++i) fill(row.table(), row.add(owner), dice, depth + 1);
    }
  }
  if (dice.one_in(6)) {
    const auto any_row = static_cast<std::int16_t>(dice.below(table.rows.size() + 1)) - 1;
    const bool attribute = dice.one_in(2) && any_row < static_cast<int>(table.attributes);
    const bool child = table.rows.size() > table.attributes && any_row >= static_cast<int>(table.attributes);
    if (attribute)
      table.extra(owner).add(
          {ExtraItem::Kind::attribute, static_cast<std::int16_t>(any_row), 0, "unknown", dice.text()});
    else if (child)
      table.extra(owner).add(
          {ExtraItem::Kind::element, static_cast<std::int16_t>(any_row), 0, "odd", "<odd a='1'>\n  <b/>t</odd>"});
  }
}

std::string report(const std::vector<Difference>& differences) {
  std::string out;
  for (const Difference& difference : differences) out += describe(difference) + '\n';
  return out;
}

TEST(Random, DisksSurviveTheRoundTrip) {
  for (unsigned seed = 1; seed <= 2000; ++seed) {
    Dice dice(seed);
    DiskConfig disk;
    fill(disk_table(), &disk, dice, 0);
    const std::string xml = emit(disk, {.width = static_cast<int>(dice.below(3))});
    const auto parsed = parse(xml);
    ASSERT_TRUE(parsed) << "seed " << seed << ": " << describe(parsed.error()) << '\n' << xml;
    ASSERT_EQ(report(compare(disk, parsed->disk)), "") << "seed " << seed << '\n' << xml;
    const std::string again = emit(parsed->disk);
    DiskConfig marked = disk;
    marked.extra.mark_present();
    ASSERT_EQ(emit(marked), emit(disk)) << "seed " << seed << ": the walk for disks with extras differs";
    const auto third = parse(again);
    ASSERT_TRUE(third) << "seed " << seed;
    ASSERT_EQ(emit(third->disk), again) << "seed " << seed;
    violations(disk);  // Must not crash on nonsense.
  }
}

TEST(Random, ACopyIsEqualAndIndependent) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    Dice dice(seed);
    DiskConfig disk;
    fill(disk_table(), &disk, dice, 0);
    const DiskConfig copy = disk;
    const std::string before = emit(copy);
    disk = DiskConfig{};
    ASSERT_EQ(emit(copy), before) << "seed " << seed;
  }
}

/// Damages a text: cuts, doubles, swaps in bytes that matter to XML.
std::string damage(std::string text, Dice& dice) {
  static constexpr char bytes[] = {'<', '>', '\'', '"', '&', '/', '=', ' ', '!', '?', '-', ']', '\0', '\xff', 'x'};
  for (std::size_t i = 1 + dice.below(4); i > 0 && !text.empty(); --i) {
    const std::size_t at = dice.below(text.size());
    if (dice.one_in(3))
      text.erase(at, 1 + dice.below(8));
    else if (dice.one_in(2))
      text.insert(at, text.substr(dice.below(text.size()), 1 + dice.below(20)));
    else
      text[at] = bytes[dice.below(std::size(bytes))];
  }
  return text;
}

TEST(Random, DamagedTextIsRefusedOrKeptWhole) {
  for (const Folder folder : {Folder::valid, Folder::newer, Folder::kept})
    for (const std::string& name : names_in(folder)) {
      const std::string golden = read_file(path_of(folder) / (name + ".xml"));
      for (unsigned seed = 1; seed <= 60; ++seed) {
        Dice dice(seed);
        const std::string text = damage(golden, dice);
        const auto parsed = parse(text);
        if (!parsed) {
          ASSERT_FALSE(parsed.error().next.empty());
          continue;
        }
        const std::string emitted = emit(parsed->disk);
        const auto again = parse(emitted);
        ASSERT_TRUE(again) << name << " seed " << seed << '\n' << text << '\n' << emitted;
        ASSERT_EQ(report(compare(parsed->disk, again->disk)), "") << name << " seed " << seed << '\n' << text;
      }
    }
}

}  // namespace
}  // namespace aiolos::disk
