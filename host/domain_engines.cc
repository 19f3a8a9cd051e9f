// SPDX-License-Identifier: Apache-2.0
#include "domain_engines.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <pugixml.hpp>

#include "disk_removal.h"
#include "libvirt_error.h"
#include "qemu_monitor.h"
#include "signal_block.h"
#include "typed_parameters.h"

namespace aiolos {
namespace {

constexpr const char* kMainLoopObject = "main-loop";

std::optional<unsigned> number(const pugi::xml_node& node, const char* attribute) {
  const pugi::xml_attribute found = node.attribute(attribute);
  return found ? std::optional(found.as_uint()) : std::nullopt;
}

PlanEngine engine_from(const pugi::xml_node& node, unsigned id) {
  PlanEngine engine;
  engine.id = id;
  engine.pool_min = number(node, "thread_pool_min");
  engine.pool_max = number(node, "thread_pool_max");
  // libvirt 9.4 and newer; before it was dropped. Source: libvirt formatdomain, "IOThreads Allocation".
  if (const auto poll = number(node.child("poll"), "max")) engine.poll_max_ns = *poll;
  return engine;
}

/// QEMU's name of the object. Source: libvirt qemu_command.c, qemuBuildIOThreadCommandLine.
std::string object_of(unsigned engine) {
  return engine == kMainLoop ? std::string(kMainLoopObject) : fmt::format("iothread{}", engine);
}

/// QEMU's name of the property.
std::string_view qemu_name(EngineProperty property) {
  switch (property) {
    case EngineProperty::thread_pool_min:
      return "thread-pool-min";
    case EngineProperty::thread_pool_max:
      return "thread-pool-max";
    case EngineProperty::poll_max_ns:
      return "poll-max-ns";
    case EngineProperty::aio_max_batch:
      return "aio-max-batch";
  }
  return {};
}

Result<bool> has_main_loop(const QemuMonitor& qemu) {
  const Result<Json> objects = qemu.run("qom-list", {{"path", "/objects"}});
  if (!objects) return tl::unexpected(objects.error());
  return std::any_of(objects->begin(), objects->end(),
                     [](const Json& object) { return object.value("name", std::string()) == kMainLoopObject; });
}

Result<std::uint64_t> get_property(const QemuMonitor& qemu, unsigned engine, EngineProperty property) {
  const Result<Json> value =
      qemu.run("qom-get", {{"path", "/objects/" + object_of(engine)}, {"property", qemu_name(property)}});
  if (!value) return tl::unexpected(value.error());
  // A maximum may be -1, which is no number of threads: QEMU then has as many as it likes.
  return value->is_number_unsigned() ? value->get<std::uint64_t>() : std::numeric_limits<int>::max();
}

/// What QEMU says of one engine's pool and batch. An older QEMU has no such property, and says so for the first.
Result<void> ask_pool(const QemuMonitor& qemu, PlanEngine& engine) {
  const auto least = get_property(qemu, engine.id, EngineProperty::thread_pool_min);
  if (!least) return tl::unexpected(least.error());
  const auto most = get_property(qemu, engine.id, EngineProperty::thread_pool_max);
  if (!most) return tl::unexpected(most.error());
  const auto batch = get_property(qemu, engine.id, EngineProperty::aio_max_batch);
  if (!batch) return tl::unexpected(batch.error());
  engine.pool_min = static_cast<unsigned>(*least);
  engine.pool_max = static_cast<unsigned>(*most);
  engine.aio_max_batch = *batch;
  return {};
}

Result<void> ask_engines(const QemuMonitor& qemu, DomainEngines& engines) {
  const Result<Json> iothreads = qemu.run("query-iothreads");
  if (!iothreads) return tl::unexpected(iothreads.error());
  for (const Json& iothread : *iothreads) put_iothread(iothread, engines);
  const Result<bool> main_loop = has_main_loop(qemu);
  if (!main_loop) return tl::unexpected(main_loop.error());
  for (PlanEngine& engine : engines.engines) {
    if (engine.id == kMainLoop && !*main_loop) {
      // Nobody has set anything of it: QEMU's defaults.
      engine.pool_min = 0;
      engine.pool_max = kPoolPerDisk;
      engine.aio_max_batch = 0;
    } else if (const auto asked = ask_pool(qemu, engine); !asked) {
      return asked;
    }
  }
  return {};
}

/// By QEMU itself. The main loop is an object only once somebody has set something of it.
Result<void> set_in_qemu(const QemuMonitor& qemu, unsigned engine, EngineProperty property, std::uint64_t value) {
  if (engine == kMainLoop) {
    const Result<bool> there = has_main_loop(qemu);
    if (!there) return tl::unexpected(there.error());
    if (!*there)
      if (const auto made = qemu.run("object-add", {{"qom-type", kMainLoopObject}, {"id", kMainLoopObject}}); !made)
        return tl::unexpected(made.error());
  }
  const auto set = qemu.run(
      "qom-set", {{"path", "/objects/" + object_of(engine)}, {"property", qemu_name(property)}, {"value", value}});
  return set ? Result<void>() : tl::unexpected(set.error());
}

bool has_iothread(const std::string& domain_xml, unsigned id) {
  const DomainEngines engines = engines_of(domain_xml);
  return std::any_of(engines.engines.begin(), engines.engines.end(),
                     [id](const PlanEngine& engine) { return engine.id == id; });
}

/// Source: libvirt 9.0, qemuValidateDomainDefVhostUserRequireSharedMemory.
bool has_shared_memory(const pugi::xml_node& domain) {
  const auto is_shared = [](const pugi::xml_attribute& access) { return std::string_view(access.value()) == "shared"; };
  if (is_shared(domain.child("memoryBacking").child("access").attribute("mode"))) return true;
  const auto cells = domain.child("cpu").child("numa").children("cell");
  return cells.begin() != cells.end() && std::all_of(cells.begin(), cells.end(), [&](const pugi::xml_node& cell) {
           return is_shared(cell.attribute("memAccess"));
         });
}

}  // namespace

DomainEngines engines_of(const std::string& domain_xml) {
  DomainEngines found;
  pugi::xml_document document;
  (void)document.load_string(domain_xml.c_str());
  const pugi::xml_node domain = document.child("domain");
  const pugi::xml_node vcpu = domain.child("vcpu");
  // `current` are those that are plugged in, and the queues that QEMU makes follow from all.
  found.vcpus = std::max(1U, vcpu.text().as_uint(1));
  found.shared_memory = has_shared_memory(domain);
  found.engines.push_back(engine_from(domain.child("defaultiothread"), kMainLoop));
  for (const pugi::xml_node& iothread : domain.child("iothreadids").children("iothread"))
    found.engines.push_back(engine_from(iothread, iothread.attribute("id").as_uint()));
  // A definition may say how many there are, and not which: then they are numbered from 1.
  for (unsigned id = 1; found.engines.size() <= domain.child("iothreads").text().as_uint(); ++id)
    if (std::none_of(found.engines.begin(), found.engines.end(), [id](const auto& each) { return each.id == id; }))
      found.engines.push_back(engine_from({}, id));
  for (const pugi::xml_node& controller : domain.child("devices").children("controller")) {
    if (std::string_view(controller.attribute("type").value()) != "scsi") continue;
    const pugi::xml_node driver = controller.child("driver");
    const std::string_view model = controller.attribute("model").value();
    found.controllers.push_back({controller.attribute("index").as_uint(), model.starts_with("virtio"),
                                 number(driver, "iothread"), number(driver, "queues"), number(driver, "cmd_per_lun"),
                                 number(driver, "max_sectors")});
  }
  return found;
}

bool put_iothread(const Json& iothread, DomainEngines& engines) {
  const std::string id = iothread.value("id", std::string());
  for (PlanEngine& engine : engines.engines) {
    if (engine.id == kMainLoop || object_of(engine.id) != id) continue;
    engine.poll_max_ns = iothread.value("poll-max-ns", std::uint64_t{0});
    return true;
  }
  return false;
}

Result<DomainEngines> read_domain_engines(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool ask_qemu) {
  const Result<std::string> xml = xml_of(*libvirt.api, domain, 0);
  if (!xml) return tl::unexpected(xml.error());
  DomainEngines engines = engines_of(*xml);
  if (!ask_qemu || libvirt.api->virDomainIsActive(domain) != 1) return engines;
  const Result<QemuMonitor> qemu = QemuMonitor::open(*libvirt.api, domain);
  if (!qemu) return tl::unexpected(qemu.error());
  if (const auto asked = ask_engines(*qemu, engines); !asked) return tl::unexpected(asked.error());
  return engines;
}

Result<void> add_domain_iothread(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool persistent,
                                 unsigned id) {
  const LibvirtApi& api = *libvirt.api;
  const std::string what = fmt::format("add iothread {} to guest '{}'", id, api.virDomainGetName(domain));
  const unsigned flags = VIR_DOMAIN_AFFECT_LIVE | (persistent ? static_cast<unsigned>(VIR_DOMAIN_AFFECT_CONFIG) : 0U);
  const SignalBlock until_libvirt_is_done;
  if (api.virDomainAddIOThread(domain, id, flags) == 0) return {};
  return tl::unexpected(last_libvirt_error(api, what));
}

Result<void> set_domain_engine(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool persistent,
                               unsigned engine, EngineProperty property, std::uint64_t value) {
  const LibvirtApi& api = *libvirt.api;
  if (engine == kMainLoop || property == EngineProperty::aio_max_batch) {
    const Result<QemuMonitor> qemu = QemuMonitor::open(api, domain);
    return qemu ? set_in_qemu(*qemu, engine, property, value) : tl::unexpected(qemu.error());
  }
  const bool is_pool = property != EngineProperty::poll_max_ns;
  unsigned flags = VIR_DOMAIN_AFFECT_LIVE;
  if (persistent && is_pool) {  // libvirt has no persistent polling before 9.4
    const Result<std::string> defined = xml_of(api, domain, VIR_DOMAIN_XML_INACTIVE);
    if (!defined) return tl::unexpected(defined.error());
    if (has_iothread(*defined, engine)) flags |= VIR_DOMAIN_AFFECT_CONFIG;
  }
  TypedParameters parameters(api);
  const std::string name(to_string(property));
  const bool complete = is_pool ? parameters.add(name, static_cast<int>(value)) : parameters.add(name, value);
  const std::string what =
      fmt::format("set {} of iothread {} of guest '{}' to {}", name, engine, api.virDomainGetName(domain), value);
  const SignalBlock until_libvirt_is_done;
  if (complete && api.virDomainSetIOThreadParams(domain, engine, parameters.data(), parameters.size(), flags) == 0)
    return {};
  return tl::unexpected(last_libvirt_error(api, what));
}

}  // namespace aiolos
