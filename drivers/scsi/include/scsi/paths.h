// SPDX-License-Identifier: Apache-2.0
// A volume by its paths, however its transport finds them: what a driver of SCSI storage does once it knows at which
// addresses the volume is. No function here takes a lock; all but publish may be called for paths that are gone.
//
//   connect:     find_or_scan of each path, then publish
//   verify:      verify
//   extend:      extend
//   disconnect:  release_map, then release_disk of each path that no other volume's attachment uses
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "scsi/device.h"
#include "scsi/multipath.h"

namespace aiolos::scsi {

struct Path {
  Address address;
  std::string name;  ///< What people call it: "portal 10.0.0.1:3260", "target port 0x2000...".
};

/// A volume that this host shows.
struct Published {
  std::string wwid;
  /// Its node, by a link that names the volume and not the place where it is now: that link never leads to another one.
  std::string node;
};

/// Reads the WWID of all paths, makes a multipath map of them if that is wanted, and waits for the link to the volume.
/// Where a map exists already it is used in any case: below it the disks are not to be written. Where multipath is
/// wanted and no map comes, the volume is published over one path, with a warning. Makes effects of its own.
/// @param paths at least one, each with a disk.
/// @return ErrorKind::refused if two paths show two volumes; ErrorKind::retry if no path answers or udev makes no link.
Result<Published> publish(sdk::Call& call, const Sysfs& sysfs, const std::vector<Path>& paths, bool use_multipath);

/// Whether the paths, and all other paths of the volume's map, still lead to the volume of that WWID.
/// @param node where publish found it. @return ErrorKind::refused naming both WWIDs if one of them, or the link, leads
/// elsewhere; ErrorKind::retry if no path answers, so that it can't be known.
Result<void> verify(sdk::Call& call, const Sysfs& sysfs, const std::vector<Path>& paths, const std::string& wwid,
                    const std::string& node);

/// Has the kernel see the size that the storage gives the volume by now, on all paths and in the map.
/// @param bytes that it has to have at least. @return the size in bytes. ErrorKind::refused naming the path that is
/// down: a path that kept the old size would fail later. ErrorKind::storage if the volume has not been grown.
Result<std::uint64_t> extend(sdk::Call& call, const Sysfs& sysfs, const std::vector<Path>& paths,
                             const std::string& wwid, std::uint64_t bytes);

/// Flushes and removes the volume's map, if it has one and all its paths are among these. Makes effects of its own.
/// @param wwid empty if it is not known (a connect that was cut off). @param force gives up what cannot be flushed.
/// @return ErrorKind::refused naming who uses it; ErrorKind::retry if it cannot be flushed and force is not set.
Result<void> release_map(sdk::Call& call, const Sysfs& sysfs, const std::vector<Path>& paths, const std::string& wwid,
                         bool force);

/// Flushes a path's device, if it is there and nobody uses it: all that must be done before it goes by whatever way
/// (delete_device, a logout). Parameters and errors as release_map.
Result<void> flush_disk(sdk::Call& call, const Sysfs& sysfs, const Path& path, bool force);

/// As flush_disk, and deletes the device. Makes an effect of its own.
Result<void> release_disk(sdk::Call& call, const Sysfs& sysfs, const Path& path, bool force);

}  // namespace aiolos::scsi
