// SPDX-License-Identifier: Apache-2.0
#include "render.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace aiolos::cli {
namespace {

std::string layer_line(const LayerFacts& layer) {
  std::string line = fmt::format("  {} ({}, {}): allocation {}", layer.path, layer.format, to_string(layer.kind),
                                 to_string(layer.allocation));
  if (layer.o_direct) line += *layer.o_direct ? ", O_DIRECT works" : ", no O_DIRECT";
  if (layer.virtual_size) line += fmt::format(", {} bytes", *layer.virtual_size);
  if (layer.logical_block_size) line += fmt::format(", logical blocks of {} bytes", *layer.logical_block_size);
  if (!layer.filesystem.empty()) line += fmt::format(", on {}", layer.filesystem);
  line += '\n';
  for (const std::string& probe : layer.probes) line += fmt::format("    {}\n", probe);
  return line;
}

template <typename T>
std::string or_unknown(const std::optional<T>& value) {
  return value ? fmt::format("{}", *value) : std::string("not known");
}

std::string or_none(const std::optional<std::uint64_t>& value) {
  return value ? fmt::format("{}", *value) : std::string("not set");
}

std::string version_or_unknown(const std::optional<Version>& value) {
  return value ? version_string(*value) : std::string("not known");
}

std::string yes_no(const std::optional<bool>& value) {
  if (!value) return "not known";
  return *value ? "yes" : "no";
}

}  // namespace

std::string render(const Explanation& explanation) {
  const AioDecision& decision = explanation.decision;
  std::string text = fmt::format("AIO mode: {}\n", decision.mode ? to_string(*decision.mode) : "none set");
  for (const std::string& reason : decision.reasons) text += fmt::format("  because {}\n", reason);
  for (const Rejection& rejection : decision.rejected)
    text += fmt::format("  not {}: {}\n", to_string(rejection.mode), rejection.because);
  if (explanation.storage) {
    text += "Storage, outermost layer first:\n";
    for (const LayerFacts& layer : explanation.storage->chain) text += layer_line(layer);
  } else {
    text += "Storage: no path of this host, not probed\n";
  }
  if (explanation.drain) {
    text += fmt::format("Drain at a live migration: {}\n", describe(*explanation.drain));
    for (const std::string& help : explanation.drain->helps) text += fmt::format("  what would help: {}\n", help);
  }
  for (const std::string& note : explanation.notes) text += fmt::format("Note: {}\n", note);
  text += explanation.xml;
  return text;
}

std::string render(const std::vector<AttachmentListing>& attachments) {
  std::string text;
  for (const AttachmentListing& each : attachments) {
    text += fmt::format("{} of {} ({}, {}): {} since {}: {} volume '{}'\n", each.target, each.domain, each.domain_uuid,
                        each.hypervisor, each.state, each.since, each.volume_type, each.serial);
    for (const std::string& resource : each.holds) text += fmt::format("  holds {}\n", resource);
    for (const std::string& effect : each.unfinished_effects)
      text += fmt::format("  begun and not finished: {}\n", effect);
    if (!each.unfinished.empty())
      text += fmt::format("  not known how it ended: {}; run aiolos reconcile\n", fmt::join(each.unfinished, ", "));
  }
  return text;
}

std::string render(const std::vector<ReconcileEntry>& entries) {
  std::string text;
  for (const ReconcileEntry& entry : entries)
    text += fmt::format("{} of {} ({}): {}: {}\n", entry.target, entry.domain, entry.domain_uuid,
                        to_string(entry.outcome), entry.reason);
  return text;
}

std::string render(const std::vector<DriverListing>& drivers) {
  std::string text;
  for (const DriverListing& driver : drivers) {
    if (driver.rejected) {
      text += fmt::format("not loaded: {}\n  {}\n  next: {}\n", driver.file, describe(*driver.rejected),
                          driver.rejected->next);
      continue;
    }
    text += fmt::format("{} {}  [{}]\n", driver.name, driver.version, fmt::join(driver.types, ", "));
    if (!driver.summary.empty()) text += fmt::format("  {}\n", driver.summary);
    text += fmt::format("  can: {}; threads: {}\n  {}\n",
                        driver.capabilities.empty() ? std::string("describe")
                                                    : fmt::format("describe, {}", fmt::join(driver.capabilities, ", ")),
                        driver.thread_model, driver.file);
    if (!driver.configuration_key.empty())
      text += fmt::format("  configuration: {}: {}\n", driver.configuration_key, driver.configuration_defaults.dump());
  }
  return text;
}

std::string render(const AioBudget& budget) {
  std::string text = fmt::format("AioContexts left    {} (of {} events each)\n", or_unknown(budget.contexts_left()),
                                 kAioEventsPerContext);
  for (const AioBudget::Domain& each : budget.domains)
    text += fmt::format("  {} ({}, process {}) holds {}\n", each.name, each.uuid, each.pid, each.aio.contexts);
  for (const ReservedContexts& each : budget.reserved)
    text += fmt::format("  {} for {} of {} ({}) are reserved since {}\n", each.contexts, each.target, each.domain,
                        each.domain_uuid, each.since);
  return text;
}

std::string render(const PlanReport& report) {
  std::string text =
      fmt::format("{} ({}), {}\n", report.domain, report.domain_uuid, report.running ? "running" : "shut off");
  for (const PlanChange& change : report.applied)
    text += fmt::format("done: {}: {} -> {}\n", describe(change), or_none(change.from), change.to);
  for (const PlannedEngine& engine : report.plan.engines) {
    text +=
        fmt::format("{}{}: {}\n", engine_name(engine.id), engine.is_new ? " (new)" : "",
                    engine.disks.empty() ? std::string("no disks") : fmt::format("{}", fmt::join(engine.disks, ", ")));
    text += fmt::format("  threads {}..{} -> {}..{}\n", engine.before.pool_min.value_or(0),
                        engine.before.pool_max.value_or(kPoolPerDisk), engine.pool_min, engine.pool_max);
    for (const std::string& reason : engine.reasons) text += fmt::format("    because {}\n", reason);
  }
  for (const PlannedDisk& disk : report.plan.disks) {
    text += fmt::format("{}: {}, {}\n", disk.target, disk.mode ? to_string(*disk.mode) : "no mode set",
                        engine_name(disk.engine));
    for (const std::string& reason : disk.reasons) text += fmt::format("    {}\n", reason);
  }
  for (const PlannedController& controller : report.plan.controllers) {
    text += fmt::format("SCSI controller {}: {} of {} units used\n", controller.index, controller.units_used,
                        controller.units_most);
    for (const std::string& reason : controller.reasons) text += fmt::format("    {}\n", reason);
  }
  for (const PlanChange& change : report.plan.changes)
    text += fmt::format("{}: {}: {} -> {}\n    because {}\n",
                        change.live ? "plan --apply" : "only a restart, or taking the disk out and in",
                        describe(change), or_none(change.from), change.to, change.because);
  if (report.real)
    text += fmt::format("AIO contexts: {} wanted by the XML, {} held by QEMU ({} io_uring descriptors)\n",
                        report.wanted_contexts, report.real->contexts, report.real->io_urings);
  for (const std::string& difference : report.differences) text += fmt::format("Not as it says: {}\n", difference);
  for (const std::string& note : report.plan.notes) text += fmt::format("Note: {}\n", note);
  return text;
}

std::string render(const HostFacts& host) {
  std::string text;
  text += fmt::format("kernel              {}\n", version_or_unknown(host.kernel));
  text += fmt::format("libvirt             {}\n", version_or_unknown(host.libvirt));
  text += fmt::format("QEMU                {}\n", version_or_unknown(host.qemu));
  text += fmt::format("QEMU has io_uring   {}\n", yes_no(host.qemu_has_io_uring));
  text += fmt::format("io_uring works      {}\n", yes_no(host.io_uring_works));
  text += fmt::format("io_uring_disabled   {}\n", or_unknown(host.io_uring_disabled));
  text += fmt::format("fs.aio-nr           {}\n", or_unknown(host.aio_nr));
  text += fmt::format("fs.aio-max-nr       {}\n", or_unknown(host.aio_max_nr));
  const IoThreadFacts iothreads = iothread_facts(host);
  text += fmt::format("iothread pool size  {}\n", yes_no(iothreads.thread_pool));
  text += fmt::format("queues to iothreads {}\n", yes_no(iothreads.queue_mapping));
  text += fmt::format("iothread <poll>     {}\n", yes_no(iothreads.poll_in_xml));
  return text;
}

std::string render(const Error& error) {
  std::string text = fmt::format("aiolos: {}\n", describe(error));
  if (!error.next.empty()) text += fmt::format("  next: {}\n", error.next);
  return text;
}

}  // namespace aiolos::cli
