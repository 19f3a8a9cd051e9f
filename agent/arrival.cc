// SPDX-License-Identifier: Apache-2.0
#include "arrival.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "aiolos/disk/disk_xml.h"
#include "aiolos/host/domain_document.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

// The source's libvirt may know sooner than this host's that a guest does not come.
constexpr auto kGoneTimeout = 30s;
constexpr auto kGonePause = 500ms;

bool is_served(const disk::DiskConfig& disk) { return disk.type == disk::SourceType::vhostuser; }

tl::unexpected<Error> out_of_turn(std::string_view what) {
  return fail(ErrorKind::bug, fmt::format("the source of a migration asked to {} out of turn", what),
              "have both hosts run the same version of Aiolos");
}

/// `document` with the disks that were prepared, each with what the document itself says of its front end.
Result<std::string> with_prepared(const std::string& document, const std::vector<PreparedDisk>& prepared) {
  const auto disks = GuestDisks::parse(document);
  if (!disks) return tl::unexpected(disks.error());
  std::map<std::string, std::string> replaced;
  for (const PreparedDisk& each : prepared) {
    const disk::DiskConfig* const before = disks->find(each.target);
    if (!before) continue;  // a definition need not have what the running guest has
    auto decided = disk::parse(each.xml);
    if (!decided) return tl::unexpected(decided.error());
    const auto kept = keep_front_end(*before, std::move(decided->disk));
    if (!kept) return tl::unexpected(kept.error());
    replaced[each.target] = disk::emit(*kept);
  }
  return replace_disks(document, replaced);
}

}  // namespace

std::unique_ptr<MigrationPeer> AttachmentFlows::arrival() { return std::make_unique<Arrival>(*this); }

Result<void> AttachmentFlows::Arrival::check_may_come(const MovingGuest& guest, bool rehearse) {
  if (auto able = check_can_migrate(flows_.hypervisor_uri_); !able) return able;
  const auto here = flows_.machine_.hypervisor().find_domain(guest.uuid);
  if (!here && here.error().kind != ErrorKind::bad_input) return tl::unexpected(here.error());
  if (here && here->running)
    return fail(ErrorKind::refused,
                fmt::format("guest '{}' ({}) runs on the destination already", guest.name, guest.uuid),
                "name another destination; if it came with an earlier migration, run aiolos reconcile on both hosts");
  if (rehearse) return {};
  const auto left = flows_.settle_guest(guest.uuid);
  return left ? all_settled(*left) : tl::unexpected(left.error());
}

void AttachmentFlows::Arrival::open_flows(const MovingGuest& guest, GuestDisks disks) {
  config_ = flows_.config_;
  config_.plan.automatic = false;  // nothing can be set of a guest that is not here
  hypervisor_.emplace(flows_.machine_.hypervisor(), guest, std::move(disks));
  machine_.emplace(flows_.machine_, *hypervisor_);
  decider_.emplace(config_, *machine_, flows_.registry_);
  incoming_.emplace(config_, flows_.hypervisor_uri_, *machine_, flows_.registry_, *decider_, flows_.locks_,
                    flows_.log_);
}

Result<PreparedGuest> AttachmentFlows::Arrival::prepare(const MovingGuest& guest, bool rehearse) {
  if (!uuid_.empty()) return out_of_turn("prepare");
  auto lock = flows_.lock_migration(guest.uuid);
  if (!lock) return tl::unexpected(lock.error());
  if (auto may = check_may_come(guest, rehearse); !may) return tl::unexpected(may.error());
  auto disks = GuestDisks::parse(guest.xml);
  if (!disks) return tl::unexpected(disks.error());
  open_flows(guest, *disks);
  lock_ = std::move(*lock);
  uuid_ = guest.uuid;
  name_ = guest.name;
  engines_ = guest.engines;
  if (auto kept = rehearse ? Result<void>() : flows_.keep_lowered(uuid_, name_, guest.lowered_queues); !kept)
    return tl::unexpected(undo(kept.error()));
  auto made = prepare_disks(guest, *disks, rehearse).and_then([&](std::vector<PreparedDisk>&& prepared) {
    return make_guest(guest, std::move(prepared));
  });
  if (!made) return tl::unexpected(undo(made.error()));
  if (rehearse) lock_.reset();
  return made;
}

Result<std::vector<PreparedDisk>> AttachmentFlows::Arrival::prepare_disks(const MovingGuest& guest,
                                                                          const GuestDisks& disks, bool rehearse) {
  std::vector<PreparedDisk> prepared;
  for (const MovingVolume& volume : guest.volumes) {
    const disk::DiskConfig* const before = disks.find(volume.target);
    if (!before)
      return fail(ErrorKind::bad_input, fmt::format("guest '{}' has no disk '{}'", guest.name, volume.target),
                  disks.targets().empty() ? std::string("it has no disks") : "its disks: " + disks.targets());
    auto disk = prepare_disk(volume, *before, rehearse);
    if (!disk) {
      Error error = disk.error();
      error.message = fmt::format("'{}' on the destination: {}", volume.target, error.message);
      return tl::unexpected(std::move(error));
    }
    prepared.push_back(std::move(*disk));
  }
  return prepared;
}

Result<PreparedDisk> AttachmentFlows::Arrival::prepare_disk(const MovingVolume& volume, const disk::DiskConfig& before,
                                                            bool rehearse) {
  Json disk_info = volume.disk_info;
  if (!disk_info.is_object() || disk_info.value("dev", Json()) != volume.target)
    return fail(ErrorKind::bad_input, fmt::format("its disk_info is not of '{}'", volume.target),
                fmt::format("write {{\"dev\": \"{}\"}}: a disk keeps its target", volume.target));
  // The guest has a device of one of them, whatever this host would choose for a new disk.
  if (flows_.config_.aio.profile != AioProfile::nova)
    disk_info["data_plane"] = to_string(is_served(before) ? DataPlaneKind::engine : DataPlaneKind::qemu);
  auto decided = incoming_->attach(uuid_, volume.connection_info, disk_info, rehearse);
  if (!decided) return tl::unexpected(decided.error());
  PreparedDisk prepared{volume.target, decided->decision.mode, std::move(decided->xml),
                        std::move(decided->decision.reasons), std::move(decided->notes)};
  if (rehearse) return prepared;
  prepared.xml = hypervisor_->attached(volume.target);
  prepared_[volume.target] = prepared.xml;
  const auto record = incoming_->find_record(uuid_, volume.target);
  if (!record) return tl::unexpected(record.error());
  const auto book = incoming_->journal();
  if (!book) return tl::unexpected(book.error());
  if (*record)
    if (const auto kept = (*book)->keep_disk_xml((*record)->id, prepared.xml); !kept)
      return tl::unexpected(kept.error());
  return prepared;
}

Result<PreparedGuest> AttachmentFlows::Arrival::make_guest(const MovingGuest& guest,
                                                           std::vector<PreparedDisk> disks) const {
  PreparedGuest made;
  auto xml = with_prepared(guest.xml, disks);
  if (!xml) return tl::unexpected(xml.error());
  made.xml = std::move(*xml);
  if (guest.persistent_xml) {
    auto persistent = with_prepared(*guest.persistent_xml, disks);
    if (!persistent) return tl::unexpected(persistent.error());
    made.persistent_xml = std::move(*persistent);
  }
  made.disks = std::move(disks);
  return made;
}

/// Ends a failed prepare.
Error AttachmentFlows::Arrival::undo(Error error) {
  const auto undone = cancel();
  if (undone) return error;
  error.message += fmt::format("; disconnecting what was connected there failed too: {}", undone.error().message);
  error.next += "; then run aiolos reconcile on the destination";
  return error;
}

Result<void> AttachmentFlows::Arrival::begin() {
  if (uuid_.empty() || !lock_) return out_of_turn("begin");
  return {};
}

Result<bool> AttachmentFlows::Arrival::has_guest() {
  if (uuid_.empty()) return out_of_turn("look for its guest");
  const auto domain = flows_.machine_.hypervisor().find_domain(uuid_);
  if (!domain && domain.error().kind != ErrorKind::bad_input) return tl::unexpected(domain.error());
  return domain && domain->running;
}

Result<void> AttachmentFlows::Arrival::check_has_disks(const std::string& uuid) {
  const auto guest = flows_.guest_disks(uuid);
  if (!guest) return tl::unexpected(guest.error());
  for (const auto& [target, xml] : prepared_) {
    const auto prepared = disk::parse(xml);
    const disk::DiskConfig* const disk = guest->find(target);
    if (!prepared || !disk || !same_source(prepared->disk, *disk))
      return fail(ErrorKind::hypervisor,
                  fmt::format("guest '{}' has come without '{}' as it was prepared", name_, target),
                  "look at its XML, then run aiolos reconcile on the destination");
  }
  return {};
}

Result<std::vector<std::string>> AttachmentFlows::Arrival::arrived() {
  const auto here = has_guest();
  if (!here) return tl::unexpected(here.error());
  if (!*here)
    return fail(ErrorKind::hypervisor, fmt::format("guest '{}' does not run on the destination", name_),
                "see where it runs, then run aiolos reconcile on both hosts");
  if (auto has = check_has_disks(uuid_); !has) return tl::unexpected(has.error());
  std::vector<std::string> notes;
  if (const auto named = flows_.name_process(uuid_); !named)
    notes.push_back(fmt::format("its AIO contexts stay reserved: {}", describe(named.error())));
  flows_.put_back_queues(uuid_, notes);
  restore_engines(notes);
  flows_.grow_pools(DomainState{name_, uuid_, true, false}, notes);
  lock_.reset();
  return notes;
}

/// What libvirt loses on the way: polling, batches, and the main loop's pool; and what was changed for the way.
Result<void> AttachmentFlows::Arrival::restore_engine(const PlanEngine& before, const PlanEngine& now,
                                                      std::vector<std::string>& notes) {
  const auto set = [&](EngineProperty property, const auto& wanted, const auto& has) -> Result<void> {
    if (!wanted || wanted == has) return {};
    auto done = flows_.machine_.hypervisor().set_engine(uuid_, before.id, property, *wanted);
    if (done)
      notes.push_back(fmt::format("{} of {} set to {} again", to_string(property), engine_name(before.id), *wanted));
    return done;
  };
  if (auto done = set(EngineProperty::aio_max_batch, before.aio_max_batch, now.aio_max_batch); !done) return done;
  // A guest's main loop has QEMU's own pool here, which is not smaller at its lower end; that of an iothread comes
  // along, and may have been raised for the time of the migration.
  if (auto done = set(EngineProperty::thread_pool_max, before.pool_max, now.pool_max); !done) return done;
  if (before.id == kMainLoop) return set(EngineProperty::thread_pool_min, before.pool_min, now.pool_min);
  return set(EngineProperty::poll_max_ns, before.poll_max_ns, now.poll_max_ns);
}

void AttachmentFlows::Arrival::restore_engines(std::vector<std::string>& notes) {
  if (engines_.empty()) return;
  const auto now = flows_.machine_.hypervisor().domain_engines(uuid_, /*ask_qemu=*/true);
  Result<void> done = now ? Result<void>() : tl::unexpected(now.error());
  for (const PlanEngine& before : engines_) {
    if (!done) break;
    const auto same = std::find_if(now->engines.begin(), now->engines.end(),
                                   [&](const PlanEngine& engine) { return engine.id == before.id; });
    if (same != now->engines.end()) done = restore_engine(before, *same, notes);
  }
  if (!done)
    notes.push_back(
        fmt::format("its AIO engines are not all set as they were: {} (aiolos plan --domain {} --apply sets "
                    "them by its disks)",
                    describe(done.error()), name_));
}

Result<bool> AttachmentFlows::Arrival::stays() {
  Clock& clock = flows_.machine_.clock();
  const auto deadline = clock.now() + kGoneTimeout;
  auto here = has_guest();
  while (here && *here && clock.now() < deadline) {
    clock.sleep_until(clock.now() + kGonePause);
    here = has_guest();
  }
  return here;
}

Result<void> AttachmentFlows::Arrival::cancel() {
  if (uuid_.empty() || !lock_) return {};
  const auto here = stays();
  if (!here) return tl::unexpected(here.error());
  Result<void> done;
  if (*here) {
    const auto settled = flows_.settle_guest(uuid_);
    done = settled ? all_settled(*settled) : tl::unexpected(settled.error());
    if (done)
      done = fail(ErrorKind::retry, fmt::format("guest '{}' is on the destination and keeps its volumes there", name_),
                  "see on which host it runs, then run aiolos reconcile on both");
  } else {
    if (const auto forgotten = flows_.put_back_queues(uuid_); !forgotten) done = tl::unexpected(forgotten.error());
    for (const auto& [target, xml] : prepared_)
      if (auto detached = incoming_->detach(uuid_, target, /*force=*/false); !detached && done) done = detached;
  }
  lock_.reset();
  return done;
}

}  // namespace aiolos
