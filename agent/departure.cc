// SPDX-License-Identifier: Apache-2.0
#include "departure.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "aiolos/disk/disk_xml.h"
#include "engine_disk.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

using Phase = MigrationStatus::Phase;

// How often a migration is looked at; and one that may have to be held.
constexpr auto kLook = 100ms;
// A guest whose disks are idle at one look may be busy at the switchover: the longest drain of this time counts.
constexpr auto kLately = 1s;
constexpr auto kLookCloser = 20ms;
// How long a rehearsal watches the disks.
constexpr auto kRehearsal = 1s;
// How long after a failure libvirt may need until it is known where the guest is.
constexpr auto kSettleTimeout = 30s;
constexpr auto kSettlePause = 500ms;
constexpr double kMiB = 1024.0 * 1024.0;

bool has_redacted(const Json& value) {
  if (value.is_string()) return value == kRedacted;
  return value.is_structured() && std::any_of(value.begin(), value.end(), has_redacted);
}

/// Whether two connection_info, of two hosts, can be of one volume. A guest that moved to another would write over it.
bool is_same_volume(const Json& given, const Json& known) {
  const auto same = [&](const char* key) { return given.value(key, Json()) == known.value(key, Json()); };
  return given.is_object() && same("driver_volume_type") && same("serial");
}

double milliseconds_of(std::chrono::microseconds time) { return static_cast<double>(time.count()) / 1000; }

/// Keeps the program's signals away from the threads that are started while it lives: the one that migrates must not
/// be the one that a handler interrupts.
class SignalsElsewhere {
 public:
  SignalsElsewhere() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsElsewhere(const SignalsElsewhere&) = delete;
  SignalsElsewhere& operator=(const SignalsElsewhere&) = delete;
  ~SignalsElsewhere() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

SwitchoverSettings switchover_settings(const MigrationRequest& request) {
  SwitchoverSettings settings;
  if (request.settings.downtime_limit_ms)
    settings.downtime_limit = std::chrono::milliseconds(*request.settings.downtime_limit_ms);
  settings.downtime_steps = request.settings.downtime_steps;
  settings.downtime_step_delay = request.settings.downtime_step_delay;
  settings.bandwidth_mib_s = request.settings.bandwidth_mib_s;
  settings.max_drain = request.max_drain;
  if (request.settings.post_copy) settings.post_copy_after = request.post_copy_after;
  settings.deadline = request.deadline;
  return settings;
}

Error stopped_error() {
  return {ErrorKind::retry, "the migration was ended as asked", "run it again when the guest may move", {}};
}

}  // namespace

Result<void> check_can_migrate(const std::string& uri) {
  if (!uri.starts_with("qemu:///embed")) return {};
  return fail(ErrorKind::refused, "libvirt's embedded driver cannot migrate: no other host can connect to it",
              "run the guests under a libvirt daemon: libvirt: {uri: \"qemu:///system\"}");
}

Result<MigrationReport> AttachmentFlows::migrate(const MigrationRequest& request, MigrationPeer& peer,
                                                 const MigrationWatch& watch) {
  return Departure(*this, request, peer, watch).run();
}

Result<MigrationReport> AttachmentFlows::Departure::run() {
  if (auto looked = look(); !looked) return tl::unexpected(looked.error());
  show(Phase::preparing, {});
  auto prepared = peer_.prepare(guest_, request_.dry_run);
  guest_ = {};  // with the secrets in it
  if (!prepared) return tl::unexpected(prepared.error());
  prepared_ = prepared->disks;
  if (request_.dry_run) {
    watch_before(kRehearsal);
    MigrationReport rehearsed = report();
    rehearsed.notes.emplace_back("dry run: nothing was changed");
    return rehearsed;
  }
  const auto moved = move(*prepared);
  show(Phase::settling, {});
  if (moved) return settle_moved(*moved);
  const Error error = reason_.value_or(moved.error());
  switch (find_place(asked_ && moved.error().kind == ErrorKind::retry)) {
    case Place::there: {
      MigrationReport arrived = settle_moved({});
      arrived.notes.push_back(fmt::format("libvirt's own answer was lost: {}", describe(moved.error())));
      return arrived;
    }
    case Place::unknown:
      return tl::unexpected(Error{ErrorKind::retry,
                                  fmt::format("it is not known where the guest is: {}", describe(error)),
                                  "see where it runs (virsh list on both hosts), then run aiolos reconcile on both",
                                  {}});
    default:
      return tl::unexpected(settle_failed(error));
  }
}

// ---- before anything is begun ---------------------------------------------------------------------------------------

Result<void> AttachmentFlows::Departure::look() {
  if (auto able = check_can_migrate(flows_.hypervisor_uri_); !able) return able;
  auto domain = flows_.running_domain(request_.domain);
  if (!domain) return tl::unexpected(domain.error());
  domain_ = std::move(*domain);
  auto lock = flows_.lock_migration(domain_.uuid);
  if (!lock) return tl::unexpected(lock.error());
  lock_ = std::move(*lock);
  if (auto alone = check_not_moving(); !alone) return alone;
  if (auto taken = take_records(); !taken) return taken;
  if (auto known = check_connections(); !known) return known;
  if (auto known = check_drains_known(); !known) return known;
  look_ahead();
  plan_queues();
  return read_guest();
}

/// What somebody else has begun is not to be steered or ended by us.
Result<void> AttachmentFlows::Departure::check_not_moving() {
  const auto moving = flows_.machine_.migrations().progress(domain_.uuid);
  if (!moving) return tl::unexpected(moving.error());
  if (!*moving) return {};
  return fail(ErrorKind::retry, fmt::format("domain '{}' is being migrated already", domain_.name),
              fmt::format("wait for the end of that, or end it: virsh domjobabort {}", domain_.name));
}

Result<void> AttachmentFlows::Departure::take_records() {
  const auto listed = flows_.records_of(domain_.uuid);
  if (!listed) return tl::unexpected(listed.error());
  const auto guest = flows_.guest_disks(domain_.uuid);
  if (!guest) return tl::unexpected(guest.error());
  for (const AttachmentRecord& record : *listed)
    if (auto taken = take_record(record, *guest); !taken) return taken;
  return {};
}

/// A volume that is to move has to be attached, settled, and what it was.
Result<void> AttachmentFlows::Departure::take_record(const AttachmentRecord& listed, const GuestDisks& guest) {
  auto lock = flows_.lock_disk(listed.domain_uuid, listed.target);
  if (!lock) return tl::unexpected(lock.error());
  const auto record = flows_.find_record(listed.domain_uuid, listed.target);
  if (!record) return tl::unexpected(record.error());
  if (!*record) return {};  // detached meanwhile
  const auto book = flows_.journal();
  if (!book) return tl::unexpected(book.error());
  const auto unfinished = (*book)->unfinished_steps((*record)->id);
  if (!unfinished) return tl::unexpected(unfinished.error());
  const disk::DiskConfig* const disk = guest.find(listed.target);
  if (!disk || (*record)->state != AttachmentState::attached || !unfinished->empty())
    return fail(ErrorKind::refused,
                fmt::format("'{}' of domain '{}' is {} and not settled", listed.target, domain_.name,
                            to_string((*record)->state)),
                "run aiolos reconcile first");
  if (auto same = flows_.verify_record(**record); !same) return same;
  modes_[listed.target] = disk->driver.io;
  const bool is_served = engine_disk_name((*record)->disk_xml).has_value();
  (is_served ? is_engine_ : is_stock_) = true;
  records_.push_back(std::move(**record));
  disk_locks_.push_back(std::move(*lock));
  return {};
}

Result<void> AttachmentFlows::Departure::check_connections() const {
  if (!request_.connections.is_object())
    return fail(ErrorKind::bad_input, "the connections are no JSON object",
                R"(write {"vdb": {"connection_info": {..}}})", "connections");
  for (const auto& [target, value] : request_.connections.items()) {
    const auto is_of = [&, name = target](const AttachmentRecord& record) { return record.target == name; };
    if (std::none_of(records_.begin(), records_.end(), is_of))
      return fail(ErrorKind::bad_input, fmt::format("Aiolos has attached no disk '{}' to '{}'", target, domain_.name),
                  "see aiolos attachments", "connections/" + target);
    if (!value.is_object() || !value.contains("connection_info"))
      return fail(ErrorKind::bad_input, fmt::format("'{}' has no connection_info", target),
                  fmt::format(R"(write {{"{}": {{"connection_info": {{..}}}}}})", target), "connections/" + target);
  }
  return {};
}

/// A limit that nobody can hold it to would hold the guest for ever.
Result<void> AttachmentFlows::Departure::check_drains_known() {
  const auto seen = look_at_stock_disks();
  if (!request_.max_drain) return {};
  const auto is_counted = [&](const std::string& target) {
    const auto is_it = [&](const DiskCounters& disk) { return disk.target == target; };
    return seen && std::any_of(seen->disks.begin(), seen->disks.end(), is_it);
  };
  std::vector<std::string> unknown;
  for (const AttachmentRecord& record : records_)
    if (!engine_disk_name(record.disk_xml) && !is_counted(record.target)) unknown.push_back(record.target);
  const bool is_anything_known = is_engine_ || (seen && !seen->disks.empty());
  if (unknown.empty() && is_anything_known) return {};
  return fail(ErrorKind::refused,
              (unknown.empty() ? std::string("libvirt counts the requests of no disk of this guest")
                               : fmt::format("libvirt does not count the requests of {}", fmt::join(unknown, ", "))) +
                  ", and the drain is not known without" +
                  (seen ? std::string() : fmt::format(": {}", describe(seen.error()))),
              "leave --max-drain out, or attach the volumes with disk_info {\"data_plane\": \"engine\"}");
}

Result<MovingVolume> AttachmentFlows::Departure::moving_volume(const AttachmentRecord& record) const {
  MovingVolume volume{record.target, record.connection_info, record.disk_info};
  if (const auto given = request_.connections.find(record.target); given != request_.connections.end()) {
    volume.connection_info = given->at("connection_info");
    volume.disk_info = given->value("disk_info", record.disk_info);
    if (!is_same_volume(volume.connection_info, record.connection_info))
      return fail(
          ErrorKind::refused,
          fmt::format("the connection_info given for '{}' is of another volume: its driver_volume_type or serial "
                      "is not that of the one that the guest has ({}, '{}')",
                      record.target, record.volume_type, record.serial),
          "give the connection_info of the same volume, as the destination is to connect it",
          "connections/" + record.target);
  }
  if (!has_redacted(volume.connection_info)) return volume;
  return fail(
      ErrorKind::refused,
      fmt::format("the connection_info of '{}' holds secrets, which the journal does not keep", record.target),
      fmt::format("give it again: --connections FILE with {{\"{}\": {{\"connection_info\": {{..}}}}}}", record.target));
}

Result<void> AttachmentFlows::Departure::read_guest() {
  guest_.name = domain_.name;
  guest_.uuid = domain_.uuid;
  for (const AttachmentRecord& record : records_) {
    auto volume = moving_volume(record);
    if (!volume) return tl::unexpected(volume.error());
    guest_.volumes.push_back(std::move(*volume));
  }
  auto lowered = lowered_now();
  if (!lowered) return tl::unexpected(lowered.error());
  guest_.lowered_queues = std::move(*lowered);
  auto xml = flows_.machine_.migrations().migratable_xml(domain_.uuid);
  if (!xml) return tl::unexpected(xml.error());
  guest_.xml = std::move(*xml);
  if (domain_.persistent) {
    auto persistent = flows_.machine_.migrations().persistent_xml(domain_.uuid);
    if (!persistent) return tl::unexpected(persistent.error());
    guest_.persistent_xml = std::move(*persistent);
  }
  // Asking QEMU taints the guest, so only one that has what libvirt forgets is asked.
  const auto engines = flows_.machine_.hypervisor().domain_engines(domain_.uuid, /*ask_qemu=*/false);
  if (!engines) return tl::unexpected(engines.error());
  const auto is_sized = flows_.needs_larger_pools(domain_);
  if (request_.dry_run || (engines->engines.size() < 2 && !is_sized.value_or(false))) return {};
  auto set = flows_.machine_.hypervisor().domain_engines(domain_.uuid, /*ask_qemu=*/true);
  if (set) guest_.engines = std::move(set->engines);
  return set ? Result<void>() : tl::unexpected(set.error());
}

/// What this migration lowers, and what an earlier one has and could not put back: the destination is to know of both.
Result<std::vector<LoweredQueue>> AttachmentFlows::Departure::lowered_now() const {
  std::vector<LoweredQueue> lowered = lowered_;
  if (!flows_.has_journal()) return lowered;
  const auto book = flows_.journal();
  if (!book) return tl::unexpected(book.error());
  const auto kept = (*book)->lowered_queues(flows_.hypervisor_uri_);
  if (!kept) return tl::unexpected(kept.error());
  for (const KeptQueue& each : *kept)
    if (each.domain_uuid == domain_.uuid) lowered.push_back(each.queue);
  return lowered;
}

void AttachmentFlows::Departure::look_ahead() {
  const auto guest = flows_.planned_guest(domain_, /*ask_qemu=*/false);
  for (const AttachmentRecord& record : records_) {
    const auto is_it = [&](const PlanDisk& disk) { return disk.target == record.target; };
    if (engine_disk_name(record.disk_xml)) {
      outlooks_[record.target] = engine_outlook(std::nullopt);
    } else if (guest) {
      const auto disk = std::find_if(guest->domain.disks.begin(), guest->domain.disks.end(), is_it);
      if (disk == guest->domain.disks.end()) continue;
      unsigned threads = kPoolPerDisk;
      for (const PlanEngine& engine : guest->domain.engines)
        if (engine.id == disk->engine) threads = engine.pool_max.value_or(kPoolPerDisk);
      outlooks_[record.target] = stock_outlook(*disk, guest->domain.vcpus, threads);
    }
  }
}

void AttachmentFlows::Departure::plan_queues() {
  if (request_.dry_run || !request_.guest_agent || !is_stock_) return;
  // An earlier migration that was cut off may have left them lowered.
  flows_.put_back_queues(domain_.uuid, notes_);
  lowered_ = flows_.queues_to_lower(domain_, records_, notes_);
}

/// The XML that is about to move was read a while ago.
Result<void> AttachmentFlows::Departure::check_unchanged() {
  const auto now = flows_.records_of(domain_.uuid);
  if (!now) return tl::unexpected(now.error());
  const auto same = [](const AttachmentRecord& a, const AttachmentRecord& b) { return a.id == b.id; };
  if (std::equal(now->begin(), now->end(), records_.begin(), records_.end(), same)) return {};
  return fail(ErrorKind::retry, fmt::format("domain '{}' was given another disk meanwhile", domain_.name),
              "run it again");
}

// ---- while it moves -------------------------------------------------------------------------------------------------

Result<MigrationResult> AttachmentFlows::Departure::move(const PreparedGuest& prepared) {
  settings_ = switchover_settings(request_);
  const auto drain = drain_lately();
  first_ = drains_;
  told_ = steer_switchover(settings_, {0ms, {}, drain}, {});
  told_.post_copy = told_.near = false;  // these are told once it runs
  MigrationOrder order{domain_.uuid, request_.destination, prepared.xml, prepared.persistent_xml.value_or(""),
                       request_.settings};
  if (request_.settings.downtime_limit_ms || told_.downtime_limit != kUsualDowntime)
    order.settings.downtime_limit_ms = static_cast<std::uint64_t>(told_.downtime_limit.count());
  order.settings.downtime_steps = 1;  // the others are told on the way
  if (auto same = check_unchanged(); !same) return tl::unexpected(same.error());
  if (is_stopped()) return tl::unexpected(stopped_error());
  if (auto kept = flows_.keep_lowered(domain_.uuid, domain_.name, lowered_); !kept) return tl::unexpected(kept.error());
  flows_.lower_queues(domain_.uuid, lowered_, notes_);
  if (request_.raise_pools && is_stock_) raised_ = flows_.raise_pools(domain_, notes_);
  if (auto begun = peer_.begin(); !begun) return tl::unexpected(begun.error());
  began_ = flows_.machine_.clock().now();
  asked_ = true;
  std::future<Result<MigrationResult>> moving;
  {
    const SignalsElsewhere while_it_starts;
    moving = std::async(std::launch::async,
                        [this, order = std::move(order)] { return flows_.machine_.migrations().migrate(order); });
  }
  watch(moving);
  return moving.get();
}

void AttachmentFlows::Departure::watch(std::future<Result<MigrationResult>>& moving) {
  Clock& clock = flows_.machine_.clock();
  const std::chrono::milliseconds look = request_.max_drain ? kLookCloser : kLook;
  while (moving.wait_for(0ms) != std::future_status::ready) {
    if (is_stopped() || reason_) give_up(stopped_error());
    const auto progress = flows_.machine_.migrations().progress(domain_.uuid);
    if (progress && *progress) {
      steer(**progress);
      clock.sleep_until(clock.now() + look);
    } else {
      moving.wait_for(look);  // not begun yet, or about to end
    }
  }
}

void AttachmentFlows::Departure::steer(const MigrationProgress& progress) {
  const auto elapsed = flows_.machine_.clock().now() - began_;
  const SwitchoverView view{std::chrono::duration_cast<std::chrono::milliseconds>(elapsed), progress, drain_lately()};
  if (const auto downtime = predicted_downtime(view)) downtime_ = downtime;
  const SwitchoverOrder order = steer_switchover(settings_, view, told_);
  tell(order);
  if (order.overdue) give_up(overdue_error(view));
  show(order.post_copy ? Phase::post_copy
       : order.held    ? Phase::held
       : order.near    ? Phase::switching_over
                       : Phase::copying,
       view);
}

/// What could not be told is told at the next look.
void AttachmentFlows::Departure::tell(const SwitchoverOrder& order) {
  Migrations& migrations = flows_.machine_.migrations();
  if (order.trickle) {
    if (!told_.trickle) {
      told_.trickle = migrations.hold(domain_.uuid).has_value();
      told_.downtime_limit = 0ms;  // it was set on the way, even where the rest failed
    }
  } else {
    bool free = true;  // a held guest goes only when both are set
    if (told_.trickle || order.bandwidth_mib_s != told_.bandwidth_mib_s)
      free = migrations.set_bandwidth(domain_.uuid, order.bandwidth_mib_s).has_value();
    if (free) told_.bandwidth_mib_s = order.bandwidth_mib_s;
    if (free && (told_.trickle || order.downtime_limit != told_.downtime_limit))
      free = migrations.set_downtime_limit(domain_.uuid, order.downtime_limit).has_value();
    if (free) {
      told_.downtime_limit = order.downtime_limit;
      told_.trickle = false;
    }
  }
  if (order.near != told_.near && (!is_engine_ || flows_.machine_.data_plane().switchover(domain_.uuid, order.near)))
    told_.near = order.near;
  if (order.post_copy && !told_.post_copy && migrations.start_post_copy(domain_.uuid)) told_.post_copy = true;
  told_.held = order.held;
}

/// The guest goes on here, unless it is too late for that: migrate() says which. Asked again until it is over, for what
/// has not begun yet cannot be ended.
void AttachmentFlows::Departure::give_up(Error reason) {
  if (told_.post_copy) return;  // then there is no way back
  if (!reason_) reason_ = std::move(reason);
  const auto ended = flows_.machine_.migrations().abort(domain_.uuid);
  if (!ended && flows_.log_)
    flows_.log_(LogLevel::warning, fmt::format("the migration could not be ended: {}", describe(ended.error())));
}

Error AttachmentFlows::Departure::overdue_error(const SwitchoverView& view) const {
  const auto seconds = settings_.deadline.count();
  if (told_.held)
    return {ErrorKind::retry,
            view.drain
                ? fmt::format("the guest was not moved within {} s: its drain would take {:.1f} ms, and --max-drain "
                              "is {:.1f} ms",
                              seconds, milliseconds_of(*view.drain), milliseconds_of(*settings_.max_drain))
                : fmt::format("the guest was not moved within {} s: its drain is not known", seconds),
            "move it when its disks are less busy, or allow a longer drain (docs/drain.md says what bounds it)",
            {}};
  return {ErrorKind::retry,
          fmt::format("the guest was not moved within {} s: it changes {:.1f} MiB of memory a second, and {:.1f} MiB a "
                      "second are copied",
                      seconds, static_cast<double>(view.progress.dirty_rate) / kMiB,
                      static_cast<double>(view.progress.bandwidth) / kMiB),
          "allow a longer --downtime-limit, more --bandwidth, --auto-converge or --post-copy-after, or a longer --deadline",
          {}};
}

std::optional<std::chrono::microseconds> AttachmentFlows::Departure::drain_lately() {
  const auto engine = engine_drain_lately();
  // A look that failed tells nothing new; a guest that is held is not let go by what was known before it.
  if (!look_at_stock_disks() && is_stock_ && request_.max_drain) return std::nullopt;
  const auto stock = stock_.longest();
  if ((is_engine_ && !engine) || (is_stock_ && !stock)) return std::nullopt;
  if (!engine) return stock;
  return std::max(*engine, stock.value_or(0us));
}

Result<GuestCounters> AttachmentFlows::Departure::look_at_stock_disks() {
  const bool may_taint = request_.ask_qemu && !request_.dry_run;
  auto seen = flows_.machine_.disk_statistics().look(domain_.uuid, may_taint);
  if (seen) stock_.see(flows_.machine_.clock().now(), *seen);
  return seen;
}

/// What counters say takes two looks at least.
void AttachmentFlows::Departure::watch_before(std::chrono::milliseconds time) {
  Clock& clock = flows_.machine_.clock();
  const auto end = clock.now() + time;
  (void)engine_drain_lately();
  while (look_at_stock_disks() && clock.now() < end && !is_stopped()) clock.sleep_until(clock.now() + kLook);
}

std::optional<std::chrono::microseconds> AttachmentFlows::Departure::engine_drain_lately() {
  if (!is_engine_) return std::nullopt;
  const auto drains = flows_.machine_.data_plane().drains(domain_.uuid);
  if (!drains || drains->empty()) return std::nullopt;
  std::chrono::microseconds longest{0};
  for (const DiskDrain& drain : *drains) {
    longest = std::max(longest, drain.forecast);
    // A disk that has stopped has nothing in flight any more: that would be no prediction.
    if (!drain.stopped) drains_[drain.disk] = drain;
  }
  const auto now = flows_.machine_.clock().now();
  lately_.emplace_back(now, longest);
  std::erase_if(lately_, [&](const auto& seen) { return seen.first < now - kLately; });
  for (const auto& [when, drain] : lately_) longest = std::max(longest, drain);
  return longest;
}

void AttachmentFlows::Departure::show(Phase phase, const SwitchoverView& view) const {
  if (!watch_.show) return;
  MigrationStatus status;
  status.phase = phase;
  status.progress = view.progress;
  status.drain = view.drain;
  status.downtime = predicted_downtime(view);
  const MigrationProgress& seen = view.progress;
  if (phase != Phase::held && seen.bandwidth > seen.dirty_rate)
    status.left = std::chrono::seconds(seen.remaining_bytes / (seen.bandwidth - seen.dirty_rate));
  watch_.show(status);
}

// ---- after it -------------------------------------------------------------------------------------------------------

/// @param may_run libvirt was asked, and may still be at it.
AttachmentFlows::Departure::Place AttachmentFlows::Departure::find_place(bool may_run) {
  Clock& clock = flows_.machine_.clock();
  const auto deadline = clock.now() + kSettleTimeout;
  while (may_run) {
    const auto running = flows_.machine_.migrations().progress(domain_.uuid);
    if (running && !*running) break;
    if (running) (void)flows_.machine_.migrations().abort(domain_.uuid);
    if (clock.now() >= deadline) return Place::unknown;
    clock.sleep_until(clock.now() + kSettlePause);
  }
  const auto here = flows_.machine_.hypervisor().find_domain(domain_.uuid);
  if (!here && here.error().kind != ErrorKind::bad_input) return Place::unknown;
  if (here && here->running) return Place::here;
  const auto there = peer_.has_guest();
  if (!there) return Place::unknown;
  return *there ? Place::there : Place::nowhere;
}

/// The guest did not move: all is as it was.
Error AttachmentFlows::Departure::settle_failed(Error error) {
  if (told_.near && is_engine_) (void)flows_.machine_.data_plane().switchover(domain_.uuid, false);
  if (const auto cancelled = peer_.cancel(); !cancelled) {
    error.message +=
        fmt::format("; disconnecting its volumes on the destination failed too: {}", describe(cancelled.error()));
    error.next += "; then run aiolos reconcile on the destination";
  }
  std::vector<std::string> left;
  flows_.put_back_queues(domain_.uuid, left);
  flows_.put_back_pools(domain_, raised_, left);
  settle_here(left);
  for (const std::string& each : left) error.message += "; " + each;
  return error;
}

/// Brings this host's records to their end by where the guest is. @param notes what is left.
void AttachmentFlows::Departure::settle_here(std::vector<std::string>& notes) {
  disk_locks_.clear();  // who settles a disk takes its lock
  const auto entries = flows_.settle_guest(domain_.uuid);
  const Result<void> done = entries ? all_settled(*entries) : tl::unexpected(entries.error());
  if (!done) notes.push_back(fmt::format("{} (run aiolos reconcile on this host)", describe(done.error())));
  lock_.reset();
}

/// A definition that stays here names the disks still, and settling by it would keep them connected.
void AttachmentFlows::Departure::disconnect_all(std::vector<std::string>& notes) {
  const auto here = flows_.machine_.hypervisor().find_domain(domain_.uuid);
  // libvirt says that a guest has moved also where the QEMU that it has left could not be ended.
  if (here ? here->running : here.error().kind != ErrorKind::bad_input) {
    notes.push_back(fmt::format("its volumes stay connected on this host: {} (end it, then run aiolos reconcile here)",
                                here ? "libvirt still has a QEMU of it here" : describe(here.error())));
    return;
  }
  for (const AttachmentRecord& record : records_)
    if (const auto done = flows_.disconnect_record(record, /*leftovers_possible=*/false, /*force=*/false); !done)
      notes.push_back(fmt::format("'{}' stays connected on this host: {}", record.target, describe(done.error())));
}

MigrationReport AttachmentFlows::Departure::settle_moved(const MigrationResult& result) {
  if (is_engine_)
    if (const auto after = flows_.machine_.data_plane().drains(domain_.uuid))
      for (const DiskDrain& drain : *after) {
        const auto [place, is_new] = drains_.try_emplace(drain.disk);
        DiskDrain& known = place->second;
        if (is_new) known.bound = drain.bound;
        known.count = drain.count;
        known.last = drain.last;
      }
  MigrationReport moved = report();
  moved.result = result;
  moved.downtime_predicted = downtime_;
  if (const auto arrived = peer_.arrived())
    moved.notes.insert(moved.notes.end(), arrived->begin(), arrived->end());
  else
    moved.notes.push_back(fmt::format("the guest has moved, but its destination says: {} ({})",
                                      describe(arrived.error()), arrived.error().next));
  flows_.put_back_queues(domain_.uuid, moved.notes);  // of a guest that is not here any more: forgets them
  if (domain_.persistent && !request_.settings.persistent) disconnect_all(moved.notes);
  settle_here(moved.notes);
  return moved;
}

MigrationReport AttachmentFlows::Departure::report() const {
  MigrationReport report;
  report.domain = domain_.name;
  report.domain_uuid = domain_.uuid;
  report.destination = request_.destination;
  report.dry_run = request_.dry_run;
  report.notes = notes_;
  for (const PreparedDisk& prepared : prepared_) {
    MovedDisk disk;
    disk.target = prepared.target;
    disk.before = modes_.at(prepared.target);
    disk.after = prepared.mode;
    disk.notes = prepared.notes;
    const auto name = engine_disk_name(prepared.xml);
    disk.engine = name.has_value();
    if (const auto drain = name ? drains_.find(*name) : drains_.end(); drain != drains_.end()) {
      disk.drain_predicted = drain->second.forecast;
      if (drain->second.bound > 0us) disk.drain_bound = drain->second.bound;
      const auto first = first_.find(*name);
      if (first != first_.end() && drain->second.count > first->second.count) disk.drain = drain->second.last;
    }
    if (const auto stock = name ? std::nullopt : stock_.of(prepared.target)) disk.drain_predicted = stock->drain;
    if (const auto outlook = outlooks_.find(prepared.target); outlook != outlooks_.end())
      disk.outlook = outlook->second;
    if (disk.engine && disk.outlook && drains_.contains(*name))
      disk.outlook = engine_outlook(drains_.at(*name).bound);
    report.disks.push_back(std::move(disk));
  }
  return report;
}

}  // namespace aiolos
