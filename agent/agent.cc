// SPDX-License-Identifier: Apache-2.0
// The agent: plugins, decisions and flows put together behind the C++ API.
#include "aiolos/agent/agent.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "aiolos/disk/disk_xml.h"
#include "aiolos/plugins/registry.h"
#include "attachment_flows.h"
#include "decider.h"
#include "defaults.h"
#include "disk_speed.h"
#include "lock_file.h"

namespace aiolos {
namespace {

std::vector<std::string> capability_names(std::uint32_t capabilities) {
  std::vector<std::string> names;
  if (capabilities & AIOLOS_CAN_CONNECT) names.emplace_back("connect");
  if (capabilities & AIOLOS_CAN_EXTEND) names.emplace_back("extend");
  if (capabilities & AIOLOS_CAN_MULTIATTACH) names.emplace_back("multiattach");
  if (capabilities & AIOLOS_CAN_MULTIPATH) names.emplace_back("multipath");
  return names;
}

std::string_view thread_model_name(aiolos_thread_model model) {
  switch (model) {
    case AIOLOS_SERIALIZE_ALL:
      return "serialize-all";
    case AIOLOS_PER_TARGET:
      return "per-target";
    case AIOLOS_PARALLEL:
      return "parallel";
  }
  return "unknown";
}

LogLevel to_log_level(aiolos_log_level level) {
  switch (level) {
    case AIOLOS_LOG_DEBUG:
      return LogLevel::debug;
    case AIOLOS_LOG_INFO:
      return LogLevel::info;
    case AIOLOS_LOG_WARNING:
      return LogLevel::warning;
    default:
      return LogLevel::error;
  }
}

/// Services that start nothing before a plugin asks for them.
class LazyServices : public CommandRunner, public BlockDevices, public MountTable, public SecretStore {
 public:
  explicit LazyServices(Machine& machine) : machine_(machine) {}
  Result<CommandResult> run(const Command& command) override { return machine_.commands().run(command); }
  Result<StorageFacts> probe(const std::string& path, const std::string& format) override {
    return machine_.block_devices().probe(path, format);
  }
  Result<std::vector<Mount>> list() override { return machine_.mounts().list(); }
  Result<Mount> holding(const std::string& path) override { return machine_.mounts().holding(path); }
  Result<std::optional<std::string>> find(std::string_view usage_type, std::string_view usage_id) override {
    return machine_.secrets().find(usage_type, usage_id);
  }
  Result<Secret> value(std::string_view uuid) override { return machine_.secrets().value(uuid); }
  Result<std::map<std::string, std::string, std::less<>>> list(std::string_view usage_type) override {
    return machine_.secrets().list(usage_type);
  }

 private:
  Machine& machine_;
};

class AgentImpl : public Agent {
 public:
  AgentImpl(Config config, LogSink log, std::unique_ptr<Machine> machine)
      : config_(std::move(config)),
        log_(std::move(log)),
        machine_(std::move(machine)),
        services_(*machine_),
        locks_(config_.state.dir + "/locks", machine_->clock()) {}

  Result<void> load_plugins();

  std::vector<DriverListing> drivers() override;
  Result<HostFacts> host() override { return decider_->host(); }
  Result<AioBudget> aio_budget() override { return flows_->aio_budget(); }
  Result<std::string> disk_xml(const Json& connection_info, const Json& disk_info) override;
  std::unique_ptr<DiskXmlBatch> disk_xml_batch() override;
  Result<Explanation> explain(const Json& connection_info, const Json& disk_info) override;
  Result<Explanation> attach(const std::string& domain, const Json& connection_info, const Json& disk_info,
                             bool dry_run) override {
    return flows_->attach(domain, connection_info, disk_info, dry_run);
  }
  Result<void> detach(const std::string& domain, const std::string& target, bool force) override {
    return flows_->detach(domain, target, force);
  }
  Result<std::uint64_t> extend(const std::string& domain, const std::string& target, std::uint64_t bytes) override {
    return flows_->extend(domain, target, bytes);
  }
  Result<void> set_qos(const std::string& domain, const std::string& target, const Json& qos_specs) override {
    return flows_->set_qos(domain, target, qos_specs);
  }
  Result<PlanReport> plan(const std::string& domain, bool apply) override { return flows_->plan(domain, apply); }
  Result<std::vector<AttachmentListing>> attachments() override { return flows_->attachments(); }
  Result<std::vector<ReconcileEntry>> reconcile() override { return flows_->reconcile(); }
  Result<MigrationReport> migrate(const MigrationRequest& request, MigrationPeer& peer,
                                  const MigrationWatch& watch) override {
    return flows_->migrate(request, peer, watch);
  }
  std::unique_ptr<MigrationPeer> arrival() override { return flows_->arrival(); }

 private:
  void log(LogLevel level, std::string_view message) const {
    if (log_) log_(level, message);
  }
  DrainOutlook drain_outlook(const Volume& volume, const disk::DiskConfig& disk) const;
  PluginServices plugin_services(std::optional<Error>& mistake);
  Result<void> check_configuration() const;

  const Config config_;
  const LogSink log_;
  const std::unique_ptr<Machine> machine_;
  LazyServices services_;
  FileLocks locks_;
  std::unique_ptr<Registry> registry_;
  // Made once the plugins are loaded; they borrow all of the above.
  std::optional<Decider> decider_;
  std::optional<AttachmentFlows> flows_;
};

/// @param mistake takes the first error in a driver's section while the plugins are loaded.
PluginServices AgentImpl::plugin_services(std::optional<Error>& mistake) {
  PluginServices services;
  services.commands = &services_;
  services.block_devices = &services_;
  services.mounts = &services_;
  services.secrets = &services_;
  services.locks = &locks_;
  services.log = [this](aiolos_log_level level, std::string_view plugin, std::string_view message) {
    log(to_log_level(level), fmt::format("{}: {}", plugin, message));
  };
  services.section = [this, &mistake](std::string_view key, const Json& defaults) {
    auto section = complete_section(config_, key, defaults);
    if (!section && !mistake) mistake = section.error();
    return section;
  };
  return services;
}

/// Refuses sections that nobody reads. A plugin that was rejected may be who would have read one.
Result<void> AgentImpl::check_configuration() const {
  std::vector<std::string> known = framework_sections();
  for (const Driver* driver : registry_->drivers())
    if (const std::string& key = driver->configuration_key();
        !key.empty() && std::find(known.begin(), known.end(), key) == known.end())
      known.push_back(key);
  auto checked = check_sections(config_, known);
  if (checked || registry_->rejected().empty()) return checked;
  log(LogLevel::warning, fmt::format("{} (a plugin was not loaded: see aiolos drivers)", describe(checked.error())));
  return {};
}

Result<void> AgentImpl::load_plugins() {
  // A plugin without its section is rejected, and the others load; but a mistake in the configuration is the
  // operator's to mend, whatever volume is asked for.
  std::optional<Error> mistake;
  registry_ = Registry::load(plugin_folders(config_), plugin_services(mistake));
  if (mistake) return tl::unexpected(std::move(*mistake));
  decider_.emplace(config_, *machine_, *registry_);
  flows_.emplace(config_, hypervisor_uri(config_), *machine_, *registry_, *decider_, locks_, log_);
  return check_configuration();
}

std::vector<DriverListing> AgentImpl::drivers() {
  std::vector<DriverListing> list;
  for (const Driver* driver : registry_->drivers())
    list.push_back({driver->name(), driver->version(), driver->summary(), driver->types(),
                    capability_names(driver->capabilities()), std::string(thread_model_name(driver->thread_model())),
                    driver->file().string(), driver->configuration_key(), driver->configuration_defaults(),
                    std::nullopt});
  for (const RejectedPlugin& plugin : registry_->rejected()) {
    DriverListing listing;
    listing.file = plugin.file.string();
    listing.rejected = plugin.error;
    list.push_back(std::move(listing));
  }
  return list;
}

Result<std::string> AgentImpl::disk_xml(const Json& connection_info, const Json& disk_info) {
  VolumeSecrets secrets(machine_->secrets());
  return decider_->disk(JsonDocument(connection_info).root(), JsonDocument(disk_info).root(), secrets)
      .map([](const disk::DiskConfig& disk) { return disk::emit(disk); });
}

class BatchImpl : public DiskXmlBatch {
 public:
  BatchImpl(const Decider& decider, SecretStore& secrets) : decider_(decider), secrets_(secrets) {}

  Result<void> append_json(const JsonNode& connection_info, const JsonNode& disk_info, std::string& out) override {
    const auto disk = decider_.disk(connection_info, disk_info, secrets_);
    if (!disk) return tl::unexpected(disk.error());
    disk::emit_json_to(out, *disk);
    return {};
  }

 private:
  const Decider& decider_;
  VolumeSecrets secrets_;
};

std::unique_ptr<DiskXmlBatch> AgentImpl::disk_xml_batch() {
  return std::make_unique<BatchImpl>(*decider_, machine_->secrets());
}

/// Of the disk as attach would make it, but for what the guest has already.
DrainOutlook AgentImpl::drain_outlook(const Volume& volume, const disk::DiskConfig& disk) const {
  if (data_plane_of(config_, volume) == DataPlaneKind::engine) return engine_outlook(std::nullopt);
  PlanDomain guest;
  guest.disks.push_back(plan_disk(disk, {}, storage_speed(config_, std::string(volume.info.type))));
  PlanDisk& planned = guest.disks.back();
  planned.network = disk.type == disk::SourceType::network;
  planned.attached = false;
  if (!planned.queue_size && config_.aio.profile != AioProfile::nova)
    planned.queue_size = plan_queues(guest, {}, config_.plan.limits).disks.back().queue_size;
  return stock_outlook(planned, guest.vcpus);
}

Result<Explanation> AgentImpl::explain(const Json& connection_info, const Json& disk_info) {
  const auto volume = decider_->read_volume(connection_info, disk_info);
  if (!volume) return tl::unexpected(volume.error());
  const auto attachment = volume->driver->describe(connection_info);
  if (!attachment) return tl::unexpected(attachment.error());
  auto decided = decider_->decide(*volume, *attachment, nullptr);
  if (!decided) return tl::unexpected(decided.error());
  decided->first.drain = drain_outlook(*volume, decided->second);
  return std::move(decided->first);
}

}  // namespace

Json to_json(const Explanation& explanation) {
  Json facts = {{"host", to_json(explanation.host)}};
  facts["storage"] = explanation.storage ? to_json(*explanation.storage) : Json(nullptr);
  Json object = {{"aio", to_json(explanation.decision)}, {"facts", std::move(facts)}, {"xml", explanation.xml}};
  if (!explanation.notes.empty()) object["notes"] = explanation.notes;
  if (explanation.drain) object["drain"] = to_json(*explanation.drain);
  return object;
}

std::string_view library_version() { return AIOLOS_VERSION; }

Result<std::unique_ptr<Agent>> Agent::open(Options options) {
  auto machine = options.machine ? std::move(options.machine) : real_machine(options.config);
  auto agent = std::make_unique<AgentImpl>(std::move(options.config), std::move(options.log), std::move(machine));
  if (auto loaded = agent->load_plugins(); !loaded) return tl::unexpected(loaded.error());
  return agent;
}

}  // namespace aiolos
