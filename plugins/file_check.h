// SPDX-License-Identifier: Apache-2.0
// Whether a folder or file of plugins may be trusted and loaded, checked before the dynamic linker sees it.
#pragma once

#include <filesystem>

#include "aiolos/core/result.h"

namespace aiolos {

/// Checks a configured folder: absolute, a directory, owned by root or this process's user, not writable by group or
/// others; and that no folder above it lets everybody replace it (world-writable without the sticky bit).
/// @return the folder with symbolic links resolved. ErrorKind::configuration naming the path and what is wrong.
Result<std::filesystem::path> check_plugin_folder(const std::filesystem::path& folder);

/// Checks one plugin: resolves symbolic links, then by one open without following any more: a regular file, owned and
/// writable as above (also the folder that a link leads to), a shared object of this machine's ELF class and
/// architecture.
/// @return the path to give to dlopen. ErrorKind::configuration, `where` being `file` as it was found.
Result<std::filesystem::path> check_plugin_file(const std::filesystem::path& file);

}  // namespace aiolos
