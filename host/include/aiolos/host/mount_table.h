// SPDX-License-Identifier: Apache-2.0
// The host's mount table, read from the kernel's text; no file system below a mount is ever touched.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/interfaces.h"

namespace aiolos {

/// One line of /proc/self/mountinfo, escapes undone. Source: proc(5).
struct MountEntry {
  int id = 0;
  int parent = 0;
  Mount mount;
};

/// All well-formed lines of a mountinfo text, in order. Pure.
std::vector<MountEntry> parse_mountinfo(std::string_view text);

/// The entry that a walk of the absolute `path` ends on, as the kernel would take it: from the root mount, component by
/// component, into whatever is mounted there. So a mount that hides another is honoured, whichever came first. Symbolic
/// links are not followed. Pure. @return nullptr if no entry holds it; otherwise one of `entries`.
const MountEntry* mount_holding(const std::vector<MountEntry>& entries, std::string_view path);

/// @param mountinfo the file to read at each call; tests name a fixture.
std::unique_ptr<MountTable> make_mount_table(std::string mountinfo = "/proc/self/mountinfo");

}  // namespace aiolos
