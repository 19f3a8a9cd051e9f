// SPDX-License-Identifier: Apache-2.0
// The golden files of fixtures/disk: what is there, and reading and rewriting it.
//
//   NAME.xml          a disk in canonical form, in the folders below
//   NAME.in.xml       the same disk as somebody else might write it
//   NAME.unknown      (kept/ only) what parsing NAME.xml reports
//   NAME.invalid.xml  (invalid/ only) what is refused, and NAME.err the words it is refused with
// The folder itself holds disks that libvirt 9.0's schema knows, newer/ those that need a later libvirt, kept/ those
// with content that the model does not know.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace aiolos::disk {

enum class Folder { valid, newer, kept, invalid };

std::filesystem::path path_of(Folder folder);

/// The names in a folder that have a file ending in `suffix`, sorted, without it. ".xml" leaves out the longer
/// suffixes.
std::vector<std::string> names_in(Folder folder, const std::string& suffix = ".xml");

/// Every file of a folder, names only, sorted.
std::vector<std::string> files_in(Folder folder);

/// The file's content; fails the test if there is none.
std::string read_file(const std::filesystem::path& path);

/// Expects `actual` to be the file's content. With AIOLOS_REWRITE_GOLDENS=1 in the environment it writes the file
/// instead, but never makes a new one unless AIOLOS_REWRITE_GOLDENS=new.
void expect_golden(const std::filesystem::path& path, const std::string& actual);

}  // namespace aiolos::disk
