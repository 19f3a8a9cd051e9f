// SPDX-License-Identifier: Apache-2.0
#include "defaults.h"

#include <dlfcn.h>

namespace aiolos {

std::vector<std::filesystem::path> plugin_folders(const Config& config) {
  if (!config.plugins.path.empty()) return {config.plugins.path.begin(), config.plugins.path.end()};
  Dl_info self{};
  if (!::dladdr(reinterpret_cast<const void*>(&plugin_folders), &self) || !self.dli_fname) return {};
  std::error_code error;
  const auto library = std::filesystem::canonical(self.dli_fname, error);
  if (error) return {};
  // Debian's multiarch puts libraries one folder deeper than lib/, where plugins are.
  const auto beside = library.parent_path() / "aiolos" / "plugins";
  const auto above = library.parent_path().parent_path() / "aiolos" / "plugins";
  return {std::filesystem::exists(beside, error) ? beside : above};
}

std::string hypervisor_uri(const Config& config) {
  return config.libvirt.uri.empty() ? "qemu:///embed?root=" + config.state.dir + "/libvirt" : config.libvirt.uri;
}

}  // namespace aiolos
