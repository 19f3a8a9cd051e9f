// SPDX-License-Identifier: Apache-2.0
#include "decider.h"

#include <utility>

#include <fmt/format.h>

#include "aiolos/disk/disk_xml.h"
#include "aiolos/host/measured_profiles.h"

namespace aiolos {

DataPlaneKind data_plane_of(const Config& config, const Volume& volume) {
  if (config.aio.profile == AioProfile::nova) return DataPlaneKind::qemu;
  if (volume.disk_info.data_plane) return *volume.disk_info.data_plane;
  const auto configured = config.data_plane.storage.find(volume.info.type);
  return configured == config.data_plane.storage.end() ? config.data_plane.usual : configured->second;
}

Result<HostFacts> Decider::host() const {
  auto facts = machine_.host_probe().facts();
  if (!facts) return facts;
  const auto hypervisor = machine_.hypervisor().facts();
  if (!hypervisor) return hypervisor;
  facts->libvirt = hypervisor->libvirt;
  facts->qemu = hypervisor->qemu;
  facts->qemu_has_io_uring = hypervisor->qemu_has_io_uring;
  return facts;
}

Result<Volume> Decider::read_volume(const JsonNode& connection_info, const JsonNode& disk_info) const {
  Volume volume;
  auto info = parse_volume_info(connection_info, config_.aio.profile);
  if (!info) return tl::unexpected(info.error());
  volume.info = std::move(*info);
  auto disk = parse_disk_info(disk_info, config_.aio.profile);
  if (!disk) {
    Error error = disk.error();
    error.where = "disk_info" + error.where;
    return tl::unexpected(std::move(error));
  }
  volume.disk_info = std::move(*disk);
  auto driver = registry_.find(volume.info.type);
  if (!driver) return tl::unexpected(driver.error());
  volume.driver = *driver;
  return volume;
}

Result<Volume> Decider::read_volume(const Json& connection_info, const Json& disk_info) const {
  const JsonDocument info(connection_info);
  auto volume = read_volume(info.root(), JsonDocument(disk_info).root());
  if (volume) volume->connection_info = &connection_info;
  return volume;
}

Result<void> Decider::choose_cache(const Volume& volume, const StorageFacts* facts, AioQuestion& question) const {
  question.cache = choose_cache_mode(config_, question.source, volume.info.multiattach);
  // Profile nova, and QEMU's own clients, take what is configured.
  if (config_.aio.profile == AioProfile::nova || !facts || facts->o_direct() != false) return {};
  if (!uses_o_direct(question.cache)) return {};
  std::string refusing;
  for (const LayerFacts& layer : facts->chain)
    if (layer.o_direct == false) refusing = layer.path;
  if (volume.info.multiattach || config_.disk_cachemodes.contains(question.source))
    return fail(ErrorKind::refused,
                fmt::format("cache={} needs O_DIRECT, which {} refuses", to_string(*question.cache), refusing),
                volume.info.multiattach
                    ? std::string("put a volume that guests share on storage with O_DIRECT")
                    : fmt::format("set disk_cachemodes: {{{}: writeback}}", to_string(question.source)));
  question.cache = CacheMode::writeback;
  question.advice.reasons.push_back(fmt::format("cache=writeback, as {} refuses O_DIRECT", refusing));
  return {};
}

std::optional<AioMode> Decider::nova_driver_io(const Volume& volume, const Attachment& attachment) const {
  // Nova's image backends (Flat, Qcow2) with preallocate_images=space.
  if (attachment.source.kind == SourceKind::file && config_.images.preallocate == Preallocate::space)
    return AioMode::native;
  return volume.driver->nova_driver_io();
}

void Decider::find_measurement(const Volume& volume, const StorageFacts* facts, AioQuestion& question) const {
  const auto storage = facts ? storage_class(volume.info.type, *facts) : std::nullopt;
  if (!storage) {
    question.unmeasured = "its storage was not probed";
    return;
  }
  question.today = std::chrono::floor<std::chrono::days>(machine_.clock().wall());
  auto measured = load_measured_profile(config_.state.dir, *storage);
  if (!measured)
    question.unmeasured = describe(measured.error());
  else if (!*measured)
    question.unmeasured = fmt::format("nothing was measured on its class of storage ({}); aiolos measure --save does",
                                      to_string(*storage));
  else
    question.measured = std::move(*measured);
}

Result<AioQuestion> Decider::question(const Volume& volume, const Attachment& attachment,
                                      const StorageFacts* facts) const {
  AioQuestion question;
  question.settings = config_.aio;
  question.source = attachment.source.kind;
  question.discard_unmap = volume.info.discard;
  if (config_.aio.profile == AioProfile::nova) {
    question.nova_driver_io = nova_driver_io(volume, attachment);
  } else {
    auto advice = volume.driver->aio_mode(attachment, facts);
    if (!advice) return tl::unexpected(advice.error());
    question.advice = std::move(*advice);
    if (facts) question.storage = *facts;
    if (config_.aio.profile == AioProfile::measured) find_measurement(volume, facts, question);
  }
  if (auto chosen = choose_cache(volume, facts, question); !chosen) return tl::unexpected(std::move(chosen).error());
  return question;
}

Result<std::optional<std::string>> Decider::luks_secret(const VolumeInfo& volume, VolumeSecrets& secrets) const {
  if (!volume.encrypted || volume.volume_id.empty()) return std::nullopt;
  auto secret = secrets.find(volume.volume_id);
  if (!secret || *secret || config_.aio.profile == AioProfile::nova) return secret;
  return fail(ErrorKind::configuration,
              fmt::format("volume '{}' is encrypted and libvirt has no secret for it", volume.volume_id),
              fmt::format("define a libvirt secret with <usage type='volume'><volume>{}</volume></usage> and set its "
                          "value",
                          volume.volume_id));
}

Result<disk::DiskConfig> Decider::make_disk(Volume&& volume, Attachment&& attachment, CacheMode cache,
                                            std::optional<AioMode> io, VolumeSecrets& secrets) const {
  const auto secret = luks_secret(volume.info, secrets);
  if (!secret) return tl::unexpected(secret.error());
  const auto build = [&] {  // with one return, as a disk is large to move
    auto disk = build_disk(std::move(volume.info), volume.disk_info, std::move(attachment), cache, io, *secret,
                           config_.aio.profile);
    // Profile nova gives what Nova gives, even what libvirt then refuses.
    if (disk && config_.aio.profile != AioProfile::nova)
      if (auto valid = disk::validate(*disk); !valid) disk = tl::unexpected(std::move(valid).error());
    return disk;
  };
  return build();
}

Result<disk::DiskConfig> Decider::disk(const JsonNode& connection_info, const JsonNode& disk_info,
                                       VolumeSecrets& secrets) const {
  auto volume = read_volume(connection_info, disk_info);
  if (!volume) return tl::unexpected(volume.error());
  auto attachment = volume->driver->describe(connection_info);
  if (!attachment) return tl::unexpected(attachment.error());
  if (config_.aio.profile == AioProfile::nova) {  // asks neither driver nor host
    const CacheMode cache = choose_cache_mode(config_, attachment->source.kind, volume->info.multiattach);
    const auto mode = mode_as_nova(nova_driver_io(*volume, *attachment), cache);
    return make_disk(*std::move(volume), *std::move(attachment), cache, mode, secrets);
  }
  auto asked = question(*volume, *attachment, nullptr);
  if (!asked) return tl::unexpected(asked.error());
  // Only a preference for io_uring needs to know the host, and only that is worth a connection to libvirt.
  if (config_.aio.prefer == AioMode::io_uring) {
    auto facts = host();
    if (!facts) return tl::unexpected(facts.error());
    asked->host = std::move(*facts);
  }
  return make_disk(*std::move(volume), *std::move(attachment), *asked->cache, decide_aio_mode(*asked), secrets);
}

Result<AioDecision> Decider::decide_within_budget(AioQuestion& question, Placement* guest) const {
  question.new_contexts = guest ? 0 : 1;
  AioDecision decision = decide_aio(question);
  if (!guest || decision.mode != AioMode::native || config_.aio.profile == AioProfile::nova) return decision;
  const auto room = guest->room(question.host);
  if (!room) return tl::unexpected(room.error());
  question.new_contexts = room->new_contexts;
  question.reserved_events = room->reserved_events;
  if (room->aio_nr) question.host.aio_nr = room->aio_nr;
  return decide_aio(question);
}

Result<std::pair<Explanation, disk::DiskConfig>> Decider::decide(const Volume& volume, const Attachment& attachment,
                                                                 Placement* guest) const {
  Explanation explanation;
  explanation.attachment = attachment;
  auto storage = volume.driver->facts(*volume.connection_info, attachment);
  if (!storage) return tl::unexpected(storage.error());
  if (!storage->chain.empty()) explanation.storage = std::move(*storage);
  auto facts = host();
  if (!facts) {
    // What the storage needs can be told without libvirt; attaching will fail on its own if it stays away.
    explanation.notes.push_back(fmt::format("QEMU's abilities are not known: {}", describe(facts.error())));
    facts = machine_.host_probe().facts();
    if (!facts) return tl::unexpected(facts.error());
  }
  explanation.host = std::move(*facts);

  auto asked = question(volume, attachment, explanation.storage ? &*explanation.storage : nullptr);
  if (!asked) return tl::unexpected(asked.error());
  asked->host = explanation.host;
  auto decision = decide_within_budget(*asked, guest);
  if (!decision) return tl::unexpected(decision.error());
  explanation.decision = std::move(*decision);
  explanation.notes.insert(explanation.notes.end(), explanation.decision.warnings.begin(),
                           explanation.decision.warnings.end());
  explanation.host = asked->host;
  VolumeSecrets secrets(machine_.secrets());
  auto disk = make_disk(Volume(volume), Attachment(attachment), *asked->cache, explanation.decision.mode, secrets);
  if (!disk) return tl::unexpected(disk.error());
  if (!guest && data_plane_of(config_, volume) == DataPlaneKind::engine)
    explanation.notes.emplace_back(
        "attached to a guest, aiolos-engine does its I/O (data_plane: engine), and its XML is another one: attach "
        "--dry-run shows it");
  if (guest)
    if (auto placed = guest->place(*disk, explanation.host, explanation.notes); !placed)
      return tl::unexpected(std::move(placed).error());
  explanation.xml = disk::emit(*disk);
  return std::pair(std::move(explanation), std::move(*disk));
}

}  // namespace aiolos
