// SPDX-License-Identifier: Apache-2.0
// The flows: disk_xml, explain, attach, detach, extend. Each goes one way, from connection_info to the guest, and
// writes every side effect to the journal before it happens.
#include "aiolos/agent/agent.h"

#include <chrono>
#include <filesystem>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "aiolos/disk/disk_xml.h"
#include "aiolos/plugins/registry.h"
#include "guest_disks.h"
#include "journal.h"
#include "lock_file.h"
#include "plugin_folders.h"
#include "volume_disk.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

// How long a flow waits for another one that works on the same target: longer than any bounded step takes.
constexpr auto kLockTimeout = 120s;
// How long a guest may take to give a disk back. Nova waits about as long (device_detach_attempts x timeout).
constexpr auto kDetachTimeout = 60s;

/// Everything that a flow knows of one volume before it acts.
struct Volume {
  const Json* connection_info = nullptr;
  VolumeInfo info;
  DiskInfo disk_info;
  Driver* driver = nullptr;
};

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
    case AIOLOS_SERIALIZE_ALL: return "serialize-all";
    case AIOLOS_PER_TARGET: return "per-target";
    case AIOLOS_PARALLEL: return "parallel";
  }
  return "unknown";
}

LogLevel to_log_level(aiolos_log_level level) {
  switch (level) {
    case AIOLOS_LOG_DEBUG: return LogLevel::debug;
    case AIOLOS_LOG_INFO: return LogLevel::info;
    case AIOLOS_LOG_WARNING: return LogLevel::warning;
    default: return LogLevel::error;
  }
}

/// Services that start nothing before a plugin asks for them.
class LazyServices : public CommandRunner, public BlockDevices, public MountTable {
 public:
  explicit LazyServices(Machine& machine) : machine_(machine) {}
  Result<CommandResult> run(const Command& command) override { return machine_.commands().run(command); }
  Result<StorageFacts> probe(const std::string& path, const std::string& format) override {
    return machine_.block_devices().probe(path, format);
  }
  Result<std::vector<Mount>> list() override { return machine_.mounts().list(); }
  Result<Mount> holding(const std::string& path) override { return machine_.mounts().holding(path); }

 private:
  Machine& machine_;
};

class AgentImpl : public Agent {
 public:
  AgentImpl(Config config, LogSink log, std::unique_ptr<Machine> machine)
      : config_(std::move(config)), log_(std::move(log)), machine_(std::move(machine)), services_(*machine_) {}

  Result<void> load_plugins();

  std::vector<DriverListing> drivers() override;
  Result<HostFacts> host() override;
  Result<std::string> disk_xml(const Json& connection_info, const Json& disk_info) override;
  Result<Explanation> explain(const Json& connection_info, const Json& disk_info) override;
  Result<Explanation> attach(const std::string& domain, const Json& connection_info, const Json& disk_info,
                             bool dry_run) override;
  Result<void> detach(const std::string& domain, const std::string& target, bool force) override;
  Result<std::uint64_t> extend(const std::string& domain, const std::string& target, std::uint64_t bytes) override;

 private:
  void log(LogLevel level, std::string_view message) const {
    if (log_) log_(level, message);
  }

  /// Checks the input and finds the driver.
  Result<Volume> read_volume(const Json& connection_info, const Json& disk_info) const;
  /// The question to the policy that both `disk_xml` and `explain` ask.
  Result<AioQuestion> question(const Volume& volume, const Attachment& attachment, const StorageFacts* facts) const;
  Result<std::optional<std::string>> luks_secret(const VolumeInfo& volume);
  /// The disk that follows from a decision, checked by the model's rules.
  Result<disk::DiskConfig> make_disk(const Volume& volume, const Attachment& attachment, CacheMode cache,
                                     std::optional<AioMode> io);
  /// Decides with probed facts; `new_contexts` as AioQuestion has it.
  Result<std::pair<Explanation, disk::DiskConfig>> decide(const Volume& volume, const Attachment& attachment,
                                                          unsigned new_contexts);
  Result<Journal*> journal();
  Result<std::optional<LockFile>> lock_target(Driver& driver, const Json& connection_info);
  Result<LockFile> lock_disk(const std::string& domain_uuid, const std::string& target);

  /// A volume that is connected and written down.
  struct Connected {
    std::int64_t id = 0;
    Attachment attachment;
  };
  Result<Connected> connect(const Volume& volume, const DomainState& domain, const Json& disk_info);
  Result<void> disconnect(std::int64_t id, Driver& driver, const Json& connection_info, const Attachment* attachment,
                          bool force);
  Result<void> disconnect_record(const AttachmentRecord& record, bool force);
  Result<void> detach_disk(const AttachmentRecord& record, const disk::DiskConfig& disk);
  Result<void> detach_from_gone(const std::string& name, const std::string& target, bool force, const Error& gone);
  Result<Explanation> attach_connected(const Volume& volume, const DomainState& domain, const Connected& connected,
                                       const GuestDisks& guest);
  /// Ends a failed attach: disconnects and gives the error that is to be reported.
  Error undo_attach(const Volume& volume, const Connected& connected, Error error);
  Result<Explanation> rehearse_attach(const Volume& volume, const DomainState& domain, const GuestDisks& guest);
  /// The answer of an attach that was done before; nullopt if it was not.
  Result<std::optional<Explanation>> already_attached(const Volume& volume, const DomainState& domain,
                                                      const GuestDisks& guest);

  Config config_;
  LogSink log_;
  std::unique_ptr<Machine> machine_;
  LazyServices services_;
  std::unique_ptr<Registry> registry_;
  std::mutex journal_mutex_;
  std::unique_ptr<Journal> journal_;
};

Result<DomainState> running_domain(Hypervisor& hypervisor, const std::string& domain) {
  auto state = hypervisor.find_domain(domain);
  if (state && !state->running)
    return fail(ErrorKind::refused, fmt::format("domain '{}' is not running", domain),
                "start it first: Aiolos attaches to running guests");
  return state;
}

Result<GuestDisks> guest_disks(Hypervisor& hypervisor, const std::string& domain) {
  return hypervisor.domain_xml(domain).and_then([](const std::string& xml) { return GuestDisks::parse(xml); });
}

Result<void> check_target_free(const GuestDisks& guest, const DomainState& domain, const std::string& target) {
  if (!guest.find(target)) return {};
  return fail(ErrorKind::refused, fmt::format("domain '{}' has a disk '{}' already", domain.name, target),
              fmt::format("use another target: '{}' is free", guest.free_target_like(target)), "disk_info/dev");
}

/// Refuses an image that the guest has already, under another target.
Result<void> check_source_free(const GuestDisks& guest, const DomainState& domain, const disk::DiskConfig& disk) {
  const disk::DiskConfig* other = guest.with_source_of(disk);
  if (!other) return {};
  return fail(ErrorKind::refused,
              fmt::format("domain '{}' has this volume already, as '{}'", domain.name, other->target.dev.value_or("?")),
              "detach it there first");
}

// ---- opening --------------------------------------------------------------------------------------------------------

Result<void> AgentImpl::load_plugins() {
  PluginServices services;
  services.commands = &services_;
  services.block_devices = &services_;
  services.mounts = &services_;
  services.log = [this](aiolos_log_level level, std::string_view plugin, std::string_view message) {
    log(to_log_level(level), fmt::format("{}: {}", plugin, message));
  };
  // A plugin without its section is rejected, and the others load; but a mistake in the configuration is the
  // operator's to mend, whatever volume is asked for.
  std::optional<Error> mistake;
  services.section = [this, &mistake](std::string_view key, const Json& defaults) {
    auto section = complete_section(config_, key, defaults);
    if (!section && !mistake) mistake = section.error();
    return section;
  };
  auto registry = Registry::load(plugin_folders(config_), std::move(services));
  if (!registry) return tl::unexpected(registry.error());
  if (mistake) return tl::unexpected(std::move(*mistake));
  registry_ = std::move(*registry);
  std::vector<std::string> known = framework_sections();
  for (const Driver* driver : registry_->drivers())
    if (!driver->configuration_key().empty()) known.push_back(driver->configuration_key());
  return check_sections(config_, known);
}

std::vector<DriverListing> AgentImpl::drivers() {
  std::vector<DriverListing> list;
  for (const Driver* driver : registry_->drivers())
    list.push_back({driver->name(), driver->version(), driver->summary(), driver->types(),
                    capability_names(driver->capabilities()), std::string(thread_model_name(driver->thread_model())),
                    driver->file().string(), std::nullopt});
  for (const RejectedPlugin& plugin : registry_->rejected()) {
    DriverListing listing;
    listing.file = plugin.file.string();
    listing.rejected = plugin.error;
    list.push_back(std::move(listing));
  }
  return list;
}

Result<HostFacts> AgentImpl::host() {
  auto facts = machine_->host_probe().facts();
  if (!facts) return facts;
  const auto hypervisor = machine_->hypervisor().facts();
  if (!hypervisor) return hypervisor;
  facts->libvirt = hypervisor->libvirt;
  facts->qemu = hypervisor->qemu;
  facts->qemu_has_io_uring = hypervisor->qemu_has_io_uring;
  return facts;
}

Result<Journal*> AgentImpl::journal() {
  const std::scoped_lock lock(journal_mutex_);
  if (!journal_) {
    auto opened = Journal::open(config_.state.dir, machine_->clock());
    if (!opened) return tl::unexpected(opened.error());
    journal_ = std::move(*opened);
  }
  return journal_.get();
}

// ---- deciding -------------------------------------------------------------------------------------------------------

Result<Volume> AgentImpl::read_volume(const Json& connection_info, const Json& disk_info) const {
  Volume volume;
  volume.connection_info = &connection_info;
  auto info = parse_volume_info(connection_info, config_.aio.profile);
  if (!info) return tl::unexpected(info.error());
  volume.info = std::move(*info);
  auto disk = parse_disk_info(disk_info);
  if (!disk) {
    Error error = disk.error();
    error.where = "disk_info" + error.where;
    return tl::unexpected(std::move(error));
  }
  volume.disk_info = std::move(*disk);
  auto driver = registry_->find(volume.info.type);
  if (!driver) return tl::unexpected(driver.error());
  volume.driver = *driver;
  return volume;
}

Result<AioQuestion> AgentImpl::question(const Volume& volume, const Attachment& attachment,
                                        const StorageFacts* facts) const {
  AioQuestion question;
  question.settings = config_.aio;
  question.source = attachment.source.kind;
  question.cache = choose_cache_mode(config_, attachment.source.kind, volume.info.multiattach);
  question.discard_unmap = volume.info.discard;
  if (config_.aio.profile == AioProfile::nova) {
    question.nova_driver_io = volume.driver->nova_driver_io();
    // Nova's image backends (Flat, Qcow2) with preallocate_images=space.
    if (attachment.source.kind == SourceKind::file && config_.images.preallocate == Preallocate::space)
      question.nova_driver_io = AioMode::native;
    return question;
  }
  auto advice = volume.driver->aio_mode(attachment, facts);
  if (!advice) return tl::unexpected(advice.error());
  question.advice = std::move(*advice);
  if (facts) question.storage = *facts;
  return question;
}

Result<std::optional<std::string>> AgentImpl::luks_secret(const VolumeInfo& volume) {
  if (!volume.encrypted || volume.volume_id.empty()) return std::nullopt;
  auto secret = machine_->secrets().find("volume", volume.volume_id);
  if (!secret || *secret || config_.aio.profile == AioProfile::nova) return secret;
  return fail(ErrorKind::configuration,
              fmt::format("volume '{}' is encrypted and libvirt has no secret for it", volume.volume_id),
              fmt::format("define a libvirt secret with <usage type='volume'><volume>{}</volume></usage> and set its "
                          "value", volume.volume_id));
}

Result<disk::DiskConfig> AgentImpl::make_disk(const Volume& volume, const Attachment& attachment, CacheMode cache,
                                              std::optional<AioMode> io) {
  const auto secret = luks_secret(volume.info);
  if (!secret) return tl::unexpected(secret.error());
  auto disk = build_disk(volume.info, volume.disk_info, attachment, cache, io, *secret, config_.aio.profile);
  if (!disk) return disk;
  // Profile nova gives what Nova gives, even what libvirt then refuses.
  if (config_.aio.profile == AioProfile::nova) return disk;
  if (auto valid = disk::validate(*disk); !valid) return tl::unexpected(valid.error());
  return disk;
}

Result<std::string> AgentImpl::disk_xml(const Json& connection_info, const Json& disk_info) {
  const auto volume = read_volume(connection_info, disk_info);
  if (!volume) return tl::unexpected(volume.error());
  const auto attachment = volume->driver->describe(connection_info);
  if (!attachment) return tl::unexpected(attachment.error());
  auto asked = question(*volume, *attachment, nullptr);
  if (!asked) return tl::unexpected(asked.error());
  // Only a preference for io_uring needs to know the host, and only that is worth a connection to libvirt.
  if (config_.aio.profile != AioProfile::nova && config_.aio.prefer == AioMode::io_uring) {
    auto facts = host();
    if (!facts) return tl::unexpected(facts.error());
    asked->host = std::move(*facts);
  }
  const AioDecision decision = decide_aio(*asked);
  return make_disk(*volume, *attachment, *asked->cache, decision.mode).map([](const disk::DiskConfig& disk) {
    return disk::emit(disk);
  });
}

Result<std::pair<Explanation, disk::DiskConfig>> AgentImpl::decide(const Volume& volume, const Attachment& attachment,
                                                                   unsigned new_contexts) {
  Explanation explanation;
  explanation.attachment = attachment;
  auto storage = volume.driver->facts(*volume.connection_info, attachment);
  if (!storage) return tl::unexpected(storage.error());
  if (!storage->chain.empty()) explanation.storage = std::move(*storage);
  auto facts = host();
  if (!facts) {
    // What the storage needs can be told without libvirt; attaching will fail on its own if it stays away.
    explanation.notes.push_back(fmt::format("QEMU's abilities are not known: {}", describe(facts.error())));
    facts = machine_->host_probe().facts();
    if (!facts) return tl::unexpected(facts.error());
  }
  explanation.host = std::move(*facts);

  auto asked = question(volume, attachment, explanation.storage ? &*explanation.storage : nullptr);
  if (!asked) return tl::unexpected(asked.error());
  asked->host = explanation.host;
  asked->new_contexts = new_contexts;
  explanation.decision = decide_aio(*asked);
  auto disk = make_disk(volume, attachment, *asked->cache, explanation.decision.mode);
  if (!disk) return tl::unexpected(disk.error());
  explanation.xml = disk::emit(*disk);
  return std::pair(std::move(explanation), std::move(*disk));
}

Result<Explanation> AgentImpl::explain(const Json& connection_info, const Json& disk_info) {
  const auto volume = read_volume(connection_info, disk_info);
  if (!volume) return tl::unexpected(volume.error());
  const auto attachment = volume->driver->describe(connection_info);
  if (!attachment) return tl::unexpected(attachment.error());
  return decide(*volume, *attachment, 1).map([](auto&& decided) { return std::move(decided.first); });
}

// ---- locks ----------------------------------------------------------------------------------------------------------

Result<std::optional<LockFile>> AgentImpl::lock_target(Driver& driver, const Json& connection_info) {
  const auto target = driver.target(connection_info);
  if (!target) return tl::unexpected(target.error());
  if (!*target) return std::nullopt;
  auto lock = LockFile::acquire(config_.state.dir + "/locks", driver.name() + ":" + **target, kLockTimeout,
                                machine_->clock());
  if (!lock) return tl::unexpected(lock.error());
  return std::optional(std::move(*lock));
}

Result<LockFile> AgentImpl::lock_disk(const std::string& domain_uuid, const std::string& target) {
  return LockFile::acquire(config_.state.dir + "/locks", domain_uuid + ":" + target, kLockTimeout, machine_->clock());
}

// ---- attaching ------------------------------------------------------------------------------------------------------

Result<AgentImpl::Connected> AgentImpl::connect(const Volume& volume, const DomainState& domain,
                                                const Json& disk_info) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto lock = lock_target(*volume.driver, *volume.connection_info);
  if (!lock) return tl::unexpected(lock.error());
  AttachmentRecord record;
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
  auto attachment = volume.driver->connect(*volume.connection_info);
  if (!attachment) {
    // The driver left nothing behind: that is its promise.
    (void)(*book)->fail_step(*step, attachment.error());
    (void)(*book)->close(*id);
    return tl::unexpected(attachment.error());
  }
  if (const auto done = (*book)->finish_step(*step, AttachmentState::connected, to_json(*attachment)); !done) {
    (void)volume.driver->disconnect(*volume.connection_info, &*attachment, false);
    return tl::unexpected(done.error());
  }
  return Connected{*id, std::move(*attachment)};
}

Result<void> AgentImpl::disconnect(std::int64_t id, Driver& driver, const Json& connection_info,
                                   const Attachment* attachment, bool force) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto lock = lock_target(driver, connection_info);
  if (!lock) return tl::unexpected(lock.error());
  const auto step = (*book)->begin_step(id, Step::disconnect);
  if (!step) return tl::unexpected(step.error());
  if (auto done = driver.disconnect(connection_info, attachment, force); !done) {
    (void)(*book)->fail_step(*step, done.error());
    return done;
  }
  return (*book)->finish_step(*step, AttachmentState::closed);
}

Error AgentImpl::undo_attach(const Volume& volume, const Connected& connected, Error error) {
  const auto undone =
      disconnect(connected.id, *volume.driver, *volume.connection_info, &connected.attachment, /*force=*/false);
  if (!undone) {
    log(LogLevel::error, fmt::format("cleaning up after a failed attach: {}", describe(undone.error())));
    error.message += fmt::format("; disconnecting the volume again failed too: {}", undone.error().message);
    error.next += fmt::format(" (the volume is still connected: {})", undone.error().next);
  }
  return error;
}

Result<Explanation> AgentImpl::attach_connected(const Volume& volume, const DomainState& domain,
                                                const Connected& connected, const GuestDisks& guest) {
  auto decided = decide(volume, connected.attachment, guest.contexts_for_new_native_disk());
  if (!decided) return tl::unexpected(decided.error());
  auto& [explanation, disk] = *decided;
  if (const auto free = check_source_free(guest, domain, disk); !free) return tl::unexpected(free.error());
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto step = (*book)->begin_step(connected.id, Step::attach);
  if (!step) return tl::unexpected(step.error());
  if (const auto done = machine_->hypervisor().attach_disk(domain.uuid, explanation.xml); !done) {
    (void)(*book)->fail_step(*step, done.error());
    return tl::unexpected(done.error());
  }
  if (const auto done = (*book)->finish_step(*step, AttachmentState::attached); !done) {
    (void)machine_->hypervisor().detach_disk(domain.uuid, explanation.xml, volume.disk_info.dev, kDetachTimeout);
    return tl::unexpected(done.error());
  }
  return std::move(explanation);
}

Result<std::optional<Explanation>> AgentImpl::already_attached(const Volume& volume, const DomainState& domain,
                                                               const GuestDisks& guest) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto record = (*book)->find(domain.uuid, volume.disk_info.dev);
  if (!record) return tl::unexpected(record.error());
  if (!*record) return std::nullopt;
  const AttachmentRecord& known = **record;
  const bool same_volume = known.connection_info == redact(*volume.connection_info);
  if (known.state == AttachmentState::attached && same_volume && guest.find(known.target)) {
    const auto attachment = attachment_from_json(known.attachment);
    if (!attachment) return tl::unexpected(attachment.error());
    return decide(volume, *attachment, guest.contexts_for_new_native_disk()).map([](auto&& decided) {
      decided.first.notes.emplace_back("attached already: nothing was done");
      return std::optional(std::move(decided.first));
    });
  }
  return fail(ErrorKind::refused,
              fmt::format("the journal holds '{}' of domain '{}' as {} with volume '{}'", known.target, domain.name,
                          to_string(known.state), known.serial),
              fmt::format("detach it first: aiolos detach --domain {} --target {}", domain.name, known.target));
}

/// What an attach would do, without doing it.
Result<Explanation> AgentImpl::rehearse_attach(const Volume& volume, const DomainState& domain,
                                               const GuestDisks& guest) {
  const auto attachment = volume.driver->describe(*volume.connection_info);
  if (!attachment) return tl::unexpected(attachment.error());
  auto decided = decide(volume, *attachment, guest.contexts_for_new_native_disk());
  if (!decided) return tl::unexpected(decided.error());
  if (const auto free = check_source_free(guest, domain, decided->second); !free) return tl::unexpected(free.error());
  decided->first.notes.emplace_back("dry run: nothing was changed");
  return std::move(decided->first);
}

Result<void> check_multiattach(const Volume& volume) {
  if (!volume.info.multiattach || (volume.driver->capabilities() & AIOLOS_CAN_MULTIATTACH)) return {};
  return fail(ErrorKind::refused,
              fmt::format("the driver '{}' cannot attach one volume to several guests", volume.driver->name()),
              "unset multiattach, or use storage that can share", "/multiattach");
}

Result<Explanation> AgentImpl::attach(const std::string& name, const Json& connection_info, const Json& disk_info,
                                      bool dry_run) {
  const auto volume = read_volume(connection_info, disk_info);
  if (!volume) return tl::unexpected(volume.error());
  if (const auto able = check_multiattach(*volume); !able) return tl::unexpected(able.error());
  const auto domain = running_domain(machine_->hypervisor(), name);
  if (!domain) return tl::unexpected(domain.error());

  const auto lock = lock_disk(domain->uuid, volume->disk_info.dev);
  if (!lock) return tl::unexpected(lock.error());
  const auto guest = guest_disks(machine_->hypervisor(), domain->uuid);
  if (!guest) return tl::unexpected(guest.error());
  auto before = already_attached(*volume, *domain, *guest);
  if (!before) return tl::unexpected(before.error());
  if (*before) return std::move(**before);
  // A target that is taken is known before anything is connected for it.
  if (const auto free = check_target_free(*guest, *domain, volume->disk_info.dev); !free)
    return tl::unexpected(free.error());
  if (dry_run) return rehearse_attach(*volume, *domain, *guest);
  const auto connected = connect(*volume, *domain, disk_info);
  if (!connected) return tl::unexpected(connected.error());
  auto attached = attach_connected(*volume, *domain, *connected, *guest);
  if (!attached) return tl::unexpected(undo_attach(*volume, *connected, attached.error()));
  return attached;
}

// ---- detaching ------------------------------------------------------------------------------------------------------

/// A disk that Aiolos did not attach, or one that nobody has heard of.
Error unknown_disk(const DomainState& domain, const std::string& target, const GuestDisks& guest) {
  if (guest.find(target))
    return {ErrorKind::refused, fmt::format("disk '{}' of domain '{}' was not attached by Aiolos", target, domain.name),
            "detach it with what attached it, or add --force", {}};
  const std::string targets = guest.targets();
  return {ErrorKind::bad_input, fmt::format("domain '{}' has no disk '{}'", domain.name, target),
          targets.empty() ? std::string("it has no disks") : "its disks: " + targets, {}};
}

Result<void> AgentImpl::detach(const std::string& name, const std::string& target, bool force) {
  Hypervisor& hypervisor = machine_->hypervisor();
  const auto domain = hypervisor.find_domain(name);
  if (!domain) return detach_from_gone(name, target, force, domain.error());
  const auto lock = lock_disk(domain->uuid, target);
  if (!lock) return tl::unexpected(lock.error());
  const auto guest = guest_disks(hypervisor, domain->uuid);
  if (!guest) return tl::unexpected(guest.error());
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto record = (*book)->find(domain->uuid, target, /*closed_too=*/true);
  if (!record) return tl::unexpected(record.error());

  const disk::DiskConfig* disk = guest->find(target);
  if (!*record || (*record)->state == AttachmentState::closed) {
    if (*record && !disk) return {};  // detached before: the same answer again
    if (!disk || !force) return tl::unexpected(unknown_disk(*domain, target, *guest));
    return hypervisor.detach_disk(domain->uuid, disk::emit(*disk), target, kDetachTimeout);
  }
  if (disk)
    if (auto detached = detach_disk(**record, *disk); !detached) return detached;
  return disconnect_record(**record, force);
}

Result<void> AgentImpl::detach_disk(const AttachmentRecord& record, const disk::DiskConfig& disk) {
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto step = (*book)->begin_step(record.id, Step::detach);
  if (!step) return tl::unexpected(step.error());
  const auto done =
      machine_->hypervisor().detach_disk(record.domain_uuid, disk::emit(disk), record.target, kDetachTimeout);
  if (done) return (*book)->finish_step(*step, AttachmentState::detached);
  (void)(*book)->fail_step(*step, done.error());
  return done;
}

Result<void> AgentImpl::disconnect_record(const AttachmentRecord& record, bool force) {
  const auto driver = registry_->find(record.volume_type);
  if (!driver) return tl::unexpected(driver.error());
  std::optional<Attachment> attachment;
  if (!record.attachment.is_null()) {
    auto parsed = attachment_from_json(record.attachment);
    if (!parsed) return tl::unexpected(parsed.error());
    attachment = std::move(*parsed);
  }
  return disconnect(record.id, **driver, record.connection_info, attachment ? &*attachment : nullptr, force);
}

/// A guest that is gone took its disks along, but its volumes are still connected.
Result<void> AgentImpl::detach_from_gone(const std::string& name, const std::string& target, bool force,
                                         const Error& gone) {
  if (gone.kind != ErrorKind::bad_input) return tl::unexpected(gone);
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto records = (*book)->open_attachments();
  if (!records) return tl::unexpected(records.error());
  for (const AttachmentRecord& record : *records) {
    if (record.target != target || (record.domain_uuid != name && record.domain_name != name)) continue;
    const auto lock = lock_disk(record.domain_uuid, target);
    if (!lock) return tl::unexpected(lock.error());
    return disconnect_record(record, force);
  }
  return tl::unexpected(gone);
}

// ---- extending ------------------------------------------------------------------------------------------------------

Result<std::uint64_t> AgentImpl::extend(const std::string& name, const std::string& target, std::uint64_t bytes) {
  if (bytes == 0 || bytes % 512 != 0)
    return fail(ErrorKind::bad_input, fmt::format("{} bytes is no size of a disk", bytes),
                "use a multiple of 512 bytes");
  const auto domain = running_domain(machine_->hypervisor(), name);
  if (!domain) return tl::unexpected(domain.error());
  const auto lock = lock_disk(domain->uuid, target);
  if (!lock) return tl::unexpected(lock.error());
  const auto guest = guest_disks(machine_->hypervisor(), domain->uuid);
  if (!guest) return tl::unexpected(guest.error());
  const auto book = journal();
  if (!book) return tl::unexpected(book.error());
  const auto record = (*book)->find(domain->uuid, target);
  if (!record) return tl::unexpected(record.error());
  if (!*record || !guest->find(target)) {
    Error error = unknown_disk(*domain, target, *guest);
    if (error.kind == ErrorKind::refused) error.next = "extend it with what attached it";
    return tl::unexpected(std::move(error));
  }
  const auto driver = registry_->find((*record)->volume_type);
  if (!driver) return tl::unexpected(driver.error());
  if (!((*driver)->capabilities() & AIOLOS_CAN_EXTEND))
    return fail(ErrorKind::refused, fmt::format("the driver '{}' cannot extend volumes", (*driver)->name()),
                "extend the volume by other means, then tell the guest with virsh blockresize");
  const auto attachment = attachment_from_json((*record)->attachment);
  if (!attachment) return tl::unexpected(attachment.error());
  const auto target_lock = lock_target(**driver, (*record)->connection_info);
  if (!target_lock) return tl::unexpected(target_lock.error());

  const auto extending = (*book)->begin_step((*record)->id, Step::extend);
  if (!extending) return tl::unexpected(extending.error());
  const auto size = (*driver)->extend((*record)->connection_info, *attachment, bytes);
  if (!size) {
    (void)(*book)->fail_step(*extending, size.error());
    return size;
  }
  if (auto done = (*book)->finish_step(*extending, (*record)->state); !done) return tl::unexpected(done.error());

  const auto resizing = (*book)->begin_step((*record)->id, Step::resize);
  if (!resizing) return tl::unexpected(resizing.error());
  if (const auto done = machine_->hypervisor().resize_disk(domain->uuid, target, *size); !done) {
    (void)(*book)->fail_step(*resizing, done.error());
    return tl::unexpected(done.error());
  }
  if (auto done = (*book)->finish_step(*resizing, (*record)->state); !done) return tl::unexpected(done.error());
  return size;
}

}  // namespace

Json to_json(const Explanation& explanation) {
  Json facts = {{"host", to_json(explanation.host)}};
  facts["storage"] = explanation.storage ? to_json(*explanation.storage) : Json(nullptr);
  Json object = {{"aio", to_json(explanation.decision)}, {"facts", std::move(facts)}, {"xml", explanation.xml}};
  if (!explanation.notes.empty()) object["notes"] = explanation.notes;
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
