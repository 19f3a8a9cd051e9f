// SPDX-License-Identifier: Apache-2.0
// The golden files of fixtures/disk; see the header.
#include "fixture_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>

namespace aiolos::disk {
namespace fs = std::filesystem;

fs::path path_of(Folder folder) {
  const fs::path root = AIOLOS_DISK_FIXTURES;
  switch (folder) {
    case Folder::valid:
      return root;
    case Folder::newer:
      return root / "newer";
    case Folder::kept:
      return root / "kept";
    case Folder::invalid:
      return root / "invalid";
  }
  return root;
}

std::vector<std::string> files_in(Folder folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(path_of(folder)))
    if (!entry.is_directory()) files.push_back(entry.path().filename());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> names_in(Folder folder, const std::string& suffix) {
  std::vector<std::string> names;
  for (const std::string& file : files_in(folder)) {
    if (!file.ends_with(suffix)) continue;
    const std::string name = file.substr(0, file.size() - suffix.size());
    if (name.find('.') == std::string::npos) names.push_back(name);
  }
  return names;
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path << " is missing";
  return {std::istreambuf_iterator<char>(in), {}};
}

void expect_golden(const fs::path& path, const std::string& actual) {
  const char* flag = std::getenv("AIOLOS_REWRITE_GOLDENS");
  const std::string_view rewrite = flag ? flag : "";
  const bool exists = fs::exists(path);
  if (rewrite == "new" || (rewrite == "1" && exists)) {
    std::ofstream(path, std::ios::binary) << actual;
    return;
  }
  ASSERT_TRUE(exists) << path << " is missing; AIOLOS_REWRITE_GOLDENS=new makes it. It would be:\n" << actual;
  EXPECT_EQ(read_file(path), actual) << path << " differs; AIOLOS_REWRITE_GOLDENS=1 rewrites it";
}

}  // namespace aiolos::disk
