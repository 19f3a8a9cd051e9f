// SPDX-License-Identifier: Apache-2.0
#include "new_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "aiolos/disk/disk_xml.h"
#include "disk_speed.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

// Counting contexts takes milliseconds.
constexpr auto kBudgetLockTimeout = 30s;

std::uint64_t events_of(const std::vector<ReservedContexts>& reserved) {
  std::uint64_t contexts = 0;
  for (const ReservedContexts& each : reserved) contexts += each.contexts;
  return contexts * kAioEventsPerContext;
}

}  // namespace

Result<AttachmentFlows::PlannedGuest*> AttachmentFlows::NewDisk::guest() {
  if (!guest_) {
    auto read = flows_.planned_guest(domain_, /*ask_qemu=*/false);
    if (!read) return tl::unexpected(read.error());
    guest_ = std::move(*read);
  }
  return &*guest_;
}

PlanDomain AttachmentFlows::NewDisk::with_disk(const PlannedGuest& guest, std::optional<AioMode> mode) const {
  PlanDomain domain = guest.domain;
  disk::DiskConfig disk;
  disk.target.dev = volume_.disk_info.dev;
  disk.target.bus = volume_.disk_info.bus;
  disk.driver.io = mode;
  disk.iotune = volume_.info.iotune;
  PlanDisk planned = plan_disk(disk, domain.controllers, storage_speed(flows_.config_, std::string(volume_.info.type)));
  planned.attached = false;
  domain.disks.push_back(std::move(planned));
  return domain;
}

Result<AioRoom> AttachmentFlows::NewDisk::room(const HostFacts& host) {
  const auto lock = flows_.locks_.acquire("AIO budget of this host", kBudgetLockTimeout);
  if (!lock) return tl::unexpected(lock.error());
  const auto known = guest();
  if (!known) return tl::unexpected(known.error());
  const auto reserved = flows_.outstanding_reservations();
  if (!reserved) return tl::unexpected(reserved.error());
  // Read anew: another attach may just have taken what was free.
  const auto now = flows_.machine_.host_probe().facts();
  if (!now) return tl::unexpected(now.error());
  HostFacts facts = host;
  facts.aio_nr = now->aio_nr;
  facts.aio_max_nr = now->aio_max_nr;
  AioRoom room{0, events_of(*reserved), facts.aio_nr};

  const PlanDomain domain = with_disk(**known, AioMode::native);
  PlanHost limits = plan_host_of(facts, room.reserved_events);
  limits.iothreads_are_given = true;
  QueuePlan plan = plan_queues(domain, limits, flows_.config_.plan.limits);
  const bool fits = plan.disks.back().mode == AioMode::native;
  if (!fits) {
    limits.contexts_left.reset();  // to say what it would have taken
    plan = plan_queues(domain, limits, flows_.config_.plan.limits);
  }
  room.new_contexts = plan.contexts - std::min(plan.contexts, domain.contexts);
  if (!fits) return room;
  native_ = plan.disks.back();
  if (!attachment_) return room;
  const auto book = flows_.journal();
  if (!book) return tl::unexpected(book.error());
  if (auto done = (*book)->reserve_aio(*attachment_, (*known)->pid, plan.contexts); !done)
    return tl::unexpected(done.error());
  return room;
}

Result<void> AttachmentFlows::NewDisk::place(disk::DiskConfig& disk, const HostFacts& host,
                                             std::vector<std::string>& notes) {
  if (flows_.config_.aio.profile == AioProfile::nova || !is_planned(disk)) return {};
  const auto known = guest();
  if (!known) return tl::unexpected(known.error());
  const auto is_this = [&](const PlanDisk& each) { return each.target == volume_.disk_info.dev; };
  const auto& disks = (*known)->domain.disks;
  if (std::any_of(disks.begin(), disks.end(), is_this)) return {};  // it has its place
  PlannedDisk planned;
  if (disk.driver.io == AioMode::native && native_) {
    planned = *native_;
  } else {
    PlanHost limits = plan_host_of(host, 0);
    limits.iothreads_are_given = true;
    PlanDomain domain = with_disk(**known, disk.driver.io);
    domain.disks.back().network = disk.type == disk::SourceType::network;
    planned = plan_queues(domain, limits, flows_.config_.plan.limits).disks.back();
  }
  if (disk.target.bus != disk::Bus::virtio) return {};
  if (planned.queues) disk.driver.queues = *planned.queues;
  if (planned.queue_size) disk.driver.queue_size = *planned.queue_size;
  if (!planned.mapping.empty()) {
    auto& iothreads = disk.driver.iothreads.ensure().iothreads;
    for (const PlannedDisk::Share& share : planned.mapping) {
      disk::IoThread& iothread = iothreads.emplace_back();
      iothread.id = share.iothread;
      for (const unsigned queue : share.queues) iothread.queues.emplace_back().id = queue;
    }
  } else if (planned.engine != kMainLoop) {
    disk.driver.iothread = planned.engine;
  }
  if (planned.engine != kMainLoop || planned.queue_size)
    for (const std::string& reason : planned.reasons)
      notes.push_back(fmt::format("{}: {}", engine_name(planned.engine), reason));
  return disk::validate(disk);
}

}  // namespace aiolos
