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
  if (*pid) guest.real = machine_.host_probe().process_aio(**pid, domain.uuid);
  for (const disk::DiskConfig& disk : disks->all()) {
    if (!is_planned(disk)) continue;
    const auto type = types->find(disk.target.dev.value_or(""));
    guest.domain.disks.push_back(
        plan_disk(disk, guest.domain.controllers, storage_speed(config_, type == types->end() ? "" : type->second)));
  }
  guest.domain.contexts = guest.real ? guest.real->contexts : wanted_contexts(guest.domain);
  return guest;
}

Result<PlanHost> AttachmentFlows::plan_host_facts() {
  const auto facts = decider_.host();
  if (!facts) return tl::unexpected(facts.error());
  PlanHost host;
  host.cpus = facts->cpus.value_or(1);
  host.iothreads = iothread_facts(*facts);
  host.io_uring_usable = io_uring_usable(*facts);
  if (facts->aio_nr && facts->aio_max_nr)
    host.contexts_left =
        static_cast<unsigned>((std::max(*facts->aio_max_nr, *facts->aio_nr) - *facts->aio_nr) / kAioEventsPerContext);
  return host;
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

}  // namespace aiolos
