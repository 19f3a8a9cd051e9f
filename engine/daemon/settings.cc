// SPDX-License-Identifier: Apache-2.0
#include "settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>

namespace aiolos::engine {
namespace {

/// One member of an object: how its value is taken over into a `T`.
template <typename T>
struct Member {
  std::string_view name;
  std::function<Result<void>(const JsonView&, T&)> read;
};

template <typename T>
Result<void> read_members(const JsonView& object, std::span<const Member<T>> members, T& into) {
  if (!object.json().is_object()) return object.mismatch("an object");
  for (const auto& [key, value] : object.json().items()) {
    const auto known =
        std::find_if(members.begin(), members.end(), [&](const auto& member) { return member.name == key; });
    if (known == members.end()) {
      std::vector<std::string_view> names;
      for (const auto& member : members) names.push_back(member.name);
      const auto meant = nearest(key, names);
      return fail(
          ErrorKind::bad_input, fmt::format("unknown setting '{}'", key),
          meant ? fmt::format("did you mean '{}'?", *meant) : fmt::format("known are {}", fmt::join(names, ", ")),
          object.pointer());
    }
    if (auto read = known->read(JsonView(value, object.pointer() + "/" + pointer_token(key)), into); !read) return read;
  }
  return {};
}

/// A boolean, also spelled as YAML, QEMU and people do.
Result<bool> read_switch(const JsonView& value) {
  if (value.json().is_boolean()) return value.boolean();
  const auto text = value.string();
  if (text && (*text == "on" || *text == "true" || *text == "yes")) return true;
  if (text && (*text == "off" || *text == "false" || *text == "no")) return false;
  return value.mismatch("on or off");
}

Result<unsigned> read_number(const JsonView& value, std::uint64_t least, std::uint64_t most) {
  const auto number = value.unsigned_integer();
  if (!number) return tl::unexpected(number.error());
  if (*number < least || *number > most) return value.mismatch(fmt::format("{} to {}", least, most));
  return static_cast<unsigned>(*number);
}

template <typename T>
auto text_member(std::string T::*member) {
  return [member](const JsonView& value, T& into) -> Result<void> {
    auto text = value.string();
    if (!text) return tl::unexpected(text.error());
    into.*member = std::move(*text);
    return {};
  };
}

template <typename T>
auto switch_member(bool T::*member) {
  return [member](const JsonView& value, T& into) -> Result<void> {
    const auto on = read_switch(value);
    if (!on) return tl::unexpected(on.error());
    into.*member = *on;
    return {};
  };
}

template <typename T>
auto number_member(unsigned T::*member, std::uint64_t least, std::uint64_t most) {
  return [=](const JsonView& value, T& into) -> Result<void> {
    const auto number = read_number(value, least, most);
    if (!number) return tl::unexpected(number.error());
    into.*member = *number;
    return {};
  };
}

Result<void> read_aio(const JsonView& value, DiskSettings& disk) {
  const auto name = value.string();
  if (!name) return tl::unexpected(name.error());
  const auto mode = aio_mode_from_string(*name);
  if (!mode) return value.mismatch("threads, native or io_uring");
  disk.aio = *mode;
  return {};
}

Result<void> read_weight(const JsonView& value, DiskSettings& disk) {
  const auto number = read_number(value, 1, 1000);
  if (!number) return tl::unexpected(number.error());
  disk.weight = *number;
  return {};
}

const std::array<Member<DiskSettings>, 10>& disk_members() {
  static const std::array<Member<DiskSettings>, 10> members{{
      {"path", text_member(&DiskSettings::path)},
      {"socket", text_member(&DiskSettings::socket)},
      {"aio", read_aio},
      {"group", text_member(&DiskSettings::group)},
      {"serial", text_member(&DiskSettings::serial)},
      {"readonly", switch_member(&DiskSettings::read_only)},
      {"direct", switch_member(&DiskSettings::direct)},
      {"queues", number_member(&DiskSettings::queues, 1, 64)},
      {"weight", read_weight},
      {"name", text_member(&DiskSettings::name)},
  }};
  return members;
}

Result<void> read_disks(const JsonView& value, Settings& settings) {
  if (!value.json().is_array()) return value.mismatch("a list of disks");
  for (std::size_t i = 0; i < value.json().size(); ++i) {
    auto disk = read_disk(JsonView(value.json()[i], fmt::format("{}/{}", value.pointer(), i)));
    if (!disk) return tl::unexpected(disk.error());
    settings.disks.push_back(std::move(*disk));
  }
  return {};
}

const std::array<Member<Settings>, 8>& setting_members() {
  static const std::array<Member<Settings>, 8> members{{
      {"admin", text_member(&Settings::admin)},
      {"metrics", text_member(&Settings::metrics)},
      {"state", text_member(&Settings::state)},
      {"reactors", number_member(&Settings::reactors, 1, 64)},
      {"capacity", number_member(&Settings::capacity, 1, kLargestLimit)},
      {"drain_target_ms", number_member(&Settings::drain_target_ms, 0, 60'000)},
      {"socket_group", text_member(&Settings::socket_group)},
      {"disks", read_disks},
  }};
  return members;
}

/// Scalars stay as they are spelled: the readers above know what they want.
Json to_json(const YAML::Node& node) {
  if (node.IsMap()) {
    Json object = Json::object();
    for (const auto& entry : node) object[entry.first.as<std::string>()] = to_json(entry.second);
    return object;
  }
  if (node.IsSequence()) {
    Json array = Json::array();
    for (const auto& entry : node) array.push_back(to_json(entry));
    return array;
  }
  return node.IsScalar() ? Json(node.Scalar()) : Json();
}

}  // namespace

Result<DiskSettings> read_disk(const JsonView& object) {
  DiskSettings disk;
  if (auto read = read_members<DiskSettings>(object, disk_members(), disk); !read) return tl::unexpected(read.error());
  for (const auto& [name, value] : {std::pair("path", &disk.path), std::pair("socket", &disk.socket)})
    if (value->empty())
      return fail(ErrorKind::bad_input, fmt::format("a disk without '{}'", name), "give path=FILE and socket=SOCKET",
                  object.pointer());
  if (disk.name.empty()) disk.name = disk.socket;
  return disk;
}

Result<DiskSettings> parse_disk(const std::string& text) {
  Json object = Json::object();
  std::string pair;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const bool separator = i == text.size() || (text[i] == ',' && text.compare(i, 2, ",,") != 0);
    if (!separator) {
      if (text[i] == ',') ++i;  // the first of two
      pair += text[i];
      continue;
    }
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos)
      return fail(ErrorKind::bad_input, fmt::format("'{}' in a disk is no key=value", pair),
                  "write path=FILE,socket=SOCKET,aio=io_uring");
    object[pair.substr(0, equals)] = pair.substr(equals + 1);
    pair.clear();
  }
  return read_disk(JsonView(object));
}

Json to_json(const DiskSettings& disk) {
  return {{"name", disk.name},          {"path", disk.path},
          {"socket", disk.socket},      {"aio", to_string(disk.aio)},
          {"group", disk.group},        {"serial", disk.serial},
          {"readonly", disk.read_only}, {"direct", disk.direct},
          {"queues", disk.queues},      {"weight", static_cast<unsigned>(disk.weight)}};
}

Result<Settings> load_settings(const std::string& file) {
  Settings settings;
  try {
    const Json document = to_json(YAML::LoadFile(file));
    if (document.is_null()) return settings;
    if (auto read = read_members<Settings>(JsonView(document), setting_members(), settings); !read) {
      Error error = read.error();
      error.kind = ErrorKind::configuration;
      error.where = file + ":" + error.where;
      return tl::unexpected(std::move(error));
    }
  } catch (const YAML::Exception& error) {
    return fail(ErrorKind::configuration, "cannot read the configuration: " + std::string(error.what()),
                "see the engine's documentation", file);
  }
  return settings;
}

}  // namespace aiolos::engine
