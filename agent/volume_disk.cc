// SPDX-License-Identifier: Apache-2.0
#include "volume_disk.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace aiolos {
namespace {

using disk::IoTune;

/// One key of qos_specs. Nova 26 knows those without a burst length and a group.
struct QosKey {
  std::string_view name;
  disk::Number IoTune::*member;
  bool in_nova;
};

constexpr std::array kQosKeys{
    QosKey{"total_bytes_sec", &IoTune::total_bytes_sec, true},
    QosKey{"read_bytes_sec", &IoTune::read_bytes_sec, true},
    QosKey{"write_bytes_sec", &IoTune::write_bytes_sec, true},
    QosKey{"total_iops_sec", &IoTune::total_iops_sec, true},
    QosKey{"read_iops_sec", &IoTune::read_iops_sec, true},
    QosKey{"write_iops_sec", &IoTune::write_iops_sec, true},
    QosKey{"total_bytes_sec_max", &IoTune::total_bytes_sec_max, true},
    QosKey{"read_bytes_sec_max", &IoTune::read_bytes_sec_max, true},
    QosKey{"write_bytes_sec_max", &IoTune::write_bytes_sec_max, true},
    QosKey{"total_iops_sec_max", &IoTune::total_iops_sec_max, true},
    QosKey{"read_iops_sec_max", &IoTune::read_iops_sec_max, true},
    QosKey{"write_iops_sec_max", &IoTune::write_iops_sec_max, true},
    QosKey{"size_iops_sec", &IoTune::size_iops_sec, true},
    QosKey{"total_bytes_sec_max_length", &IoTune::total_bytes_sec_max_length, false},
    QosKey{"read_bytes_sec_max_length", &IoTune::read_bytes_sec_max_length, false},
    QosKey{"write_bytes_sec_max_length", &IoTune::write_bytes_sec_max_length, false},
    QosKey{"total_iops_sec_max_length", &IoTune::total_iops_sec_max_length, false},
    QosKey{"read_iops_sec_max_length", &IoTune::read_iops_sec_max_length, false},
    QosKey{"write_iops_sec_max_length", &IoTune::write_iops_sec_max_length, false},
};

/// Reads qos_specs. Keys of other consumers (the storage's front end) are theirs, not ours, and pass unread.
Result<void> read_qos(const NodeView& data, AioProfile profile, VolumeInfo& volume) {
  const auto specs = data.find("qos_specs");
  if (!specs) return tl::unexpected(specs.error());
  if (!*specs) return {};
  if (!(*specs)->node().is_object()) {
    if (profile == AioProfile::nova) return {};  // Nova logs a warning
    return (*specs)->mismatch("an object");
  }
  for (const QosKey& key : kQosKeys) {
    if (!key.in_nova && profile == AioProfile::nova) continue;
    const auto value = (*specs)->find_unsigned(key.name);
    if (!value) return tl::unexpected(value.error());
    if (*value) volume.iotune.ensure().*key.member = **value;
  }
  if (profile == AioProfile::nova) return {};
  const auto group = (*specs)->find_string("group_name");
  if (!group) return tl::unexpected(group.error());
  if (*group) volume.iotune.ensure().group_name = **group;
  return {};
}

Result<void> read_access_mode(const NodeView& data, VolumeInfo& volume) {
  const auto mode = data.find_string("access_mode");
  if (!mode) return tl::unexpected(mode.error());
  if (!*mode || (*mode)->empty()) return {};
  if (**mode != "ro" && **mode != "rw")
    return fail(ErrorKind::bad_input, fmt::format("invalid access_mode '{}'", **mode), "use ro or rw",
                data.pointer() + "/access_mode");
  volume.readonly = **mode == "ro";
  return {};
}

/// Whether a member is what Python calls true: Nova and Cinder pass flags that way.
bool truthy(const JsonNode& object, std::string_view key) {
  const JsonNode* const member = object.find(key);
  if (member == nullptr) return false;
  switch (member->type()) {
    case JsonNode::Type::null: return false;
    case JsonNode::Type::boolean: return member->boolean();
    case JsonNode::Type::natural: return member->natural() != 0;
    case JsonNode::Type::negative: return true;
    case JsonNode::Type::real: return member->real() != 0;
    case JsonNode::Type::string: return !member->string().empty();
    case JsonNode::Type::array:
    case JsonNode::Type::object: return member->size() != 0;
  }
  return false;
}

/// A flag: true or false. Profile nova takes whatever is true to Python.
Result<bool> read_flag(const NodeView& object, std::string_view key, AioProfile profile) {
  if (profile == AioProfile::nova) return truthy(object.node(), key);
  const auto flag = object.find(key);
  if (!flag) return tl::unexpected(flag.error());
  if (!*flag) return false;
  if (!(*flag)->node().is_boolean()) return (*flag)->mismatch("true or false");
  return (*flag)->node().boolean();
}

/// discard: profile nova passes over everything but true itself, as Nova does.
Result<bool> read_discard(const NodeView& data, AioProfile profile) {
  if (profile != AioProfile::nova) return read_flag(data, "discard", profile);
  const JsonNode* const discard = data.node().find("discard");
  return discard != nullptr && discard->is_boolean() && discard->boolean();
}

Result<void> read_data(const NodeView& data, AioProfile profile, VolumeInfo& volume) {
  if (!data.node().is_object()) return data.mismatch("an object");
  const auto discard = read_discard(data, profile);
  if (!discard) return tl::unexpected(discard.error());
  volume.discard = *discard;
  const auto encrypted = read_flag(data, "encrypted", profile);
  if (!encrypted) return tl::unexpected(encrypted.error());
  volume.encrypted = *encrypted;
  const auto id = data.find_string("volume_id");
  if (!id) return tl::unexpected(id.error());
  if (*id && !(*id)->empty()) volume.volume_id = **id;
  const auto logical = data.find_unsigned("logical_block_size");
  if (!logical) return tl::unexpected(logical.error());
  volume.logical_block_size = *logical;
  const auto physical = data.find_unsigned("physical_block_size");
  if (!physical) return tl::unexpected(physical.error());
  volume.physical_block_size = *physical;
  if (auto done = read_access_mode(data, volume); !done) return done;
  return read_qos(data, profile, volume);
}

/// A word of a closed vocabulary, with all of them in the error.
template <typename Enum>
Result<Enum> read_word(const NodeView& value) {
  const auto text = value.string();
  if (!text) return tl::unexpected(text.error());
  if (const auto word = disk::from_string<Enum>(*text)) return *word;
  std::string known;
  for (const std::string_view spelling : disk::spellings<Enum>)
    known += (known.empty() ? "" : ", ") + std::string(spelling);
  return fail(ErrorKind::bad_input, fmt::format("unknown value '{}'", *text), fmt::format("use one of {}", known),
              value.pointer());
}

disk::Text text_unless_empty(std::string&& text) {
  return text.empty() ? disk::Text() : disk::Text(std::move(text));
}

/// Sets `target` to the word, if there is one. A driver that publishes a word libvirt has not is at fault.
template <typename Enum>
Result<void> set_word(std::string_view what, const std::string& word, std::optional<Enum>& target) {
  if (word.empty()) return {};
  target = disk::from_string<Enum>(word);
  if (target) return {};
  return fail(ErrorKind::bug, fmt::format("the driver published the {} '{}', which libvirt does not know", what, word),
              "report this to the plugin's author");
}

Result<void> add_host(SourceHost&& from, disk::Source& source) {
  disk::Host host;
  if (!from.port.empty()) {
    const auto port = NodeView(JsonNode::of(std::string_view(from.port))).unsigned_integer();
    if (!port || *port > 65535)
      return fail(ErrorKind::bad_input, fmt::format("the port '{}' of host '{}' is no port", from.port, from.name),
                  "use a number from 1 to 65535");
    host.port = *port;
  }
  if (const auto done = set_word("transport", from.transport, host.transport); !done) return done;
  host.name = text_unless_empty(std::move(from.name));
  host.socket = text_unless_empty(std::move(from.socket));
  source.hosts.push_back(std::move(host));
  return {};
}

Result<void> set_network_source(DiskSource&& from, disk::DiskConfig& disk) {
  if (const auto done = set_word("protocol", from.protocol, disk.source.protocol); !done) return done;
  disk.source.name = std::move(from.name);
  disk.source.hosts.reserve(from.hosts.size());
  for (SourceHost& host : from.hosts)
    if (const auto done = add_host(std::move(host), disk.source); !done) return done;
  if (!from.config_file.empty()) disk.source.config.ensure().file = std::move(from.config_file);
  if (!from.auth) return {};
  disk::Auth& auth = disk.auth.ensure();
  auth.username = text_unless_empty(std::move(from.auth->username));
  auth.secret.uuid = text_unless_empty(std::move(from.auth->secret_uuid));
  return set_word("secret type", from.auth->secret_type, auth.secret.type);
}

Result<void> set_source(DiskSource&& from, disk::DiskConfig& disk) {
  switch (from.kind) {
    case SourceKind::file:
      disk.type = disk::SourceType::file;
      disk.source.file = std::move(from.path);
      return {};
    case SourceKind::block:
      disk.type = disk::SourceType::block;
      disk.source.dev = std::move(from.path);
      return {};
    case SourceKind::network:
      disk.type = disk::SourceType::network;
      return set_network_source(std::move(from), disk);
  }
  return {};
}

/// Refuses a misspelt member of disk_info, which would otherwise do nothing.
Result<void> check_members(const JsonNode& disk_info) {
  // `format` is Nova's, for disks it creates itself; a volume's follows from its connection_info.
  static constexpr std::array<std::string_view, 6> kKnown{"bus", "dev", "type", "unit", "boot_index", "format"};
  for (std::size_t i = 0; i < disk_info.size(); ++i) {
    const std::string_view key = disk_info.member(i)->key;
    if (std::find(kKnown.begin(), kKnown.end(), key) != kKnown.end()) continue;
    const auto near = nearest(key, kKnown);
    return fail(ErrorKind::bad_input, fmt::format("unknown member '{}'", key),
                near ? fmt::format("did you mean '{}'?", *near) : std::string("remove it"), "/" + pointer_token(key));
  }
  return {};
}

}  // namespace

Result<DiskInfo> parse_disk_info(const JsonNode& disk_info, AioProfile profile) {
  const NodeView view(disk_info);
  DiskInfo info;
  if (profile != AioProfile::nova && disk_info.is_object())
    if (const auto known = check_members(disk_info); !known) return tl::unexpected(known.error());
  const auto bus = view.at("bus").and_then(read_word<disk::Bus>);
  if (!bus) return tl::unexpected(bus.error());
  info.bus = *bus;
  const auto dev = view.at("dev").and_then([](const NodeView& value) { return value.string(); });
  if (!dev) return tl::unexpected(dev.error());
  if (dev->empty())
    return fail(ErrorKind::bad_input, "the target's name is empty", "name it as the guest will see it: vdb", "/dev");
  info.dev = *dev;
  const auto type = view.find("type");
  if (!type) return tl::unexpected(type.error());
  if (*type) {
    const auto kind = read_word<disk::DeviceKind>(**type);
    if (!kind) return tl::unexpected(kind.error());
    info.type = *kind;
  }
  const auto unit = view.find_unsigned("unit");
  if (!unit) return tl::unexpected(unit.error());
  info.unit = *unit;
  if (info.unit && info.bus != disk::Bus::scsi && profile != AioProfile::nova)
    return fail(ErrorKind::bad_input, fmt::format("a unit means nothing on bus {}", disk::to_string(info.bus)),
                "leave it out, or use bus scsi", "/unit");
  const auto boot_index = view.find_unsigned("boot_index");
  if (!boot_index) return tl::unexpected(boot_index.error());
  if (*boot_index && **boot_index == 0)
    return fail(ErrorKind::bad_input, "boot_index 0 is no boot order", "count from 1, as Nova's disk_info does",
                "/boot_index");
  info.boot_index = *boot_index;
  return info;
}

Result<VolumeInfo> parse_volume_info(const JsonNode& connection_info, AioProfile profile) {
  const NodeView view(connection_info);
  VolumeInfo volume;
  const auto type = view.at("driver_volume_type").and_then([](const NodeView& value) { return value.string(); });
  if (!type) return tl::unexpected(type.error());
  volume.type = *type;
  const auto serial = view.find_string("serial");
  if (!serial) return tl::unexpected(serial.error());
  volume.serial = *serial;
  const auto multiattach = read_flag(view, "multiattach", profile);
  if (!multiattach) return tl::unexpected(multiattach.error());
  volume.multiattach = *multiattach;
  const auto data = view.find("data");
  if (!data) return tl::unexpected(data.error());
  if (*data)
    if (const auto done = read_data(**data, profile, volume); !done) return tl::unexpected(done.error());
  if (volume.volume_id.empty()) volume.volume_id = volume.serial.value_or("");
  return volume;
}

CacheMode choose_cache_mode(const Config& config, SourceKind source, bool shareable) {
  if (shareable) return CacheMode::none;
  const auto configured = config.disk_cachemodes.find(source);
  return configured == config.disk_cachemodes.end() ? CacheMode::none : configured->second;
}

Result<disk::DiskConfig> build_disk(const VolumeInfo& volume, const DiskInfo& info, Attachment&& attachment,
                                    CacheMode cache, std::optional<AioMode> io,
                                    const std::optional<std::string>& secret_uuid, AioProfile profile) {
  Result<disk::DiskConfig> made(tl::in_place);  // returned as it is: a disk is large to move
  disk::DiskConfig& disk = *made;
  disk.device = info.type;
  disk.driver.name = "qemu";
  disk.driver.type = std::move(attachment.format);
  disk.driver.cache = cache;
  disk.driver.io = io;
  if (volume.discard) disk.driver.discard = disk::Discard::unmap;
  disk.target.dev = info.dev;
  disk.target.bus = info.bus;
  disk.serial = volume.serial;
  disk.iotune = volume.iotune;
  if (volume.logical_block_size || volume.physical_block_size) {
    disk.blockio.ensure().logical_block_size = volume.logical_block_size;
    disk.blockio->physical_block_size = volume.physical_block_size;
  }
  disk.readonly = volume.readonly;
  disk.shareable = volume.multiattach;
  // Nova's volume drivers leave boot_index to the domain's <os>, so profile nova does too.
  if (profile != AioProfile::nova) disk.boot.order = info.boot_index;
  if (info.bus == disk::Bus::scsi && info.unit) {
    disk::Address& address = disk.address.ensure();
    address.type = disk::AddressType::drive;
    address.controller = 0;
    address.unit = info.unit;
  }
  if (secret_uuid) {
    disk::Encryption& encryption = disk.encryption.ensure();
    encryption.format = disk::EncryptionFormat::luks;
    encryption.secrets.push_back({.type = disk::SecretType::passphrase, .uuid = *secret_uuid});
  }
  if (auto done = set_source(std::move(attachment.source), disk); !done) made = tl::unexpected(std::move(done).error());
  return made;
}

}  // namespace aiolos
