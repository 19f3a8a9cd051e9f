// SPDX-License-Identifier: Apache-2.0
// While a guest moves, its disks that QEMU serves may have fewer requests in flight: as many as their storage has use
// for. The guest's agent lowers nr_requests, and puts it back wherever the guest is then. Both hosts have that in their
// journals before it happens.
#include <fmt/format.h>

#include <algorithm>

#include "attachment_flows.h"
#include "guest_queues.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

// The least that Linux takes. Source: block/blk.h, BLKDEV_MIN_RQ.
constexpr unsigned kFewestRequests = 4;

// More queues are not counted: each is a question to the guest, and with so many each gets the fewest requests.
constexpr unsigned kMostCounted = 8;
// Until the agent of a guest that has just come is spoken to.
constexpr auto kListensSoon = 2s;

std::string not_lowered(const std::string& target, const std::string& why) {
  return fmt::format("nr_requests of '{}' is not lowered: {}", target, why);
}

/// @param useful requests on all its queues together.
Result<LoweredQueue> lowered_queue(GuestQueues& guest, const AttachmentRecord& record, const std::string& device,
                                   unsigned useful) {
  const auto before = guest.depth(device);
  if (!before) return tl::unexpected(before.error());
  const auto queues = guest.queues(device, kMostCounted);
  if (!queues) return tl::unexpected(queues.error());
  const unsigned each = std::max(kFewestRequests, (useful + *queues - 1) / *queues);
  return LoweredQueue{record.target, seen_serial(record.serial), device, *before, each};
}

}  // namespace

std::vector<LoweredQueue> AttachmentFlows::queues_to_lower(const DomainState& domain,
                                                           const std::vector<AttachmentRecord>& records,
                                                           std::vector<std::string>& notes) {
  std::vector<LoweredQueue> lowered;
  const auto guest = planned_guest(domain, /*ask_qemu=*/false);
  GuestQueues queues(machine_.guest_agent(), machine_.clock(), domain.uuid);
  std::optional<Result<std::map<std::string, std::string>>> devices;  // asked when a disk needs it
  for (const AttachmentRecord& record : records) {
    const auto is_it = [&](const PlanDisk& disk) { return disk.target == record.target; };
    if (!guest) break;
    const auto disk = std::find_if(guest->domain.disks.begin(), guest->domain.disks.end(), is_it);
    if (disk == guest->domain.disks.end() || disk->bus != PlanBus::virtio) continue;
    if (!disk->speed.iops || !disk->speed.latency_ms) {
      notes.push_back(not_lowered(
          record.target, fmt::format("how fast its storage is is not known (plan.storage.{})", record.volume_type)));
      continue;
    }
    if (!devices) devices = queues.disks();
    if (!*devices) {
      notes.push_back(not_lowered(record.target, describe(devices->error())));
      continue;
    }
    const auto device = (*devices)->find(seen_serial(record.serial));
    if (record.serial.empty() || device == (*devices)->end()) {
      notes.push_back(not_lowered(record.target, "the guest shows no disk with its serial number"));
      continue;
    }
    if (auto planned = lowered_queue(queues, record, device->second, useful_depth(disk->speed)); !planned)
      notes.push_back(not_lowered(record.target, describe(planned.error())));
    else if (planned->lowered < planned->before)
      lowered.push_back(std::move(*planned));
  }
  if (!guest) notes.push_back(fmt::format("nr_requests is not lowered: {}", describe(guest.error())));
  return lowered;
}

Result<void> AttachmentFlows::keep_lowered(const std::string& domain_uuid, const std::string& domain_name,
                                           const std::vector<LoweredQueue>& lowered) {
  if (lowered.empty()) return {};
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  return (*book)->keep_lowered(hypervisor_uri_, domain_uuid, domain_name, lowered);
}

void AttachmentFlows::lower_queues(const std::string& domain_uuid, const std::vector<LoweredQueue>& lowered,
                                   std::vector<std::string>& notes) {
  GuestQueues queues(machine_.guest_agent(), machine_.clock(), domain_uuid);
  for (const LoweredQueue& each : lowered) {
    const auto done = queues.set_depth(each.device, each.lowered);
    notes.push_back(done ? fmt::format("nr_requests of '{}' lowered from {} to {} while the guest moved", each.target,
                                       each.before, each.lowered)
                         : not_lowered(each.target, describe(done.error())));
  }
}

/// What somebody else has set meanwhile stays.
Result<void> AttachmentFlows::put_back_queue(GuestQueues& queues, const LoweredQueue& lowered) {
  const auto serial = queues.serial(lowered.device);
  if (!serial) return tl::unexpected(serial.error());
  if (*serial != lowered.serial) return {};  // another disk has the name by now
  const auto depth = queues.depth(lowered.device);
  if (!depth) return tl::unexpected(depth.error());
  return *depth == lowered.lowered ? queues.set_depth(lowered.device, lowered.before) : Result<void>();
}

Result<std::vector<ReconcileEntry>> AttachmentFlows::put_back_queues(const std::string& domain_uuid) {
  std::vector<ReconcileEntry> entries;
  if (!has_journal()) return entries;
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto kept = (*book)->lowered_queues(hypervisor_uri_);
  if (!kept) return tl::unexpected(kept.error());
  GuestQueues queues(machine_.guest_agent(), machine_.clock(), domain_uuid);
  for (const KeptQueue& each : *kept) {
    if (each.domain_uuid != domain_uuid) continue;
    const auto domain = machine_.hypervisor().find_domain(domain_uuid);
    if (!domain && domain.error().kind != ErrorKind::bad_input) return tl::unexpected(domain.error());
    const bool is_here = domain && domain->running;
    Result<void> done = is_here ? put_back_queue(queues, each.queue) : Result<void>();
    // A guest that refuses for good is not asked for ever.
    const bool is_over = done || done.error().kind == ErrorKind::refused;
    if (is_over)
      if (auto forgotten = (*book)->forget_lowered(each.id); !forgotten) return tl::unexpected(forgotten.error());
    ReconcileEntry entry{hypervisor_uri_,
                         each.domain_name,
                         domain_uuid,
                         each.queue.target,
                         each.queue.serial,
                         is_over ? ReconcileEntry::Outcome::finished : ReconcileEntry::Outcome::left,
                         {},
                         {}};
    entry.reason =
        !is_here ? "the guest is not here any more, and nothing has to be put back"
        : done   ? fmt::format("nr_requests put back to {}", each.queue.before)
                 : fmt::format("nr_requests is not put back to {}: {}", each.queue.before, describe(done.error()));
    if (!done) entry.error = done.error();
    entries.push_back(std::move(entry));
  }
  return entries;
}

void AttachmentFlows::put_back_queues(const std::string& domain_uuid, std::vector<std::string>& notes) {
  const auto is_left = [](const ReconcileEntry& entry) { return entry.outcome == ReconcileEntry::Outcome::left; };
  auto entries = put_back_queues(domain_uuid);
  if (entries && std::any_of(entries->begin(), entries->end(), is_left)) {
    // libvirt may not have heard yet that the agent listens to it now.
    machine_.clock().sleep_until(machine_.clock().now() + kListensSoon);
    entries = put_back_queues(domain_uuid);
  }
  if (!entries) notes.push_back(fmt::format("nr_requests may be lowered still: {}", describe(entries.error())));
  if (!entries) return;
  for (const ReconcileEntry& entry : *entries)
    if (entry.error)
      notes.push_back(
          fmt::format("'{}': {}{}", entry.target, entry.reason,
                      entry.outcome == ReconcileEntry::Outcome::left ? " (aiolos reconcile tries it again)" : ""));
}

Result<std::vector<ReconcileEntry>> AttachmentFlows::settle_queues() {
  std::vector<ReconcileEntry> entries;
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto kept = (*book)->lowered_queues(hypervisor_uri_);
  if (!kept) return tl::unexpected(kept.error());
  std::vector<std::string> guests;
  for (const KeptQueue& each : *kept)
    if (std::find(guests.begin(), guests.end(), each.domain_uuid) == guests.end()) guests.push_back(each.domain_uuid);
  for (const std::string& guest : guests) {
    const auto lock = lock_migration(guest, 0ms);
    if (!lock) continue;  // who moves it puts them back
    auto settled = put_back_queues(guest);
    if (!settled) return settled;
    entries.insert(entries.end(), settled->begin(), settled->end());
  }
  return entries;
}

}  // namespace aiolos
