// SPDX-License-Identifier: Apache-2.0
// What QEMU counts of a guest's disks, through libvirt.
#pragma once

#include <memory>

#include "aiolos/core/stock_drain.h"
#include "aiolos/host/hypervisor.h"

namespace aiolos {

/// By virDomainListGetStats, which libvirt answers while a guest migrates as well, and which leaves no mark on it. What
/// is in flight is asked of QEMU for each queue of each virtio disk (x-query-virtio-queue-status, QEMU 7.2): the XML is
/// read for that once, and again when a disk has come. Safe from several threads.
std::unique_ptr<DiskStatistics> make_disk_statistics(std::shared_ptr<LibvirtConnection> connection);

}  // namespace aiolos
