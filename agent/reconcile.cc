// SPDX-License-Identifier: Apache-2.0
// What a crash, a reboot or somebody else left: each volume of the journal is brought to its end, one way or the other.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "attachment_flows.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

using Outcome = ReconcileEntry::Outcome;

bool contains(const std::vector<Step>& steps, Step step) {
  return std::find(steps.begin(), steps.end(), step) != steps.end();
}

}  // namespace

std::string_view to_string(ReconcileEntry::Outcome outcome) {
  switch (outcome) {
    case Outcome::kept:
      return "kept";
    case Outcome::finished:
      return "finished";
    case Outcome::undone:
      return "undone";
    case Outcome::left:
      return "left";
  }
  return {};
}

Result<void> all_settled(const std::vector<ReconcileEntry>& entries) {
  const auto is_left = [](const ReconcileEntry& entry) { return entry.outcome == Outcome::left; };
  const auto first = std::find_if(entries.begin(), entries.end(), is_left);
  if (first == entries.end()) return {};
  const auto left = std::count_if(entries.begin(), entries.end(), is_left);
  return fail(first->error->kind,
              fmt::format("{} of {} volumes could not be settled; the first, '{}' of domain '{}': {}", left,
                          entries.size(), first->target, first->domain, first->reason),
              first->error->next);
}

Result<std::vector<ReconcileEntry>> AttachmentFlows::reconcile() {
  std::vector<ReconcileEntry> entries;
  if (!has_journal()) return entries;
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto records = (*book)->open_attachments();
  if (!records) return tl::unexpected(records.error());
  entries = settle_all(*records, &AttachmentFlows::settle);
  const auto queues = settle_queues();
  if (!queues) return queues;
  entries.insert(entries.end(), queues->begin(), queues->end());
  return entries;
}

Result<std::vector<AttachmentRecord>> AttachmentFlows::records_of(const std::string& domain_uuid) {
  std::vector<AttachmentRecord> records;
  if (!has_journal()) return records;
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  auto all = (*book)->open_attachments();
  if (!all) return tl::unexpected(all.error());
  for (AttachmentRecord& record : *all)
    if (record.hypervisor == hypervisor_uri_ && record.domain_uuid == domain_uuid) records.push_back(std::move(record));
  return records;
}

Result<std::vector<ReconcileEntry>> AttachmentFlows::settle_guest(const std::string& domain_uuid) {
  return records_of(domain_uuid).map([this](const auto& records) {
    return settle_all(records, &AttachmentFlows::settle_disk);
  });
}

std::vector<ReconcileEntry> AttachmentFlows::settle_all(const std::vector<AttachmentRecord>& records,
                                                        Settle bring_to_end) {
  std::vector<ReconcileEntry> entries;
  for (const AttachmentRecord& record : records) {
    ReconcileEntry entry{
        record.hypervisor, record.domain_name, record.domain_uuid, record.target, record.serial, Outcome::left, {}, {}};
    if (auto settled = (this->*bring_to_end)(record)) {
      std::tie(entry.outcome, entry.reason) = std::move(*settled);
    } else {
      entry.reason = settled.error().message;
      entry.error = std::move(settled).error();
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

/// Brings one volume to its end. An error leaves it as it is.
AttachmentFlows::Settled AttachmentFlows::settle(const AttachmentRecord& listed) {
  if (listed.hypervisor != hypervisor_uri_)
    return fail(ErrorKind::retry, fmt::format("it was attached through {}", listed.hypervisor),
                fmt::format("aiolos reconcile --uri '{}'", listed.hypervisor));
  // A guest that is on its way is settled by who moves it.
  const auto lock = lock_migration(listed.domain_uuid, 0ms);
  return lock ? settle_disk(listed) : tl::unexpected(lock.error());
}

AttachmentFlows::Settled AttachmentFlows::settle_disk(const AttachmentRecord& listed) {
  // Who works on it right now has the lock, and will bring it to its end.
  const auto lock = locks_.acquire(disk_lock_key(listed.domain_uuid, listed.target), 0ms);
  if (!lock) return tl::unexpected(lock.error());
  const auto record = find_record(listed.domain_uuid, listed.target);
  if (!record) return tl::unexpected(record.error());
  if (!*record || (*record)->id != listed.id)
    return std::pair(Outcome::kept, std::string("another process settled it"));

  const auto domain = machine_.hypervisor().find_domain(listed.domain_uuid);
  if (!domain && domain.error().kind == ErrorKind::bad_input)
    return undo(**record, /*leftovers_possible=*/false, "the guest is gone");
  if (!domain) return tl::unexpected(domain.error());
  const auto guest = guest_disks(domain->uuid);
  if (!guest) return tl::unexpected(guest.error());
  const disk::DiskConfig* disk = guest->find(listed.target);
  const bool has_it = disk != nullptr && may_be_of(**record, *disk);
  if (!domain->running && has_it) return keep(**record, "the guest is shut off, and its definition has the disk");
  if (!domain->running) return undo(**record, /*leftovers_possible=*/false, "the guest is shut off without the disk");
  if (has_it) return settle_attached(**record, *disk);
  Settled undone = undo(**record, /*leftovers_possible=*/true, "the guest does not have the disk");
  if (undone || undone.error().kind != ErrorKind::retry) return undone;
  // It may have got the disk meanwhile: libvirt's daemon goes on with the attach of a client that was killed.
  const auto later = guest_disks(domain->uuid);
  const disk::DiskConfig* given = later ? later->find(listed.target) : nullptr;
  return given && may_be_of(**record, *given) ? settle_attached(**record, *given) : undone;
}

/// The guest runs and has the disk: what was begun with it is finished.
AttachmentFlows::Settled AttachmentFlows::settle_attached(const AttachmentRecord& record,
                                                          const disk::DiskConfig& disk) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  if (const auto named = name_process(record.domain_uuid); !named) return tl::unexpected(named.error());
  const auto unfinished = (*book)->unfinished_steps(record.id);
  if (!unfinished) return tl::unexpected(unfinished.error());
  if (contains(*unfinished, Step::detach)) {
    if (const auto detached = detach_disk(record, disk); !detached) return tl::unexpected(detached.error());
    return undo(record, /*leftovers_possible=*/false, "its detach was interrupted").map([](auto&& settled) {
      return std::pair(Outcome::finished, std::move(settled.second));
    });
  }
  if (record.state != AttachmentState::attached) {
    if (const auto done = adopt(record); !done) return tl::unexpected(done.error());
    return std::pair(Outcome::finished, std::string("its attach was interrupted after the guest had the disk"));
  }
  if (contains(*unfinished, Step::extend) || contains(*unfinished, Step::resize))
    return keep(record, "attached; an extend was interrupted: run it again");
  if (contains(*unfinished, Step::limit))
    return keep(record, "attached; a change of its I/O limits was interrupted: run it again");
  return keep(record, "attached");
}

Result<void> AttachmentFlows::name_process(const std::string& domain_uuid) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto claimed = (*book)->aio_reservations();
  if (!claimed) return tl::unexpected(claimed.error());
  for (const AioReservation& claim : *claimed) {
    if (claim.domain_uuid != domain_uuid || claim.pid) continue;
    const auto pid = machine_.hypervisor().domain_pid(domain_uuid);
    if (!pid) return tl::unexpected(pid.error());
    if (!*pid) return {};
    if (auto named = (*book)->reserve_aio(claim.attachment, *pid, claim.contexts); !named) return named;
  }
  return {};
}

AttachmentFlows::Settled AttachmentFlows::keep(const AttachmentRecord& record, std::string reason) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  if (const auto done = (*book)->abandon_steps(record.id); !done) return tl::unexpected(done.error());
  return std::pair(Outcome::kept, std::move(reason));
}

AttachmentFlows::Settled AttachmentFlows::undo(const AttachmentRecord& record, bool leftovers_possible,
                                               std::string reason) {
  const auto done = disconnect_record(record, leftovers_possible, /*force=*/false);
  if (!done) return tl::unexpected(done.error());
  return std::pair(Outcome::undone, std::move(reason));
}

}  // namespace aiolos
