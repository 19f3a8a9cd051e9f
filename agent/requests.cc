// SPDX-License-Identifier: Apache-2.0
#include "requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

namespace aiolos {
namespace {

Result<Json> drivers(Agent& agent, const JsonView&) { return Json{{"drivers", to_json(agent.drivers())}}; }

Result<Json> host(Agent& agent, const JsonView&) {
  const auto facts = agent.host();
  if (!facts) return tl::unexpected(facts.error());
  const auto budget = agent.aio_budget();
  if (!budget) return tl::unexpected(budget.error());
  Json answer = to_json(*facts);
  answer["aio"] = to_json(*budget);
  return answer;
}

Result<std::string> string_at(const JsonView& request, std::string_view key) {
  return request.at(key).and_then([](const JsonView& value) { return value.string(); });
}

/// The volume of a request and the disk that it is to be.
struct VolumeMembers {
  const Json& connection_info;
  const Json& disk_info;
};

Result<VolumeMembers> volume_at(const JsonView& request) {
  const auto connection = request.at("connection_info");
  if (!connection) return tl::unexpected(connection.error());
  const auto disk = request.at("disk_info");
  if (!disk) return tl::unexpected(disk.error());
  return VolumeMembers{connection->json(), disk->json()};
}

/// The guest of a request and the name of a disk of it.
struct DiskMembers {
  std::string domain;
  std::string target;
};

Result<DiskMembers> disk_at(const JsonView& request) {
  auto domain = string_at(request, "domain");
  if (!domain) return tl::unexpected(domain.error());
  auto target = string_at(request, "target");
  if (!target) return tl::unexpected(target.error());
  return DiskMembers{std::move(*domain), std::move(*target)};
}

Result<Json> disk_xml(Agent& agent, const JsonView& request) {
  return volume_at(request)
      .and_then([&](const VolumeMembers& volume) { return agent.disk_xml(volume.connection_info, volume.disk_info); })
      .map([](std::string xml) {
        return Json{{"xml", std::move(xml)}};
      });
}

Result<Json> explain(Agent& agent, const JsonView& request) {
  return volume_at(request)
      .and_then([&](const VolumeMembers& volume) { return agent.explain(volume.connection_info, volume.disk_info); })
      .map([](const Explanation& explanation) { return to_json(explanation); });
}

Result<Json> attach(Agent& agent, const JsonView& request) {
  const auto domain = string_at(request, "domain");
  if (!domain) return tl::unexpected(domain.error());
  const auto volume = volume_at(request);
  if (!volume) return tl::unexpected(volume.error());
  const auto dry_run = request.find_boolean("dry_run");
  if (!dry_run) return tl::unexpected(dry_run.error());
  return agent.attach(*domain, volume->connection_info, volume->disk_info, dry_run->value_or(false))
      .map([](const Explanation& explanation) { return to_json(explanation); });
}

Result<Json> detach(Agent& agent, const JsonView& request) {
  const auto disk = disk_at(request);
  if (!disk) return tl::unexpected(disk.error());
  const auto force = request.find_boolean("force");
  if (!force) return tl::unexpected(force.error());
  return agent.detach(disk->domain, disk->target, force->value_or(false)).map([] { return Json::object(); });
}

/// A size of a disk: no file or device is larger than what off_t holds.
Result<std::uint64_t> size_at(const JsonView& request) {
  const auto value = request.at("size");
  if (!value) return tl::unexpected(value.error());
  auto size = value->unsigned_integer();
  constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();
  if (size && *size > kLargest)
    return fail(ErrorKind::bad_input, fmt::format("{} bytes is no size of a disk", *size),
                fmt::format("use a multiple of 512 bytes up to {}", kLargest), value->pointer());
  return size;
}

Result<Json> extend(Agent& agent, const JsonView& request) {
  const auto disk = disk_at(request);
  if (!disk) return tl::unexpected(disk.error());
  const auto size = size_at(request);
  if (!size) return tl::unexpected(size.error());
  return agent.extend(disk->domain, disk->target, *size).map([](std::uint64_t bytes) { return Json{{"size", bytes}}; });
}

Result<Json> qos(Agent& agent, const JsonView& request) {
  const auto disk = disk_at(request);
  if (!disk) return tl::unexpected(disk.error());
  const auto specs = request.at("qos_specs");
  if (!specs) return tl::unexpected(specs.error());
  return agent.set_qos(disk->domain, disk->target, specs->json()).map([] { return Json::object(); });
}

Result<Json> plan(Agent& agent, const JsonView& request) {
  const auto domain = string_at(request, "domain");
  if (!domain) return tl::unexpected(domain.error());
  const auto apply = request.find_boolean("apply");
  if (!apply) return tl::unexpected(apply.error());
  return agent.plan(*domain, apply->value_or(false)).map([](const PlanReport& report) { return to_json(report); });
}

Result<Json> attachments(Agent& agent, const JsonView&) {
  return agent.attachments().map([](const auto& list) { return Json{{"attachments", to_json(list)}}; });
}

Result<Json> reconcile(Agent& agent, const JsonView&) {
  return agent.reconcile().map([](const auto& entries) { return Json{{"reconciled", to_json(entries)}}; });
}

struct CommandRow {
  std::string_view name;
  Result<Json> (*run)(Agent&, const JsonView&);
};

constexpr std::array kCommands{
    CommandRow{"drivers", drivers},     CommandRow{"host", host},     CommandRow{"disk_xml", disk_xml},
    CommandRow{"explain", explain},     CommandRow{"attach", attach}, CommandRow{"detach", detach},
    CommandRow{"extend", extend},       CommandRow{"qos", qos},       CommandRow{"attachments", attachments},
    CommandRow{"reconcile", reconcile}, CommandRow{"plan", plan},
};

Result<Json> dispatch(Agent& agent, const JsonView& request) {
  const auto name = string_at(request, "command");
  if (!name) return tl::unexpected(name.error());
  std::vector<std::string_view> known;
  for (const CommandRow& row : kCommands) {
    if (row.name == *name) return row.run(agent, request);
    known.push_back(row.name);
  }
  return fail(ErrorKind::bad_input, fmt::format("unknown command '{}'", *name),
              fmt::format("use one of {}", fmt::join(known, ", ")), "/command");
}

}  // namespace

Json to_json(const Error& error) {
  Json object = {{"kind", to_string(error.kind)}, {"message", error.message}, {"next", error.next}};
  if (!error.where.empty()) object["where"] = error.where;
  return {{"error", std::move(object)}};
}

Json to_json(const std::vector<DriverListing>& drivers) {
  Json list = Json::array();
  for (const DriverListing& driver : drivers) {
    if (driver.rejected) {
      list.push_back({{"file", driver.file}, {"rejected", to_json(*driver.rejected)["error"]}});
      continue;
    }
    list.push_back({{"name", driver.name},
                    {"version", driver.version},
                    {"summary", driver.summary},
                    {"types", driver.types},
                    {"capabilities", driver.capabilities},
                    {"thread_model", driver.thread_model},
                    {"file", driver.file},
                    {"configuration", Json::object()}});
    if (!driver.configuration_key.empty())
      list.back()["configuration"][driver.configuration_key] = driver.configuration_defaults;
  }
  return list;
}

Json to_json(const std::vector<AttachmentListing>& attachments) {
  Json list = Json::array();
  for (const AttachmentListing& each : attachments)
    list.push_back({{"hypervisor", each.hypervisor},
                    {"domain", each.domain},
                    {"domain_uuid", each.domain_uuid},
                    {"target", each.target},
                    {"volume_type", each.volume_type},
                    {"serial", each.serial},
                    {"state", each.state},
                    {"since", each.since},
                    {"unfinished", each.unfinished},
                    {"unfinished_effects", each.unfinished_effects},
                    {"holds", each.holds}});
  return list;
}

Json to_json(const std::vector<ReconcileEntry>& entries) {
  Json list = Json::array();
  for (const ReconcileEntry& entry : entries) {
    list.push_back({{"hypervisor", entry.hypervisor},
                    {"domain", entry.domain},
                    {"domain_uuid", entry.domain_uuid},
                    {"target", entry.target},
                    {"serial", entry.serial},
                    {"outcome", to_string(entry.outcome)},
                    {"reason", entry.reason}});
    if (entry.error) list.back()["error"] = to_json(*entry.error)["error"];
  }
  return list;
}

std::optional<std::uint64_t> AioBudget::contexts_left() const {
  if (!aio_nr || !aio_max_nr) return std::nullopt;
  std::uint64_t taken = *aio_nr;
  for (const ReservedContexts& each : reserved) taken += each.contexts * kAioEventsPerContext;
  return (std::max(*aio_max_nr, taken) - taken) / kAioEventsPerContext;
}

Json to_json(const AioBudget& budget) {
  Json domains = Json::array();
  for (const AioBudget::Domain& each : budget.domains)
    domains.push_back({{"name", each.name},
                       {"uuid", each.uuid},
                       {"pid", each.pid},
                       {"contexts", each.aio.contexts},
                       {"events", each.aio.contexts * kAioEventsPerContext},
                       {"io_urings", each.aio.io_urings}});
  Json reserved = Json::array();
  for (const ReservedContexts& each : budget.reserved)
    reserved.push_back({{"domain", each.domain},
                        {"uuid", each.domain_uuid},
                        {"target", each.target},
                        {"contexts", each.contexts},
                        {"events", each.contexts * kAioEventsPerContext},
                        {"since", each.since}});
  const auto left = budget.contexts_left();
  return {{"domains", std::move(domains)},
          {"reserved", std::move(reserved)},
          {"contexts_left", left ? Json(*left) : Json(nullptr)}};
}

Json to_json(const PlanReport& report) {
  Json applied = Json::array();
  for (const PlanChange& change : report.applied) applied.push_back(to_json(change));
  Json real = nullptr;
  if (report.real)
    real = {{"aio_contexts", report.real->contexts},
            {"aio_contexts_wanted", report.wanted_contexts},
            {"io_urings", report.real->io_urings}};
  return {{"domain", report.domain},      {"uuid", report.domain_uuid}, {"running", report.running},
          {"plan", to_json(report.plan)}, {"real", std::move(real)},    {"differences", report.differences},
          {"applied", std::move(applied)}};
}

Json run_request(Agent& agent, const Json& request) {
  const auto answer = dispatch(agent, JsonView(request));
  return answer ? *answer : to_json(answer.error());
}

}  // namespace aiolos
