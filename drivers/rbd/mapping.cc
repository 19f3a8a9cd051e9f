// SPDX-License-Identifier: Apache-2.0
#include "mapping.h"

#include <algorithm>
#include <fstream>
#include <string_view>
#include <system_error>

namespace aiolos::rbd {
namespace {

namespace fs = std::filesystem;

/// The first line of an attribute; empty if it is gone.
std::string attribute(const fs::path& file) {
  std::string line;
  std::getline(std::ifstream(file), line);
  return line;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = text.find(separator);
    if (end != 0) parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

}  // namespace

std::vector<Mapping> mappings(const fs::path& folder) {
  std::vector<Mapping> found;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, none)) {
    if (attribute(entry.path() / "current_snap") != "-" || !attribute(entry.path() / "pool_ns").empty()) continue;
    Mapping mapping;
    mapping.number = entry.path().filename();
    mapping.fsid = attribute(entry.path() / "cluster_fsid");
    mapping.pool = attribute(entry.path() / "pool");
    mapping.name = attribute(entry.path() / "name");
    // "MONITOR,.. OPTION,.. POOL IMAGE SNAPSHOT": what the kernel was told when it was mapped.
    const std::string told = attribute(entry.path() / "config_info");
    mapping.monitors = split(std::string_view(told).substr(0, told.find(' ')), ',');
    found.push_back(std::move(mapping));
  }
  return found;
}

std::optional<Mapping> mapping_of_number(const std::vector<Mapping>& all, const std::string& number) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Mapping& each) { return each.number == number; });
  return found == all.end() ? std::nullopt : std::optional(*found);
}

std::optional<Mapping> mapping_of_image(const std::vector<Mapping>& all, const Image& image,
                                        const std::vector<std::string>& monitors) {
  const auto is_it = [&](const Mapping& each) {
    return each.pool == image.pool && each.name == image.name &&
           (monitors.empty() || std::find_first_of(each.monitors.begin(), each.monitors.end(), monitors.begin(),
                                                   monitors.end()) != each.monitors.end());
  };
  const auto found = std::find_if(all.begin(), all.end(), is_it);
  return found == all.end() ? std::nullopt : std::optional(*found);
}

}  // namespace aiolos::rbd
