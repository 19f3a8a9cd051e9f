// SPDX-License-Identifier: Apache-2.0
#include "disk_speed.h"

#include <algorithm>

namespace aiolos {
namespace {

std::optional<unsigned> small(const disk::Number& number) {
  return number ? std::optional(static_cast<unsigned>(*number)) : std::nullopt;
}

/// The requests a second that throttling leaves; 0 where it limits none.
std::uint64_t limit_of(const disk::IoTune& tune) {
  if (const auto total = tune.total_iops_sec.value_or(0); total != 0) return total;
  const auto reads = tune.read_iops_sec.value_or(0);
  const auto writes = tune.write_iops_sec.value_or(0);
  return reads != 0 && writes != 0 ? reads + writes : 0;
}

void apply_limit(const disk::DiskConfig& disk, DiskSpeed& speed) {
  const std::uint64_t limit = disk.iotune ? limit_of(*disk.iotune) : 0;
  if (limit == 0 || (speed.iops && *speed.iops <= static_cast<double>(limit))) return;
  speed.iops = static_cast<double>(limit);
  speed.source = speed.source.empty() ? "its <iotune>" : "its <iotune> and " + speed.source;
}

}  // namespace

DiskSpeed storage_speed(const Config& config, const std::string& volume_type) {
  const auto found = config.plan.storage.find(volume_type);
  return found == config.plan.storage.end() ? DiskSpeed() : found->second;
}

bool is_planned(const disk::DiskConfig& disk) {
  const auto kind = disk.device.value_or(disk::DeviceKind::disk);
  return (kind == disk::DeviceKind::disk || kind == disk::DeviceKind::lun) &&
         disk.type != disk::SourceType::vhostuser && disk.type != disk::SourceType::vhostvdpa;
}

PlanDisk plan_disk(const disk::DiskConfig& disk, const std::vector<PlanController>& controllers, DiskSpeed speed) {
  PlanDisk planned;
  planned.target = disk.target.dev.value_or("");
  planned.bus = disk.target.bus == disk::Bus::virtio ? PlanBus::virtio
                : disk.target.bus == disk::Bus::scsi ? PlanBus::scsi
                                                     : PlanBus::other;
  planned.mode = disk.driver.io;
  planned.network = disk.type == disk::SourceType::network;
  planned.queues = small(disk.driver.queues);
  planned.queue_size = small(disk.driver.queue_size);
  planned.engine = small(disk.driver.iothread).value_or(kMainLoop);
  if (disk.driver.iothreads && !disk.driver.iothreads->iothreads.empty())
    planned.engine = small(disk.driver.iothreads->iothreads.front().id).value_or(kMainLoop);
  if (planned.bus == PlanBus::scsi) {
    planned.controller = disk.address ? small(disk.address->controller).value_or(0) : 0;
    for (const PlanController& controller : controllers)
      if (controller.index == planned.controller) planned.engine = controller.iothread.value_or(kMainLoop);
  }
  apply_limit(disk, speed);
  planned.speed = std::move(speed);
  return planned;
}

}  // namespace aiolos
