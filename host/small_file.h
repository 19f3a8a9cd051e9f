// SPDX-License-Identifier: Apache-2.0
// Small files read whole, and what went wrong with a path.
#pragma once

#include <optional>
#include <string>

#include "aiolos/core/result.h"

namespace aiolos {

/// A small file (sysfs, procfs, a pid file) without its trailing white space; nullopt if it can't be read.
/// Reads at most 1 MiB: the kernel's own tables are the largest that come here.
std::optional<std::string> read_small_file(const std::string& path);

/// An Error of kind storage: "cannot WHAT 'PATH': errno text", with advice that fits the errno.
Error storage_error(const std::string& what, const std::string& path, int error);

}  // namespace aiolos
