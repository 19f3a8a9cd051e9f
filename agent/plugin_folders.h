// SPDX-License-Identifier: Apache-2.0
// Where the plugins are.
#pragma once

#include <filesystem>
#include <vector>

#include "aiolos/agent/config.h"

namespace aiolos {

/// The folders of the configuration; without any, the folder `aiolos/plugins` beside this library: that of the build
/// tree in a build tree, that of the installation once installed.
std::vector<std::filesystem::path> plugin_folders(const Config& config);

}  // namespace aiolos
