// SPDX-License-Identifier: Apache-2.0
// Finding a volume's SCSI devices, and making this host look for them.
#pragma once

#include <vector>

#include "aiolos/plugin.hpp"
#include "routes.h"
#include "scsi/paths.h"

namespace aiolos::fibre_channel {

/// The volume's paths that have a SCSI device on this host, whatever state their target ports are in.
std::vector<scsi::Path> present_paths(const scsi::Sysfs& sysfs, const VolumeAddress& volume);

/// What connect is to find.
struct Search {
  bool all_paths = false;  ///< Every path that is open, for a multipath map; otherwise one that works is enough.
  int attempts = 1;        ///< How often to scan, two seconds apart.
};

/// The volume's paths that work, each with a disk: those that are there, and those that a scan of the volume's LUN
/// alone brings. Ports that are Blocked are waited for if there is no other way. Makes effects.
/// @return at least one. ErrorKind::retry if the target ports are only gone for now; otherwise the reason for each
/// path.
Result<std::vector<scsi::Path>> find_paths(sdk::Call& call, const scsi::Sysfs& sysfs, const VolumeAddress& volume,
                                           const Search& search);

}  // namespace aiolos::fibre_channel
