// SPDX-License-Identifier: Apache-2.0
// What images the kernel has mapped to block devices, as sysfs says. Source: Linux,
// Documentation/ABI/testing/sysfs-bus-rbd.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "image.h"

namespace aiolos::rbd {

/// The images that are mapped, a folder each, named by the number of its device.
constexpr const char* kMappings = "/sys/bus/rbd/devices";

struct Mapping {
  std::string number;  ///< "0" of /dev/rbd0.
  std::string fsid;    ///< Of the cluster.
  std::string pool;
  std::string name;
  std::vector<std::string> monitors;  ///< As they were given to the kernel: "192.0.2.1:6789".

  std::string device() const { return "/dev/rbd" + number; }
  /// Which image it is, whatever its number: "fsid/pool/name".
  std::string identity() const { return fsid + "/" + pool + "/" + name; }
};

/// What is mapped, snapshots and namespaces of a pool aside: no volume is one.
/// @param folder kMappings, or what stands in for it. Absent: nothing is mapped.
std::vector<Mapping> mappings(const std::filesystem::path& folder);

/// The mapping with this number; nullopt if there is none.
std::optional<Mapping> mapping_of_number(const std::vector<Mapping>& all, const std::string& number);

/// The mapping of this image. Pools and images of two clusters can have the same names, so one of the
/// monitors has to be the same.
/// @param monitors addresses as the kernel has them; none: they are not known, and any will do.
std::optional<Mapping> mapping_of_image(const std::vector<Mapping>& all, const Image& image,
                                        const std::vector<std::string>& monitors);

}  // namespace aiolos::rbd
