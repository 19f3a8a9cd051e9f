// SPDX-License-Identifier: Apache-2.0
// What follows where the configuration leaves it open.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "aiolos/agent/config.h"

namespace aiolos {

/// The folders of the configuration; without any, the folder `aiolos/plugins` beside this library: that of the build
/// tree in a build tree, that of the installation once installed.
std::vector<std::filesystem::path> plugin_folders(const Config& config);

/// The connection URI of the configuration; without one, libvirt's embedded driver below the state folder.
std::string hypervisor_uri(const Config& config);

}  // namespace aiolos
