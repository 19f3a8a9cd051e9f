// SPDX-License-Identifier: Apache-2.0
#include "attachment_flows.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>
#include <utility>

#include "aiolos/disk/disk_xml.h"
#include "engine_disk.h"
#include "new_disk.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

// How long a flow waits for another one that works on the same target: longer than any bounded step takes.
constexpr auto kLockTimeout = 120s;
// How long a guest may take to give a disk back. Nova waits about as long (device_detach_attempts x timeout).
constexpr auto kDetachTimeout = 60s;

Result<void> check_target_free(const GuestDisks& guest, const DomainState& domain, const std::string& target) {
  if (!guest.find(target)) return {};
  return fail(ErrorKind::refused, fmt::format("domain '{}' has a disk '{}' already", domain.name, target),
              fmt::format("use another target: '{}' is free", guest.free_target_like(target)), "disk_info/dev");
}

/// Whether a connection_info says that several guests may share the volume.
bool is_multiattach(const Json& connection_info) {
  const auto info = parse_volume_info(JsonDocument(connection_info).root(), AioProfile::automatic);
  return info && info->multiattach;
}

/// Refuses what the volume's driver does not promise.
Result<void> check_multiattach(const Volume& volume) {
  if (!volume.info.multiattach || (volume.driver->capabilities() & AIOLOS_CAN_MULTIATTACH)) return {};
  return fail(ErrorKind::refused,
              fmt::format("the driver '{}' cannot attach one volume to several guests", volume.driver->name()),
              "unset multiattach, or use storage that can share", "/multiattach");
}

/// Before anything is known of a guest's disk.
AttachFailure nothing_attached(Error error) { return {std::move(error), /*gone=*/true}; }

}  // namespace

bool may_be_of(const AttachmentRecord& record, const disk::DiskConfig& live) {
  if (record.state == AttachmentState::attached) return true;
  const auto begun = disk::parse(record.disk_xml);
  return begun && same_source(begun->disk, live);
}

AttachmentFlows::AttachmentFlows(const Config& config, std::string hypervisor_uri, Machine& machine,
                                 const Registry& registry, const Decider& decider, HostLocks& locks, const LogSink& log)
    : config_(config),
      hypervisor_uri_(std::move(hypervisor_uri)),
      machine_(machine),
      registry_(registry),
      decider_(decider),
      locks_(locks),
      log_(log) {}

Result<std::vector<AttachmentListing>> AttachmentFlows::attachments() {
  if (!has_journal()) return std::vector<AttachmentListing>();
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto records = (*book)->open_attachments();
  if (!records) return tl::unexpected(records.error());
  std::vector<AttachmentListing> list;
  for (const AttachmentRecord& record : *records) {
    const auto unfinished = (*book)->unfinished_steps(record.id);
    if (!unfinished) return tl::unexpected(unfinished.error());
    auto effects = (*book)->unfinished_effects(record.id);
    if (!effects) return tl::unexpected(effects.error());
    auto holds = (*book)->held_resources(record.id);
    if (!holds) return tl::unexpected(holds.error());
    AttachmentListing listing{record.hypervisor,
                              record.domain_name,
                              record.domain_uuid,
                              record.target,
                              record.volume_type,
                              record.serial,
                              std::string(to_string(record.state)),
                              record.created,
                              {},
                              std::move(*effects),
                              std::move(*holds)};
    for (const Step step : *unfinished) listing.unfinished.emplace_back(to_string(step));
    list.push_back(std::move(listing));
  }
  return list;
}

// ---- what all flows use ---------------------------------------------------------------------------------------------

bool AttachmentFlows::has_journal() const {
  std::error_code ignored;
  return std::filesystem::exists(config_.state.dir + "/journal.sqlite", ignored);
}

Result<Journal*> AttachmentFlows::journal() {
  const std::scoped_lock lock(journal_mutex_);
  if (!journal_) {
    auto opened = Journal::open(config_.state.dir, machine_.clock());
    if (!opened) return tl::unexpected(opened.error());
    journal_ = std::move(*opened);
  }
  return journal_.get();
}

Result<AttachmentFlows::Lock> AttachmentFlows::lock_target(Driver& driver, const Json& connection_info) {
  const auto target = driver.target(connection_info);
  if (!target) return tl::unexpected(target.error());
  if (!*target) return Lock();
  return locks_.acquire(**target, kLockTimeout);
}

Result<AttachmentFlows::Lock> AttachmentFlows::lock_disk(const std::string& domain_uuid, const std::string& target) {
  return locks_.acquire(disk_lock_key(domain_uuid, target), kLockTimeout);
}

Result<AttachmentFlows::Lock> AttachmentFlows::lock_migration(const std::string& domain_uuid,
                                                              std::chrono::milliseconds timeout) {
  return locks_.acquire("migration of " + domain_uuid, timeout);
}

std::string AttachmentFlows::disk_lock_key(const std::string& domain_uuid, const std::string& target) {
  return domain_uuid + ":" + target;
}

Result<GuestDisks> AttachmentFlows::guest_disks(const std::string& domain) {
  return machine_.hypervisor().domain_xml(domain).and_then(
      [](const std::string& xml) { return GuestDisks::parse(xml); });
}

Result<DomainState> AttachmentFlows::running_domain(const std::string& domain) {
  auto state = machine_.hypervisor().find_domain(domain);
  if (state && !state->running)
    return fail(ErrorKind::refused, fmt::format("domain '{}' is not running", domain),
                "start it first: Aiolos works on running guests");
  return state;
}

Result<std::optional<AttachmentRecord>> AttachmentFlows::find_record(const std::string& domain_uuid,
                                                                     const std::string& target, bool closed_too) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  return (*book)->find(hypervisor_uri_, domain_uuid, target, closed_too);
}

// ---- attaching ------------------------------------------------------------------------------------------------------

Result<Explanation> AttachmentFlows::attach(const std::string& name, const Json& connection_info, const Json& disk_info,
                                            bool dry_run) {
  const auto volume = decider_.read_volume(connection_info, disk_info);
  if (!volume) return tl::unexpected(volume.error());
  if (const auto able = check_multiattach(*volume); !able) return tl::unexpected(able.error());
  const auto domain = running_domain(name);
  if (!domain) return tl::unexpected(domain.error());
  const auto lock = lock_disk(domain->uuid, volume->disk_info.dev);
  if (!lock) return tl::unexpected(lock.error());
  const auto guest = guest_disks(domain->uuid);
  if (!guest) return tl::unexpected(guest.error());
  if (dry_run) return rehearse_attach(*volume, *domain, *guest);

  auto before = settle_earlier(*volume, *domain, disk_info, *guest);
  if (!before) return tl::unexpected(before.error());
  if (*before) return std::move(**before);
  // A target that is taken is known before anything is connected for it.
  if (const auto free = check_target_free(*guest, *domain, volume->disk_info.dev); !free)
    return tl::unexpected(free.error());
  const auto connected = connect(*volume, *domain, disk_info);
  if (!connected) return tl::unexpected(connected.error());
  auto attached = attach_connected(*volume, *domain, *connected, *guest);
  if (attached) {
    grow_pools(*domain, attached->notes);
    return std::move(*attached);
  }
  return tl::unexpected(undo_attach(*volume, *domain, *connected, std::move(attached).error()));
}

/// What an attach would do, without doing it.
Result<Explanation> AttachmentFlows::rehearse_attach(const Volume& volume, const DomainState& domain,
                                                     const GuestDisks& guest) {
  if (const auto free = check_target_free(guest, domain, volume.disk_info.dev); !free)
    return tl::unexpected(free.error());
  const auto attachment = volume.driver->describe(*volume.connection_info);
  if (!attachment) return tl::unexpected(attachment.error());
  auto decided = decide(volume, *attachment, domain, guest, std::nullopt);
  if (!decided) return tl::unexpected(decided.error());
  decided->explanation.notes.emplace_back("dry run: nothing was changed");
  return std::move(decided->explanation);
}

Result<std::optional<Explanation>> AttachmentFlows::settle_earlier(const Volume& volume, const DomainState& domain,
                                                                   const Json& disk_info, const GuestDisks& guest) {
  const auto record = find_record(domain.uuid, volume.disk_info.dev);
  if (!record) return tl::unexpected(record.error());
  if (!*record) return std::nullopt;
  const AttachmentRecord& known = **record;
  if (known.connection_info != redact(*volume.connection_info) || known.disk_info != disk_info)
    return fail(ErrorKind::refused,
                fmt::format("the journal holds '{}' of domain '{}' as {}, with volume '{}' and another "
                            "connection_info or disk_info",
                            known.target, domain.name, to_string(known.state), known.serial),
                fmt::format("detach it first: aiolos detach --domain {} --target {}", domain.name, known.target));
  if (!guest.find(known.target)) {
    // An earlier attach was interrupted, or the guest lost the disk: back to the start.
    const auto undone = disconnect_record(known, /*leftovers_possible=*/true, /*force=*/false);
    if (!undone) return tl::unexpected(undone.error());
    return std::nullopt;
  }
  if (known.state != AttachmentState::attached) {
    if (!may_be_of(known, *guest.find(known.target)))
      return tl::unexpected(check_target_free(guest, domain, known.target).error());
    if (const auto done = adopt(known); !done) return tl::unexpected(done.error());
  }
  if (const auto leaving = check_not_leaving(known); !leaving) return tl::unexpected(leaving.error());
  return answer_again(volume, known, guest).map([](Explanation&& answer) { return std::optional(std::move(answer)); });
}

Result<void> AttachmentFlows::check_not_leaving(const AttachmentRecord& record) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto unfinished = (*book)->unfinished_steps(record.id);
  if (!unfinished) return tl::unexpected(unfinished.error());
  if (std::find(unfinished->begin(), unfinished->end(), Step::detach) == unfinished->end()) return {};
  return fail(
      ErrorKind::retry,
      fmt::format("domain '{}' was asked to give disk '{}' up and may still do so", record.domain_name, record.target),
      fmt::format("finish that first: aiolos detach --domain {} --target {}", record.domain_name, record.target));
}

Result<void> AttachmentFlows::adopt(const AttachmentRecord& record) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  if (const auto done = (*book)->abandon_steps(record.id); !done) return done;
  const auto step = (*book)->begin_step(record.id, Step::attach);
  if (!step) return tl::unexpected(step.error());
  return (*book)->finish_step(*step, AttachmentState::attached);
}

Result<Explanation> AttachmentFlows::answer_again(const Volume& volume, const AttachmentRecord& record,
                                                  const GuestDisks& guest) {
  const auto attachment = attachment_from_json(record.attachment);
  if (!attachment) return tl::unexpected(attachment.error());
  NewDisk today(*this, volume, DomainState{record.domain_name, record.domain_uuid, true, false}, std::nullopt);
  auto decided = decider_.decide(volume, *attachment, &today);
  if (!decided) return tl::unexpected(decided.error());
  Explanation& answer = decided->first;
  const bool is_served = engine_disk_name(record.disk_xml).has_value();  // then the guest's XML does not say it
  const std::optional<AioMode> mode = is_served ? answer.decision.mode : guest.find(record.target)->driver.io;
  if (mode != answer.decision.mode)
    answer.notes.push_back(
        fmt::format("with today's facts the mode would be {}; an attached disk keeps its own: "
                    "detach it and attach it again",
                    answer.decision.mode ? to_string(*answer.decision.mode) : "none"));
  answer.decision.mode = mode;
  answer.decision.reasons.assign(1, "this is what it was attached with");
  answer.decision.rejected.clear();
  answer.xml = record.disk_xml;
  answer.notes.emplace_back("attached already: nothing was done");
  return std::move(answer);
}

Result<AttachmentFlows::Connected> AttachmentFlows::connect(const Volume& volume, const DomainState& domain,
                                                            const Json& disk_info) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto lock = lock_target(*volume.driver, *volume.connection_info);
  if (!lock) return tl::unexpected(lock.error());
  if (const auto free = check_not_elsewhere(volume, domain); !free) return tl::unexpected(free.error());
  AttachmentRecord record;
  record.hypervisor = hypervisor_uri_;
  record.domain_uuid = domain.uuid;
  record.domain_name = domain.name;
  record.target = volume.disk_info.dev;
  record.volume_type = volume.info.type;
  record.serial = volume.info.serial.value_or("");
  record.connection_info = *volume.connection_info;
  record.disk_info = disk_info;
  const auto id = (*book)->open_attachment(record);
  if (!id) return tl::unexpected(id.error());
  const auto step = (*book)->begin_step(*id, Step::connect);
  if (!step) return tl::unexpected(step.error());
  auto attachment = volume.driver->connect(*volume.connection_info, (*book)->volume_journal(*id, *step).get());
  if (attachment) {
    const auto done = (*book)->finish_step(*step, AttachmentState::connected, to_json(*attachment));
    if (done) return Connected{*id, std::move(*attachment)};
    attachment = tl::unexpected(done.error());
  } else {
    (void)(*book)->fail_step(*step, attachment.error());
  }
  return tl::unexpected(undo_connect(*id, volume, std::move(attachment).error()));
}

/// Ends a failed connect: what it did in part is undone as after a crash. What stays is in the journal.
Error AttachmentFlows::undo_connect(std::int64_t id, const Volume& volume, Error error) {
  const auto undone = disconnect_locked(id, *volume.driver, *volume.connection_info, nullptr, /*force=*/false);
  if (undone) return error;
  if (log_) log_(LogLevel::error, fmt::format("cleaning up after a failed connect: {}", describe(undone.error())));
  error.message += fmt::format("; undoing what was done of it failed too: {}", undone.error().message);
  error.next += "; then run aiolos reconcile to undo the rest";
  return error;
}

Result<void> AttachmentFlows::check_not_elsewhere(const Volume& volume, const DomainState& domain) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto records = (*book)->open_attachments();
  if (!records) return tl::unexpected(records.error());
  const Json mine = redact(*volume.connection_info);
  for (const AttachmentRecord& other : *records) {
    if (other.volume_type != volume.info.type) continue;
    const bool same = volume.info.serial && !volume.info.serial->empty() ? other.serial == *volume.info.serial
                                                                         : other.connection_info == mine;
    if (!same || (other.hypervisor == hypervisor_uri_ && other.domain_uuid == domain.uuid)) continue;
    const bool shared = volume.info.multiattach && is_multiattach(other.connection_info);
    if (shared) continue;
    return fail(
        ErrorKind::refused,
        fmt::format("volume '{}' is {} as '{}' of domain '{}' ({}), and may not be shared", other.serial,
                    to_string(other.state), other.target, other.domain_name, other.hypervisor),
        fmt::format("detach it there first (aiolos reconcile does, if that guest is gone), or make it a multiattach "
                    "volume"));
  }
  return {};
}

Result<AttachmentFlows::Decided> AttachmentFlows::decide(const Volume& volume, const Attachment& attachment,
                                                         const DomainState& domain, const GuestDisks& guest,
                                                         std::optional<std::int64_t> id) {
  EngineDisk engine(*this, volume, domain);
  NewDisk own(*this, volume, domain, id);
  Placement* place = &own;
  if (data_plane_of(config_, volume) == DataPlaneKind::engine) place = &engine;
  auto decided = decider_.decide(volume, attachment, place);
  if (!decided) return tl::unexpected(decided.error());
  if (const auto free = check_source_free(guest, domain.name, decided->second); !free)
    return tl::unexpected(free.error());
  if (const auto free = check_path_free(volume, domain, attachment); !free) return tl::unexpected(free.error());
  return Decided{std::move(decided->first), engine.served()};
}

/// Refuses an image that the guest has under another target, where its XML shows only the engine's socket.
Result<void> AttachmentFlows::check_path_free(const Volume& volume, const DomainState& domain,
                                              const Attachment& attachment) {
  if (attachment.source.path.empty() || !has_journal()) return {};
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto records = (*book)->open_attachments();
  if (!records) return tl::unexpected(records.error());
  for (const AttachmentRecord& other : *records) {
    if (other.hypervisor != hypervisor_uri_ || other.domain_uuid != domain.uuid) continue;
    if (other.target == volume.disk_info.dev || other.attachment.is_null()) continue;
    const auto theirs = attachment_from_json(other.attachment);
    if (theirs && theirs->source.path == attachment.source.path)
      return fail(ErrorKind::refused,
                  fmt::format("domain '{}' has this volume already, as '{}'", domain.name, other.target),
                  "detach it there first");
  }
  return {};
}

Result<void> AttachmentFlows::serve(std::int64_t id, const DataPlaneDisk& disk) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto step = (*book)->begin_step(id, Step::serve);
  if (!step) return tl::unexpected(step.error());
  if (const auto size = machine_.data_plane().serve(disk); !size) {
    (void)(*book)->fail_step(*step, size.error());
    return tl::unexpected(size.error());
  }
  return (*book)->finish_step(*step, AttachmentState::connected);
}

Result<void> AttachmentFlows::withdraw(const AttachmentRecord& record, bool force) {
  const auto name = engine_disk_name(record.disk_xml);
  if (!name) return {};
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto step = (*book)->begin_step(record.id, Step::withdraw);
  if (!step) return tl::unexpected(step.error());
  if (auto done = machine_.data_plane().withdraw(*name); !done) {
    (void)(*book)->fail_step(*step, done.error());
    if (!force) return done;
    if (log_) log_(LogLevel::warning, fmt::format("the engine may still serve the disk: {}", describe(done.error())));
    return {};
  }
  const bool was_attached = record.state == AttachmentState::attached;
  return (*book)->finish_step(*step, was_attached ? AttachmentState::detached : record.state);
}

AttachmentFlows::AttachResult AttachmentFlows::attach_connected(const Volume& volume, const DomainState& domain,
                                                                const Connected& connected, const GuestDisks& guest) {
  const auto nothing = [](Error error) { return tl::unexpected(nothing_attached(std::move(error))); };
  const auto same = volume.driver->verify(*volume.connection_info, connected.attachment);
  if (!same) return nothing(same.error());
  auto decided = decide(volume, connected.attachment, domain, guest, connected.id);
  if (!decided) return nothing(decided.error());
  Explanation& explanation = decided->explanation;
  const auto book = journal();
  if (!book) return nothing(book.error());
  if (const auto kept = (*book)->keep_disk_xml(connected.id, explanation.xml); !kept) return nothing(kept.error());
  if (decided->served)
    if (const auto served = serve(connected.id, *decided->served); !served) return nothing(served.error());
  const auto step = (*book)->begin_step(connected.id, Step::attach);
  if (!step) return nothing(step.error());
  if (auto done = machine_.hypervisor().attach_disk(domain.uuid, explanation.xml); !done) {
    (void)(*book)->fail_step(*step, done.error().error);
    return tl::unexpected(std::move(done).error());
  }
  if (const auto done = (*book)->finish_step(*step, AttachmentState::attached); !done) {
    const auto taken_back =
        machine_.hypervisor().detach_disk(domain.uuid, explanation.xml, volume.disk_info.dev, kDetachTimeout);
    return tl::unexpected(AttachFailure{done.error(), taken_back.has_value()});
  }
  return std::move(explanation);
}

/// Ends a failed attach: disconnects if that is safe, and gives the error that is to be reported.
Error AttachmentFlows::undo_attach(const Volume& volume, const DomainState& domain, const Connected& connected,
                                   AttachFailure failure) {
  Error& error = failure.error;
  if (!failure.gone) {
    error.message += "; the guest may still have the disk, so the volume stays connected";
    error.next += fmt::format("; then run aiolos detach --domain {} --target {}", domain.name, volume.disk_info.dev);
    return std::move(error);
  }
  const auto record = find_record(domain.uuid, volume.disk_info.dev);
  Result<void> undone;
  if (!record) undone = tl::unexpected(record.error());  // then it is not known whether the engine serves it
  if (record && *record) undone = withdraw(**record, /*force=*/false);
  if (undone)
    undone = disconnect(connected.id, *volume.driver, *volume.connection_info, &connected.attachment, /*force=*/false);
  if (!undone) {
    if (log_) log_(LogLevel::error, fmt::format("cleaning up after a failed attach: {}", describe(undone.error())));
    error.message += fmt::format("; disconnecting the volume again failed too: {}", undone.error().message);
    error.next += fmt::format(" (the volume is still connected: {})", undone.error().next);
  }
  return std::move(error);
}

// ---- detaching ------------------------------------------------------------------------------------------------------

/// A disk that Aiolos did not attach, or one that nobody has heard of.
Error AttachmentFlows::unknown_disk(const DomainState& domain, const std::string& target, const GuestDisks& guest) {
  if (guest.find(target))
    return {ErrorKind::refused,
            fmt::format("disk '{}' of domain '{}' was not attached by Aiolos", target, domain.name),
            "use what attached it; detach takes it with --force",
            {}};
  Error error{ErrorKind::bad_input,
              fmt::format("domain '{}' has no disk '{}'", domain.name, target),
              guest.targets().empty() ? std::string("it has no disks") : "its disks: " + guest.targets(),
              {}};
  const auto book = journal();
  const auto records = book ? (*book)->open_attachments() : tl::unexpected(book.error());
  if (!records) return error;
  for (const AttachmentRecord& record : *records)
    if (record.domain_name == domain.name && record.target == target)
      error.next += fmt::format(
          "; the journal holds '{}' of another domain of that name: aiolos detach --domain {} "
          "--target {} --uri '{}'",
          target, record.domain_uuid, target, record.hypervisor);
  return error;
}

Result<void> AttachmentFlows::detach(const std::string& name, const std::string& target, bool force) {
  Hypervisor& hypervisor = machine_.hypervisor();
  const auto domain = hypervisor.find_domain(name);
  if (!domain) return detach_from_gone(name, target, force, domain.error());
  const auto lock = lock_disk(domain->uuid, target);
  if (!lock) return tl::unexpected(lock.error());
  const auto guest = guest_disks(domain->uuid);
  if (!guest) return tl::unexpected(guest.error());
  const auto record = find_record(domain->uuid, target, /*closed_too=*/true);
  if (!record) return tl::unexpected(record.error());

  const disk::DiskConfig* disk = guest->find(target);
  if (!*record || (*record)->state == AttachmentState::closed) {
    if (*record && !disk) return {};  // detached before: the same answer again
    if (!disk || !force) return tl::unexpected(unknown_disk(*domain, target, *guest));
    return hypervisor.detach_disk(domain->uuid, disk::emit(*disk), target, kDetachTimeout);
  }
  const bool is_foreign = disk && !may_be_of(**record, *disk);
  if (!disk || is_foreign) {
    auto disconnected = disconnect_record(**record, /*leftovers_possible=*/true, force);
    if (disconnected && is_foreign) return tl::unexpected(unknown_disk(*domain, target, *guest));
    return disconnected;
  }
  if (const auto same = verify_record(**record); !same && !force) {
    Error error = same.error();
    if (error.kind == ErrorKind::refused) error.next += "; detach --force takes the disk from the guest all the same";
    return tl::unexpected(std::move(error));
  }
  const auto pools = planned_pools(*domain);
  if (auto detached = detach_disk(**record, *disk); !detached) return detached;
  if (pools) shrink_pools(*domain, *pools);
  return disconnect_record(**record, /*leftovers_possible=*/false, force);  // QEMU has just let go of it
}

/// Whether a connected volume still is what its record says.
Result<void> AttachmentFlows::verify_record(const AttachmentRecord& record) {
  if (record.attachment.is_null()) return {};
  const auto driver = registry_.find(record.volume_type);
  if (!driver) return tl::unexpected(driver.error());
  const auto attachment = attachment_from_json(record.attachment);
  if (!attachment) return tl::unexpected(attachment.error());
  return (*driver)->verify(record.connection_info, *attachment);
}

Result<void> AttachmentFlows::detach_disk(const AttachmentRecord& record, const disk::DiskConfig& disk) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto step = (*book)->begin_step(record.id, Step::detach);
  if (!step) return tl::unexpected(step.error());
  const auto done =
      machine_.hypervisor().detach_disk(record.domain_uuid, disk::emit(disk), record.target, kDetachTimeout);
  if (done) return (*book)->finish_step(*step, AttachmentState::detached);
  // A guest that has not answered yet may still do: such a step stays unfinished.
  if (done.error().kind != ErrorKind::retry) (void)(*book)->fail_step(*step, done.error());
  return done;
}

Result<void> AttachmentFlows::disconnect_record(const AttachmentRecord& record, bool leftovers_possible, bool force) {
  if (leftovers_possible && !record.disk_xml.empty())
    if (auto held = machine_.hypervisor().release_leftovers(record.domain_uuid, record.disk_xml); !held) return held;
  if (auto done = withdraw(record, force); !done) return done;
  const auto driver = registry_.find(record.volume_type);
  if (!driver) return tl::unexpected(driver.error());
  std::optional<Attachment> attachment;
  if (!record.attachment.is_null()) {
    auto parsed = attachment_from_json(record.attachment);
    if (!parsed) return tl::unexpected(parsed.error());
    attachment = std::move(*parsed);
  }
  return disconnect(record.id, **driver, record.connection_info, attachment ? &*attachment : nullptr, force);
}

Result<void> AttachmentFlows::disconnect(std::int64_t id, Driver& driver, const Json& connection_info,
                                         const Attachment* attachment, bool force) {
  const auto lock = lock_target(driver, connection_info);
  if (!lock) return tl::unexpected(lock.error());
  return disconnect_locked(id, driver, connection_info, attachment, force);
}

Result<void> AttachmentFlows::disconnect_locked(std::int64_t id, Driver& driver, const Json& connection_info,
                                                const Attachment* attachment, bool force) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto step = (*book)->begin_step(id, Step::disconnect);
  if (!step) return tl::unexpected(step.error());
  if (auto done = driver.disconnect(connection_info, attachment, force, (*book)->volume_journal(id, *step).get());
      !done) {
    (void)(*book)->fail_step(*step, done.error());
    return done;
  }
  return (*book)->finish_step(*step, AttachmentState::closed);
}

/// A guest that is gone took its disks along, but its volumes are still connected. That it is gone can only be said by
/// the hypervisor that had it: another one does not know it either.
Result<void> AttachmentFlows::detach_from_gone(const std::string& name, const std::string& target, bool force,
                                               const Error& gone) {
  if (gone.kind != ErrorKind::bad_input) return tl::unexpected(gone);
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto records = (*book)->open_attachments();
  if (!records) return tl::unexpected(records.error());
  std::vector<const AttachmentRecord*> matching;
  for (const AttachmentRecord& record : *records)
    if (record.target == target && (record.domain_uuid == name || record.domain_name == name))
      matching.push_back(&record);
  if (matching.empty()) return tl::unexpected(gone);
  if (matching.size() > 1)
    return fail(ErrorKind::refused,
                fmt::format("the journal holds '{}' of {} domains named '{}'", target, matching.size(), name),
                "name the domain by its UUID");
  const AttachmentRecord& found = *matching.front();
  if (found.hypervisor != hypervisor_uri_)
    return fail(ErrorKind::refused,
                fmt::format("'{}' of domain '{}' was attached through {}, and {} does not know that domain", target,
                            name, found.hypervisor, hypervisor_uri_),
                fmt::format("use --uri '{}'", found.hypervisor));
  const auto alone = lock_migration(found.domain_uuid, std::chrono::milliseconds(0));  // it may be on its way here
  if (!alone) return tl::unexpected(alone.error());
  const auto lock = lock_disk(found.domain_uuid, target);
  if (!lock) return tl::unexpected(lock.error());
  const auto come = machine_.hypervisor().find_domain(found.domain_uuid);
  if (come) return fail(ErrorKind::retry, fmt::format("domain '{}' has come meanwhile", come->name), "run it again");
  if (come.error().kind != ErrorKind::bad_input) return tl::unexpected(come.error());
  const auto record = find_record(found.domain_uuid, target);  // another may have finished meanwhile
  if (!record) return tl::unexpected(record.error());
  return *record ? disconnect_record(**record, /*leftovers_possible=*/false, force) : Result<void>();
}

// ---- changing what is attached --------------------------------------------------------------------------------------

Result<AttachmentFlows::AttachedDisk> AttachmentFlows::lock_attached(const std::string& name,
                                                                     const std::string& target) {
  const auto domain = running_domain(name);
  if (!domain) return tl::unexpected(domain.error());
  auto lock = lock_disk(domain->uuid, target);
  if (!lock) return tl::unexpected(lock.error());
  const auto guest = guest_disks(domain->uuid);
  if (!guest) return tl::unexpected(guest.error());
  auto record = find_record(domain->uuid, target);
  if (!record) return tl::unexpected(record.error());
  if (!*record || !guest->find(target)) return tl::unexpected(unknown_disk(*domain, target, *guest));
  return AttachedDisk{*std::move(lock), **std::move(record)};
}

Result<std::uint64_t> AttachmentFlows::extend(const std::string& name, const std::string& target, std::uint64_t bytes) {
  constexpr auto kLargest = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (bytes == 0 || bytes % 512 != 0 || bytes > kLargest)
    return fail(ErrorKind::bad_input, fmt::format("{} bytes is no size of a disk", bytes),
                "use a multiple of 512 bytes");
  const auto disk = lock_attached(name, target);
  if (!disk) return tl::unexpected(disk.error());
  if (const auto same = verify_record(disk->record); !same) return tl::unexpected(same.error());
  const auto size = extend_storage(disk->record, bytes);
  if (!size) return size;
  if (const auto done = resize_disk(disk->record, *size); !done) return tl::unexpected(done.error());
  return size;
}

Result<void> AttachmentFlows::set_qos(const std::string& name, const std::string& target, const Json& qos_specs) {
  const auto limits = parse_qos_limits(JsonDocument(qos_specs).root());
  if (!limits) return tl::unexpected(limits.error());
  const auto own = lock_attached(name, target);
  if (!own) return tl::unexpected(own.error());
  const AttachmentRecord& record = own->record;
  if (engine_disk_name(record.disk_xml))
    return fail(ErrorKind::refused, fmt::format("aiolos-engine does the I/O of '{}', and knows no limits", target),
                "attach it with disk_info {\"data_plane\": \"qemu\"} to limit it");
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto step = (*book)->begin_step(record.id, Step::limit);
  if (!step) return tl::unexpected(step.error());
  if (auto done = machine_.hypervisor().set_iotune(record.domain_uuid, target, limits->values, limits->group); !done) {
    (void)(*book)->fail_step(*step, done.error());
    return done;
  }
  // What the journal keeps is what attaching again answers.
  auto kept = disk::parse(record.disk_xml);
  if (!kept) return tl::unexpected(kept.error());
  set_iotune(kept->disk, *limits);
  if (auto done = (*book)->keep_disk_xml(record.id, disk::emit(kept->disk)); !done) return done;
  return (*book)->finish_step(*step, record.state);
}

Result<std::uint64_t> AttachmentFlows::extend_storage(const AttachmentRecord& record, std::uint64_t bytes) {
  const auto driver = registry_.find(record.volume_type);
  if (!driver) return tl::unexpected(driver.error());
  if (!((*driver)->capabilities() & AIOLOS_CAN_EXTEND))
    return fail(ErrorKind::refused, fmt::format("the driver '{}' cannot extend volumes", (*driver)->name()),
                "extend the volume by other means, then tell the guest with virsh blockresize");
  const auto attachment = attachment_from_json(record.attachment);
  if (!attachment) return tl::unexpected(attachment.error());
  const auto lock = lock_target(**driver, record.connection_info);
  if (!lock) return tl::unexpected(lock.error());
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto step = (*book)->begin_step(record.id, Step::extend);
  if (!step) return tl::unexpected(step.error());
  const auto size =
      (*driver)->extend(record.connection_info, *attachment, bytes, (*book)->volume_journal(record.id, *step).get());
  if (!size) {
    (void)(*book)->fail_step(*step, size.error());
    return size;
  }
  if (auto done = (*book)->finish_step(*step, record.state); !done) return tl::unexpected(done.error());
  return size;
}

Result<void> AttachmentFlows::resize_disk(const AttachmentRecord& record, std::uint64_t bytes) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto step = (*book)->begin_step(record.id, Step::resize);
  if (!step) return tl::unexpected(step.error());
  const auto name = engine_disk_name(record.disk_xml);
  auto done = name ? machine_.data_plane().resize(*name).map([](std::uint64_t) {})
                   : machine_.hypervisor().resize_disk(record.domain_uuid, record.target, bytes);
  if (!done) {
    (void)(*book)->fail_step(*step, done.error());
    return done;
  }
  return (*book)->finish_step(*step, record.state);
}

}  // namespace aiolos
