// SPDX-License-Identifier: Apache-2.0
// Each golden disk: parse, emit, parse again, compare; nothing in the folder is orphaned or stands twice.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "aiolos/core/json.h"
#include "aiolos/disk/disk_xml.h"
#include "fixture_folder.h"

namespace aiolos::disk {
namespace {

namespace fs = std::filesystem;

struct Golden {
  Folder folder;
  std::string name;

  fs::path file(const std::string& suffix) const { return path_of(folder) / (name + suffix); }
};

void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.file(".xml"); }

std::vector<Golden> goldens_of(std::initializer_list<Folder> folders) {
  std::vector<Golden> all;
  for (const Folder folder : folders)
    for (const std::string& name : names_in(folder)) all.push_back({folder, name});
  return all;
}

std::vector<Golden> goldens() { return goldens_of({Folder::valid, Folder::newer, Folder::kept}); }

std::vector<Golden> goldens_with(const std::string& suffix) {
  std::vector<Golden> some = goldens();
  std::erase_if(some, [&suffix](const Golden& golden) { return !fs::exists(golden.file(suffix)); });
  return some;
}

std::string test_name(const std::string& name) {
  std::string out = name;
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

std::string golden_name(const testing::TestParamInfo<Golden>& info) {
  switch (info.param.folder) {
    case Folder::newer:
      return "newer_" + test_name(info.param.name);
    case Folder::kept:
      return "kept_" + test_name(info.param.name);
    default:
      return test_name(info.param.name);
  }
}

std::string report(const Parsed& parsed) {
  std::string out;
  for (const Unknown& unknown : parsed.unknown) out += describe(unknown) + '\n';
  return out;
}

std::string report(const std::vector<Difference>& differences) {
  std::string out;
  for (const Difference& difference : differences) out += describe(difference) + '\n';
  return out;
}

class GoldenDisk : public testing::TestWithParam<Golden> {};

TEST_P(GoldenDisk, SurvivesTheRoundTripByteForByte) {
  const auto first = parse(read_file(GetParam().file(".xml")));
  ASSERT_TRUE(first) << describe(first.error());
  const std::string emitted = emit(first->disk);
  expect_golden(GetParam().file(".xml"), emitted);
  const auto second = parse(emitted);
  ASSERT_TRUE(second) << describe(second.error());
  EXPECT_EQ(report(compare(first->disk, second->disk)), "");
  EXPECT_EQ(emit(second->disk), emitted);
  std::string json;
  emit_json_to(json, first->disk);
  EXPECT_EQ(json, Json(emitted).dump());
}

TEST_P(GoldenDisk, SurvivesOnOneLineToo) {
  const auto first = parse(read_file(GetParam().file(".xml")));
  ASSERT_TRUE(first) << describe(first.error());
  const auto second = parse(emit(first->disk, {.width = 0}));
  ASSERT_TRUE(second) << describe(second.error());
  EXPECT_EQ(report(compare(first->disk, second->disk)), "");
  EXPECT_EQ(emit(second->disk), emit(first->disk));
}

TEST_P(GoldenDisk, IsKnownThroughoutOrReported) {
  const auto parsed = parse(read_file(GetParam().file(".xml")));
  ASSERT_TRUE(parsed);
  if (GetParam().folder == Folder::kept)
    expect_golden(GetParam().file(".unknown"), report(*parsed));
  else
    EXPECT_EQ(report(*parsed), "");
}

INSTANTIATE_TEST_SUITE_P(Fixtures, GoldenDisk, testing::ValuesIn(goldens()), golden_name);

class RespelledDisk : public testing::TestWithParam<Golden> {};

TEST_P(RespelledDisk, MeansTheSameAndBecomesCanonical) {
  const auto golden = parse(read_file(GetParam().file(".xml")));
  const auto input = parse(read_file(GetParam().file(".in.xml")));
  ASSERT_TRUE(input) << describe(input.error());
  EXPECT_EQ(report(compare(golden->disk, input->disk)), "");
  EXPECT_EQ(emit(input->disk), read_file(GetParam().file(".xml")));
}

INSTANTIATE_TEST_SUITE_P(Fixtures, RespelledDisk, testing::ValuesIn(goldens_with(".in.xml")), golden_name);

class SoundDisk : public testing::TestWithParam<Golden> {};

TEST_P(SoundDisk, BreaksNoRule) {
  const auto parsed = parse(read_file(GetParam().file(".xml")));
  ASSERT_TRUE(parsed);
  const auto valid = validate(parsed->disk);
  EXPECT_TRUE(valid) << describe(valid.error());
}

INSTANTIATE_TEST_SUITE_P(Fixtures, SoundDisk, testing::ValuesIn(goldens_of({Folder::valid, Folder::newer})),
                         golden_name);

/// What refuses a document, parser or rules, in the words a user gets.
std::string refusal(const std::string& xml) {
  const auto parsed = parse(xml);
  if (!parsed) return describe(parsed.error()) + "\n  " + parsed.error().next + '\n';
  std::string out;
  for (const Violation& violation : violations(parsed->disk)) out += violation.message + "\n  " + violation.next + '\n';
  return out;
}

class InvalidDisk : public testing::TestWithParam<std::string> {};

TEST_P(InvalidDisk, IsRefusedInTheseWords) {
  const std::string said = refusal(read_file(path_of(Folder::invalid) / (GetParam() + ".invalid.xml")));
  ASSERT_NE(said, "") << "nothing is wrong with it";
  expect_golden(path_of(Folder::invalid) / (GetParam() + ".err"), said);
}

std::string invalid_name(const testing::TestParamInfo<std::string>& info) { return test_name(info.param); }

INSTANTIATE_TEST_SUITE_P(Fixtures, InvalidDisk, testing::ValuesIn(names_in(Folder::invalid, ".invalid.xml")),
                         invalid_name);

TEST(FixtureFolder, HoldsNothingThatNoTestReads) {
  for (const Folder folder : {Folder::valid, Folder::newer, Folder::kept, Folder::invalid}) {
    const auto names = names_in(folder, folder == Folder::invalid ? ".invalid.xml" : ".xml");
    std::set<std::string> known;
    if (folder == Folder::valid) known = {"native-exceptions.txt", "disk.rng"};
    for (const std::string& name : names) {
      const bool invalid = folder == Folder::invalid;
      known.insert(name + (invalid ? ".invalid.xml" : ".xml"));
      if (invalid) known.insert(name + ".err");
      if (folder == Folder::kept) known.insert(name + ".unknown");
      if (!invalid) known.insert(name + ".in.xml");
    }
    for (const std::string& file : files_in(folder))
      EXPECT_TRUE(known.count(file)) << path_of(folder) / file << " belongs to no fixture";
  }
  const std::set<fs::path> folders{path_of(Folder::newer), path_of(Folder::kept), path_of(Folder::invalid)};
  for (const auto& entry : fs::directory_iterator(path_of(Folder::valid)))
    EXPECT_TRUE(!entry.is_directory() || folders.count(entry.path())) << entry.path() << " is read by no test";
}

TEST(FixtureFolder, HoldsNoDiskTwice) {
  std::map<std::string, fs::path> seen;
  for (const Folder folder : {Folder::valid, Folder::newer, Folder::kept, Folder::invalid})
    for (const std::string& file : files_in(folder)) {
      if (!file.ends_with(".xml")) continue;
      const auto [other, is_new] = seen.emplace(read_file(path_of(folder) / file), path_of(folder) / file);
      EXPECT_TRUE(is_new) << path_of(folder) / file << " is the same as " << other->second;
    }
}

}  // namespace
}  // namespace aiolos::disk
