// SPDX-License-Identifier: Apache-2.0
// The goldens against libvirt's own schema: all of the folder pass, all of newer/ do not.
#include <gtest/gtest.h>
#include <libvirt/libvirt.h>

#include <cstdio>
#include <map>

#include "fixture_folder.h"

namespace aiolos::disk {
namespace {

constexpr const char* kSchema = "/usr/share/libvirt/schemas/domainoverrides.rng";

/// What xmllint says of each golden of a folder, in one run of it.
std::map<std::string, bool> validate_all(Folder folder) {
  std::string command = "cd '" + path_of(folder).string() + "' && timeout 60 xmllint --noout --relaxng '" +
                        (path_of(Folder::valid) / "disk.rng").string() + "'";
  for (const std::string& name : names_in(folder)) command += ' ' + name + ".xml";
  command += " 2>&1";
  std::map<std::string, bool> verdicts;
  FILE* pipe = popen(command.c_str(), "r");
  char line[4096];
  while (pipe && std::fgets(line, sizeof line, pipe)) {
    const std::string said = line;
    for (const auto& [ending, verdict] : {std::pair{".xml validates\n", true}, {".xml fails to validate\n", false}})
      if (said.ends_with(ending)) verdicts[said.substr(0, said.size() - std::string(ending).size())] = verdict;
  }
  if (pipe) pclose(pipe);
  return verdicts;
}

bool schema_is_missing() { return !std::filesystem::exists(kSchema); }

TEST(Schema, AcceptsEachGolden) {
  if (schema_is_missing()) GTEST_SKIP() << kSchema << " is not installed (Debian package libvirt0)";
  const auto verdicts = validate_all(Folder::valid);
  for (const std::string& name : names_in(Folder::valid)) {
    ASSERT_TRUE(verdicts.count(name)) << name << ": xmllint (Debian package libxml2-utils) says nothing of it";
    EXPECT_TRUE(verdicts.at(name)) << name << ".xml is not what libvirt's schema allows; is it one for newer/?";
  }
}

TEST(Schema, OfLibvirt9DoesNotKnowTheNewerGoldens) {
  unsigned long version = 0;
  virGetVersion(&version, nullptr, nullptr);
  if (schema_is_missing() || version / 1000000 > 9 || (version / 1000) % 1000 > 0)
    GTEST_SKIP() << "the schema installed is not that of libvirt 9.0";
  const auto verdicts = validate_all(Folder::newer);
  for (const std::string& name : names_in(Folder::newer)) {
    ASSERT_TRUE(verdicts.count(name)) << name << ": xmllint (Debian package libxml2-utils) says nothing of it";
    EXPECT_FALSE(verdicts.at(name)) << "newer/" << name << ".xml needs no newer libvirt; move it up";
  }
}

}  // namespace
}  // namespace aiolos::disk
