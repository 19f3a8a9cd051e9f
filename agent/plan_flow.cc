// SPDX-License-Identifier: Apache-2.0
// The queue plan of a guest: its disks and engines read into plain data, planned in core, and set where that is wanted.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "attachment_flows.h"
#include "disk_speed.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

// Setting a few numbers takes milliseconds; who waits longer waits for something stuck.
constexpr auto kEnginesLockTimeout = 30s;

bool is_native(const PlanDisk& disk) { return disk.mode == AioMode::native && !disk.network; }

/// AioContexts that the disks a guest has ask for.
unsigned wanted_contexts(const PlanDomain& domain) {
  std::vector<unsigned> engines;
  for (const PlanDisk& disk : domain.disks)
    if (is_native(disk) && std::find(engines.begin(), engines.end(), disk.engine) == engines.end())
      engines.push_back(disk.engine);
  return native_contexts(engines);
}

/// QEMU whose main loop has a context opens a native disk on an iothread that can't get one, and runs it on threads;
/// only its log says so.
std::vector<std::string> differences(const PlanDomain& domain, const ProcessAio& real) {
  const unsigned wanted = wanted_contexts(domain);
  if (real.contexts >= wanted) return {};
  std::vector<std::string> suspects;
  for (const PlanDisk& disk : domain.disks)
    if (is_native(disk) && (real.contexts == 0 || disk.engine != kMainLoop)) suspects.push_back(disk.target);
  return {fmt::format(
      "{} of the {} AIO contexts that its native disks ask for are there: {} of {} run on threads, whatever "
      "the XML says, unless the guest has not started them yet (look at fs.aio-nr and fs.aio-max-nr, and "
      "at the guest's own log)",
      real.contexts, wanted, suspects.size() == 1 ? "this" : "one or more", fmt::join(suspects, ", "))};
}

/// Of the changes of a plan, for replan().
bool grows(const PlanChange& change, const QueuePlan&) {
  return change.kind == PlanChange::Kind::pool_max && change.to > change.from.value_or(0);
}

}  // namespace

Result<std::map<std::string, std::string>> AttachmentFlows::volume_types(const std::string& domain_uuid) {
  std::map<std::string, std::string> types;
  if (!has_journal()) return types;
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto records = (*book)->open_attachments();
  if (!records) return tl::unexpected(records.error());
  for (const AttachmentRecord& record : *records)
    if (record.domain_uuid == domain_uuid && record.hypervisor == hypervisor_uri_)
      types[record.target] = record.volume_type;
  return types;
}

Result<AttachmentFlows::PlannedGuest> AttachmentFlows::planned_guest(const DomainState& domain, bool ask_qemu) {
  Hypervisor& hypervisor = machine_.hypervisor();
  auto engines = hypervisor.domain_engines(domain.uuid, ask_qemu);
  if (!engines) return tl::unexpected(engines.error());
  const auto disks = guest_disks(domain.uuid);
  if (!disks) return tl::unexpected(disks.error());
  const auto types = volume_types(domain.uuid);
  if (!types) return tl::unexpected(types.error());
  const auto pid = hypervisor.domain_pid(domain.uuid);
  if (!pid) return tl::unexpected(pid.error());

  PlannedGuest guest;
  guest.domain.name = domain.name;
  guest.domain.running = domain.running;
  guest.domain.vcpus = engines->vcpus;
  guest.domain.engines = std::move(engines->engines);
  guest.domain.controllers = std::move(engines->controllers);
  guest.pid = *pid;
  if (*pid) guest.real = machine_.host_probe().process_aio(**pid, domain.uuid);
  for (const disk::DiskConfig& disk : disks->all()) {
    if (disk.type == disk::SourceType::vhostuser) guest.served.push_back(disk.target.dev.value_or(""));
    if (!is_planned(disk)) continue;
    const auto type = types->find(disk.target.dev.value_or(""));
    guest.domain.disks.push_back(
        plan_disk(disk, guest.domain.controllers, storage_speed(config_, type == types->end() ? "" : type->second)));
  }
  guest.domain.contexts = guest.real ? guest.real->contexts : wanted_contexts(guest.domain);
  return guest;
}

PlanHost AttachmentFlows::plan_host_of(const HostFacts& facts, std::uint64_t reserved) {
  PlanHost host;
  host.cpus = facts.cpus.value_or(1);
  host.iothreads = iothread_facts(facts);
  host.io_uring_usable = io_uring_usable(facts);
  if (!facts.aio_nr || !facts.aio_max_nr) return host;
  const std::uint64_t taken = *facts.aio_nr + reserved;
  host.contexts_left = static_cast<unsigned>((std::max(*facts.aio_max_nr, taken) - taken) / kAioEventsPerContext);
  return host;
}

Result<PlanHost> AttachmentFlows::plan_host_facts() {
  const auto facts = decider_.host();
  if (!facts) return tl::unexpected(facts.error());
  const auto reserved = outstanding_reservations();
  if (!reserved) return tl::unexpected(reserved.error());
  std::uint64_t contexts = 0;
  for (const ReservedContexts& each : *reserved) contexts += each.contexts;
  return plan_host_of(*facts, contexts * kAioEventsPerContext);
}

Result<std::vector<ReservedContexts>> AttachmentFlows::outstanding_reservations() {
  std::vector<ReservedContexts> outstanding;
  if (!has_journal()) return outstanding;
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto claimed = (*book)->aio_reservations();
  if (!claimed) return tl::unexpected(claimed.error());
  std::map<std::string, unsigned> held;  // by guest, with what was claimed for it already
  for (const AioReservation& claim : *claimed) {
    const auto process = claim.pid ? machine_.host_probe().process_aio(*claim.pid, claim.domain_uuid) : std::nullopt;
    if (claim.pid && !process) continue;  // that QEMU is gone, and with it what it would have taken
    unsigned& has = held.try_emplace(claim.domain_uuid, process ? process->contexts : 0).first->second;
    if (claim.contexts <= has) continue;
    outstanding.push_back({claim.domain_name, claim.domain_uuid, claim.target, claim.contexts - has, claim.since});
    has = claim.contexts;
  }
  return outstanding;
}

Result<AioBudget> AttachmentFlows::aio_budget() {
  AioBudget budget;
  const auto kernel = machine_.host_probe().facts();
  if (!kernel) return tl::unexpected(kernel.error());
  budget.aio_nr = kernel->aio_nr;
  budget.aio_max_nr = kernel->aio_max_nr;
  const auto domains = machine_.hypervisor().running_domains();
  if (!domains) return tl::unexpected(domains.error());
  for (const DomainState& domain : *domains) {
    const auto pid = machine_.hypervisor().domain_pid(domain.uuid);
    if (!pid || !*pid) continue;  // gone meanwhile, or on another host
    if (const auto process = machine_.host_probe().process_aio(**pid, domain.uuid))
      budget.domains.push_back({domain.name, domain.uuid, **pid, *process});
  }
  auto reserved = outstanding_reservations();
  if (!reserved) return tl::unexpected(reserved.error());
  budget.reserved = std::move(*reserved);
  return budget;
}

Result<PlanReport> AttachmentFlows::plan_once(const DomainState& domain) {
  const auto guest = planned_guest(domain, /*ask_qemu=*/true);
  if (!guest) return tl::unexpected(guest.error());
  const auto host = plan_host_facts();
  if (!host) return tl::unexpected(host.error());
  PlanReport report;
  report.domain = domain.name;
  report.domain_uuid = domain.uuid;
  report.running = domain.running;
  report.plan = plan_queues(guest->domain, *host, config_.plan.limits);
  report.real = guest->real;
  report.wanted_contexts = wanted_contexts(guest->domain);
  if (guest->real) report.differences = differences(guest->domain, *guest->real);
  if (!guest->served.empty())
    report.plan.notes.push_back(
        fmt::format("{}: another process does the I/O (vhost-user), which sizes its own queue: none of this guest's "
                    "engines is sized for it",
                    fmt::join(guest->served, ", ")));
  return report;
}

Result<void> AttachmentFlows::apply_change(const std::string& domain_uuid, const PlanChange& change) {
  if (change.kind == PlanChange::Kind::add_iothread)
    return machine_.hypervisor().add_iothread(domain_uuid, change.engine);
  return machine_.hypervisor().set_engine(domain_uuid, change.engine, *engine_property(change.kind), change.to);
}

Result<PlanReport> AttachmentFlows::plan(const std::string& name, bool apply) {
  const auto domain = apply ? running_domain(name) : machine_.hypervisor().find_domain(name);
  if (!domain) return tl::unexpected(domain.error());
  if (!apply) return plan_once(*domain);
  const auto lock = locks_.acquire("engines of " + domain->uuid, kEnginesLockTimeout);
  if (!lock) return tl::unexpected(lock.error());
  const auto before = plan_once(*domain);
  if (!before) return before;
  std::vector<PlanChange> applied;
  for (const PlanChange& change : before->plan.changes) {
    if (!change.live) continue;
    if (const auto done = apply_change(domain->uuid, change); !done) {
      Error error = done.error();
      error.message = fmt::format("{} could not be set to {}: {}", describe(change), change.to, error.message);
      if (!applied.empty()) error.next += fmt::format("; {} changes before it were made and stay", applied.size());
      return tl::unexpected(std::move(error));
    }
    applied.push_back(change);
  }
  auto after = plan_once(*domain);
  if (after) after->applied = std::move(applied);
  return after;
}

// ---- what attach and detach do by themselves ------------------------------------------------------------------------

Result<AttachmentFlows::Pools> AttachmentFlows::planned_pools(const DomainState& domain) {
  if (!config_.plan.automatic || config_.aio.profile == AioProfile::nova || !domain.running) return Pools{};
  return wanted_pools(domain);
}

Result<AttachmentFlows::Pools> AttachmentFlows::wanted_pools(const DomainState& domain) {
  Pools pools;
  const auto guest = planned_guest(domain, /*ask_qemu=*/false);
  if (!guest) return tl::unexpected(guest.error());
  const auto host = plan_host_facts();
  if (!host) return tl::unexpected(host.error());
  for (const PlannedEngine& engine : plan_queues(guest->domain, *host, config_.plan.limits).engines)
    pools[engine.id] = {engine.pool_max, engine.before.pool_max.value_or(kPoolPerDisk)};
  return pools;
}

bool AttachmentFlows::are_enough(const Pools& pools) {
  return std::all_of(pools.begin(), pools.end(), [](const auto& pool) { return pool.second.wanted <= pool.second.has; });
}

Result<bool> AttachmentFlows::needs_larger_pools(const DomainState& domain) {
  return wanted_pools(domain).map([](const Pools& pools) {
    return std::any_of(pools.begin(), pools.end(), [](const auto& pool) { return pool.second.wanted > kPoolPerDisk; });
  });
}

Result<void> AttachmentFlows::replan(const DomainState& domain,
                                     const std::function<bool(const PlanChange&, const QueuePlan&)>& wanted,
                                     std::vector<PlanChange>& done) {
  const auto lock = locks_.acquire("engines of " + domain.uuid, kEnginesLockTimeout);
  if (!lock) return tl::unexpected(lock.error());
  const auto report = plan_once(domain);
  if (!report) return tl::unexpected(report.error());
  for (const PlanChange& change : report->plan.changes) {
    if (!change.live || !wanted(change, report->plan)) continue;
    if (auto applied = apply_change(domain.uuid, change); !applied) return applied;
    done.push_back(change);
  }
  return {};
}

void AttachmentFlows::grow_pools(const DomainState& domain, std::vector<std::string>& notes) {
  const auto pools = planned_pools(domain);
  if (pools && are_enough(*pools)) return;
  std::vector<PlanChange> raised;
  const Result<void> done = pools ? replan(domain, grows, raised) : tl::unexpected(pools.error());
  for (const PlanChange& change : raised)
    notes.push_back(fmt::format("{} raised from {} to {}: {}", describe(change), change.from.value_or(0), change.to,
                                change.because));
  if (done) return;
  notes.push_back(fmt::format("the AIO engines were not sized anew: {} (aiolos plan --domain {} --apply does it later)",
                              describe(done.error()), domain.name));
  if (log_) log_(LogLevel::warning, notes.back());
}

void AttachmentFlows::shrink_pools(const DomainState& domain, const Pools& before) {
  const auto after = planned_pools(domain);
  const auto is_less = [&](unsigned engine) {
    const auto was = before.find(engine);
    const auto is = after->find(engine);
    return was != before.end() && is != after->end() && is->second.wanted < was->second.wanted;
  };
  if (after && std::none_of(after->begin(), after->end(), [&](const auto& pool) { return is_less(pool.first); }))
    return;
  const auto gives_back = [&](const PlanChange& change, const QueuePlan& plan) {
    const bool is_pool = change.kind == PlanChange::Kind::pool_max || change.kind == PlanChange::Kind::pool_min;
    return is_pool && is_less(change.engine) && plan.engine(change.engine)->before.pool_max == before.at(change.engine).wanted;
  };
  std::vector<PlanChange> given_back;
  const Result<void> done = after ? replan(domain, gives_back, given_back) : tl::unexpected(after.error());
  if (!done && log_)
    log_(LogLevel::warning,
         fmt::format("the AIO engines of '{}' were not sized anew: {}", domain.name, describe(done.error())));
}

// ---- what a migration does by itself --------------------------------------------------------------------------------

std::vector<PlanChange> AttachmentFlows::raise_pools(const DomainState& domain, std::vector<std::string>& notes) {
  const auto pools = wanted_pools(domain);
  if (pools && are_enough(*pools)) return {};
  std::vector<PlanChange> raised;
  const Result<void> done = pools ? replan(domain, grows, raised) : tl::unexpected(pools.error());
  for (const PlanChange& change : raised)
    notes.push_back(fmt::format("{} raised from {} to {} while it moves", describe(change),
                                change.from.value_or(kPoolPerDisk), change.to));
  if (!done) notes.push_back(fmt::format("thread pools stay as they are while it moves: {}", describe(done.error())));
  return raised;
}

void AttachmentFlows::put_back_pools(const DomainState& domain, const std::vector<PlanChange>& raised,
                                     std::vector<std::string>& notes) {
  if (raised.empty()) return;
  const auto left = [&](const Error& why) {
    notes.push_back(fmt::format("its thread pools may be larger than before: {} (aiolos plan --domain {} shows them)",
                                describe(why), domain.name));
  };
  const auto lock = locks_.acquire("engines of " + domain.uuid, kEnginesLockTimeout);
  if (!lock) return left(lock.error());
  const auto now = machine_.hypervisor().domain_engines(domain.uuid, /*ask_qemu=*/true);
  if (!now) return left(now.error());
  for (PlanChange change : raised) {
    const auto is_raised = [&](const PlanEngine& engine) {
      return engine.id == change.engine && engine.pool_max == change.to;
    };
    if (std::none_of(now->engines.begin(), now->engines.end(), is_raised)) continue;
    change.to = change.from.value_or(kPoolPerDisk);
    if (const auto done = apply_change(domain.uuid, change); !done) left(done.error());
  }
}

}  // namespace aiolos
