// SPDX-License-Identifier: Apache-2.0
// A guest's disks as the queue plan sees them.
#pragma once

#include <string>
#include <vector>

#include "aiolos/agent/config.h"
#include "aiolos/core/queue_plan.h"
#include "aiolos/disk/disk_config.h"

namespace aiolos {

/// What the configuration says of storage of this type; nothing known where it says nothing.
DiskSpeed storage_speed(const Config& config, const std::string& volume_type);

/// Whether a disk does I/O that the plan counts: a disk or LUN whose I/O QEMU does. Drives that guests rarely read
/// (cdrom, floppy) and vhost-user disks are left out.
bool is_planned(const disk::DiskConfig& disk);

/// @param speed of its storage. Limits of its <iotune> are applied to it. @param controllers the guest's: they say
/// which engine serves a SCSI disk.
PlanDisk plan_disk(const disk::DiskConfig& disk, const std::vector<PlanController>& controllers, DiskSpeed speed);

}  // namespace aiolos
