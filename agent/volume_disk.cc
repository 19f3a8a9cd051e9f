// SPDX-License-Identifier: Apache-2.0
#include "volume_disk.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "aiolos/core/key_table.h"

namespace aiolos {
namespace {

using disk::IoTune;

/// Reads one member of an object into `Into`; it is there, and not null.
template <typename Into>
using ReadMember = Result<void> (*)(const NodeView& value, AioProfile profile, Into& into);

/// Reads what `table` knows of an object, in the table's order; what it does not know is others', and passes unread.
template <const auto& table, typename Into>
Result<void> read_members(const NodeView& object, AioProfile profile, Into& into) {
  if (!object.node().is_object()) return object.mismatch("an object");
  const auto members = table.members_of(object.node());
  Result<void> done;
  const auto read = [&]<std::size_t row>() {
    const JsonNode* const member = members[row];
    if (member == nullptr || member->is_null()) return true;
    auto one = table[row](object.view(*member), profile, into);
    if (!one) done = std::move(one);
    return done.has_value();
  };
  [&]<std::size_t... row>(std::index_sequence<row...>) { static_cast<void>((read.template operator()<row>() && ...)); }
  (std::make_index_sequence<members.size()>());
  return done;
}

/// One key of qos_specs. Nova 26 knows those without a burst length and a group.
struct QosKey {
  disk::Number IoTune::*member;
  bool in_nova;
};

constexpr KeyTable<QosKey, 19> kQosKeys({
    {"total_bytes_sec", {&IoTune::total_bytes_sec, true}},
    {"read_bytes_sec", {&IoTune::read_bytes_sec, true}},
    {"write_bytes_sec", {&IoTune::write_bytes_sec, true}},
    {"total_iops_sec", {&IoTune::total_iops_sec, true}},
    {"read_iops_sec", {&IoTune::read_iops_sec, true}},
    {"write_iops_sec", {&IoTune::write_iops_sec, true}},
    {"total_bytes_sec_max", {&IoTune::total_bytes_sec_max, true}},
    {"read_bytes_sec_max", {&IoTune::read_bytes_sec_max, true}},
    {"write_bytes_sec_max", {&IoTune::write_bytes_sec_max, true}},
    {"total_iops_sec_max", {&IoTune::total_iops_sec_max, true}},
    {"read_iops_sec_max", {&IoTune::read_iops_sec_max, true}},
    {"write_iops_sec_max", {&IoTune::write_iops_sec_max, true}},
    {"size_iops_sec", {&IoTune::size_iops_sec, true}},
    {"total_bytes_sec_max_length", {&IoTune::total_bytes_sec_max_length, false}},
    {"read_bytes_sec_max_length", {&IoTune::read_bytes_sec_max_length, false}},
    {"write_bytes_sec_max_length", {&IoTune::write_bytes_sec_max_length, false}},
    {"total_iops_sec_max_length", {&IoTune::total_iops_sec_max_length, false}},
    {"read_iops_sec_max_length", {&IoTune::read_iops_sec_max_length, false}},
    {"write_iops_sec_max_length", {&IoTune::write_iops_sec_max_length, false}},
});

/// Keys of other consumers (the storage's front end) are theirs, not ours, and pass unread.
Result<void> read_qos(const NodeView& specs, AioProfile profile, VolumeInfo& volume) {
  const bool as_nova = profile == AioProfile::nova;
  if (!specs.node().is_object()) {
    if (as_nova) return {};  // Nova logs a warning
    return specs.mismatch("an object");
  }
  for (std::size_t i = 0; i < specs.node().size(); ++i) {
    const JsonMember& member = *specs.node().member(i);
    const QosKey* const key = kQosKeys.find(member.key);
    if (key == nullptr || member.value.is_null() || (as_nova && !key->in_nova)) continue;
    const auto number = specs.view(member.value).unsigned_integer();
    if (!number) return tl::unexpected(number.error());
    volume.iotune.ensure().*key->member = *number;
  }
  if (as_nova) return {};
  const auto group = specs.find_string("group_name");
  if (!group) return tl::unexpected(group.error());
  if (*group) volume.iotune.ensure().group_name = **group;
  return {};
}

Result<void> read_access_mode(const NodeView& value, AioProfile, VolumeInfo& volume) {
  const auto mode = value.string();
  if (!mode) return tl::unexpected(mode.error());
  if (!mode->empty() && *mode != "ro" && *mode != "rw")
    return fail(ErrorKind::bad_input, fmt::format("invalid access_mode '{}'", *mode), "use ro or rw", value.pointer());
  volume.readonly = *mode == "ro";
  return {};
}

/// Whether a value is what Python calls true: Nova and Cinder pass flags that way.
bool truthy(const JsonNode& value) {
  switch (value.type()) {
    case JsonNode::Type::null:
      return false;
    case JsonNode::Type::boolean:
      return value.boolean();
    case JsonNode::Type::natural:
      return value.natural() != 0;
    case JsonNode::Type::negative:
      return true;
    case JsonNode::Type::real:
      return value.real() != 0;
    case JsonNode::Type::string:
      return !value.string().empty();
    case JsonNode::Type::array:
    case JsonNode::Type::object:
      return value.size() != 0;
  }
  return false;
}

/// A flag: true or false. Profile nova takes whatever is true to Python.
template <bool VolumeInfo::*flag>
Result<void> read_flag(const NodeView& value, AioProfile profile, VolumeInfo& volume) {
  if (profile != AioProfile::nova && !value.node().is_boolean()) return value.mismatch("true or false");
  volume.*flag = truthy(value.node());
  return {};
}

/// discard: profile nova passes over everything but true itself, as Nova does.
Result<void> read_discard(const NodeView& value, AioProfile profile, VolumeInfo& volume) {
  if (profile != AioProfile::nova) return read_flag<&VolumeInfo::discard>(value, profile, volume);
  volume.discard = value.node().is_boolean() && value.node().boolean();
  return {};
}

template <auto member, typename Into>
Result<void> read_number(const NodeView& value, AioProfile, Into& into) {
  const auto number = value.unsigned_integer();
  if (!number) return tl::unexpected(number.error());
  into.*member = *number;
  return {};
}

template <auto member>
Result<void> read_text(const NodeView& value, AioProfile, VolumeInfo& volume) {
  const auto text = value.string();
  if (!text) return tl::unexpected(text.error());
  volume.*member = *text;
  return {};
}

constexpr KeyTable<ReadMember<VolumeInfo>, 7> kDataMembers({
    {"access_mode", read_access_mode},
    {"discard", read_discard},
    {"encrypted", read_flag<&VolumeInfo::encrypted>},
    {"logical_block_size", read_number<&VolumeInfo::logical_block_size, VolumeInfo>},
    {"physical_block_size", read_number<&VolumeInfo::physical_block_size, VolumeInfo>},
    {"qos_specs", read_qos},
    {"volume_id", read_text<&VolumeInfo::volume_id>},
});

Result<void> read_data(const NodeView& data, AioProfile profile, VolumeInfo& volume) {
  return read_members<kDataMembers>(data, profile, volume);
}

constexpr KeyTable<ReadMember<VolumeInfo>, 4> kVolumeMembers({
    {"data", read_data},
    {"driver_volume_type", read_text<&VolumeInfo::type>},
    {"multiattach", read_flag<&VolumeInfo::multiattach>},
    {"serial", read_text<&VolumeInfo::serial>},
});

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

disk::Text text_unless_empty(std::string&& text) { return text.empty() ? disk::Text() : disk::Text(std::move(text)); }

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

template <auto member>
Result<void> read_disk_word(const NodeView& value, AioProfile, DiskInfo& info) {
  const auto word = read_word<std::remove_reference_t<decltype(info.*member)>>(value);
  if (!word) return tl::unexpected(word.error());
  info.*member = *word;
  return {};
}

Result<void> read_target(const NodeView& value, AioProfile, DiskInfo& info) {
  const auto dev = value.string();
  if (!dev) return tl::unexpected(dev.error());
  if (dev->empty())
    return fail(ErrorKind::bad_input, "the target's name is empty", "name it as the guest will see it: vdb", "/dev");
  info.dev = *dev;
  return {};
}

Result<void> read_boot_index(const NodeView& value, AioProfile profile, DiskInfo& info) {
  if (auto done = read_number<&DiskInfo::boot_index>(value, profile, info); !done) return done;
  if (info.boot_index == 0U)
    return fail(ErrorKind::bad_input, "boot_index 0 is no boot order", "count from 1, as Nova's disk_info does",
                "/boot_index");
  return {};
}

Result<void> read_data_plane(const NodeView& member, AioProfile, DiskInfo& info) {
  const auto word = member.string();
  if (!word) return tl::unexpected(word.error());
  for (const DataPlaneKind kind : {DataPlaneKind::qemu, DataPlaneKind::engine})
    if (*word == to_string(kind)) info.data_plane = kind;
  if (info.data_plane) return {};
  return fail(ErrorKind::bad_input, fmt::format("unknown data plane '{}'", *word), "use qemu or engine",
              member.pointer());
}

constexpr KeyTable<ReadMember<DiskInfo>, 7> kDiskInfoMembers({
    {"boot_index", read_boot_index},
    {"bus", read_disk_word<&DiskInfo::bus>},
    {"data_plane", read_data_plane},
    {"dev", read_target},
    // Nova's, for disks it creates itself; a volume's follows from its connection_info.
    {"format", [](const NodeView&, AioProfile, DiskInfo&) -> Result<void> { return {}; }},
    {"type", read_disk_word<&DiskInfo::type>},
    {"unit", read_number<&DiskInfo::unit, DiskInfo>},
});

/// Refuses a misspelt member of disk_info, which would otherwise do nothing.
Result<void> check_members(const JsonNode& disk_info) {
  if (!disk_info.is_object()) return {};  // which is told by who reads its members
  for (std::size_t i = 0; i < disk_info.size(); ++i) {
    const std::string_view key = disk_info.member(i)->key;
    if (kDiskInfoMembers.find(key) != nullptr) continue;
    const auto near = nearest(key, kDiskInfoMembers.keys());
    return fail(ErrorKind::bad_input, fmt::format("unknown member '{}'", key),
                near ? fmt::format("did you mean '{}'?", *near) : std::string("remove it"), "/" + pointer_token(key));
  }
  return {};
}

/// Fails for a member that is required and not there.
Result<void> require(const NodeView& object, std::string_view key) {
  if (const JsonNode* const found = object.node().find(key); found != nullptr && !found->is_null()) return {};
  const auto member = object.at(key);
  if (!member) return tl::unexpected(member.error());
  return {};
}

}  // namespace

Result<DiskInfo> parse_disk_info(const JsonNode& disk_info, AioProfile profile) {
  const NodeView view(disk_info);
  DiskInfo info;
  if (profile != AioProfile::nova)
    if (auto known = check_members(disk_info); !known) return tl::unexpected(std::move(known).error());
  if (auto read = read_members<kDiskInfoMembers>(view, profile, info); !read)
    return tl::unexpected(std::move(read).error());
  if (auto there = require(view, "bus"); !there) return tl::unexpected(std::move(there).error());
  if (info.dev.empty())
    if (auto there = require(view, "dev"); !there) return tl::unexpected(std::move(there).error());
  if (info.unit && info.bus != disk::Bus::scsi && profile != AioProfile::nova)
    return fail(ErrorKind::bad_input, fmt::format("a unit means nothing on bus {}", disk::to_string(info.bus)),
                "leave it out, or use bus scsi", "/unit");
  return info;
}

Result<VolumeInfo> parse_volume_info(const JsonNode& connection_info, AioProfile profile) {
  const NodeView view(connection_info);
  VolumeInfo volume;
  if (auto read = read_members<kVolumeMembers>(view, profile, volume); !read)
    return tl::unexpected(std::move(read).error());
  if (volume.type.empty())
    if (auto there = require(view, "driver_volume_type"); !there) return tl::unexpected(std::move(there).error());
  if (volume.volume_id.empty()) volume.volume_id = volume.serial.value_or("");
  return volume;
}

CacheMode choose_cache_mode(const Config& config, SourceKind source, bool shareable) {
  if (shareable) return CacheMode::none;
  const auto configured = config.disk_cachemodes.find(source);
  return configured == config.disk_cachemodes.end() ? CacheMode::none : configured->second;
}

Result<QosLimits> parse_qos_limits(const JsonNode& specs) {
  const NodeView view(specs);
  if (!specs.is_object()) return view.mismatch("an object");
  QosLimits limits;
  for (const std::string_view key : kQosKeys.keys()) limits.values.emplace(key, 0);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const JsonMember& member = *specs.member(i);
    const NodeView value = view.view(member.value);
    if (member.value.is_null()) continue;
    if (member.key == "group_name") {
      const auto group = value.string();
      if (!group) return tl::unexpected(group.error());
      limits.group = *group;
    } else if (kQosKeys.find(member.key) != nullptr) {
      const auto number = value.unsigned_integer();
      if (!number) return tl::unexpected(number.error());
      limits.values[std::string(member.key)] = *number;
    } else {
      const auto known = nearest(member.key, kQosKeys.keys());
      return fail(ErrorKind::bad_input, fmt::format("'{}' is no limit of a disk", member.key),
                  known ? fmt::format("did you mean '{}'?", *known)
                        : fmt::format("use some of {}", fmt::join(kQosKeys.keys(), ", ")),
                  value.pointer());
    }
  }
  return limits;
}

void set_iotune(disk::DiskConfig& disk, const QosLimits& limits) {
  IoTune& iotune = disk.iotune.ensure();
  bool is_limited = false;
  for (const auto& [name, value] : limits.values) {
    iotune.*kQosKeys.find(name)->member = value == 0 ? disk::Number() : value;
    is_limited |= value != 0;
  }
  if (!limits.group.empty()) iotune.group_name = limits.group;
  if (!is_limited && !iotune.group_name) disk.iotune.reset();
}

Result<disk::DiskConfig> build_disk(VolumeInfo&& volume, const DiskInfo& info, Attachment&& attachment, CacheMode cache,
                                    std::optional<AioMode> io, const std::optional<std::string>& secret_uuid,
                                    AioProfile profile) {
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
  disk.iotune = std::move(volume.iotune);
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
