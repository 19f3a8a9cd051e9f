// SPDX-License-Identifier: Apache-2.0
// Who uses a block device. Deleting a SCSI device or logging out of its target never refuses, so it has to be asked
// before.
#pragma once

#include <string>
#include <vector>

#include "scsi/sysfs.h"

namespace aiolos::scsi {

/// Block devices that lie over this one or over a partition of it: "dm-0".
std::vector<std::string> holders_of(const Sysfs& sysfs, const std::string& name);

/// Processes that have the device, or a partition of it, open: "qemu-system-x86 (pid 4711)". udev's workers and
/// multipathd are left out: they let go of a device that goes. Without the right to look at a process it is not seen.
std::vector<std::string> openers_of(const Sysfs& sysfs, const std::string& name);

/// Success if no process has the device open and nothing lies over it but what `ignored` names. Waits some seconds, for
/// a look by blkid or a QEMU that is ending pass. @return ErrorKind::refused naming who uses it.
Result<void> check_unused(const Sysfs& sysfs, const std::string& name, const std::vector<std::string>& ignored = {});

}  // namespace aiolos::scsi
