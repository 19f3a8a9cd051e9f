// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/attachment.h"

#include <array>

#include <fmt/format.h>

namespace aiolos {
namespace {

/// Refuses members that are not in `known`: a plugin that misspells one would otherwise lose it silently.
template <std::size_t N>
Result<void> only(const JsonView& object, const std::array<std::string_view, N>& known) {
  if (!object.json().is_object()) return object.mismatch("an object");
  for (const auto& [key, value] : object.json().get_ref<const Json::object_t&>()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const auto near = nearest(key, known);
    return fail(ErrorKind::bad_input, fmt::format("unknown member '{}'", key),
                near ? fmt::format("did you mean '{}'?", *near) : std::string("remove it"),
                object.pointer() + "/" + pointer_token(key));
  }
  return {};
}

/// Copies a string member into `target` if it is there.
Result<void> read(const JsonView& object, std::string_view key, std::string& target) {
  auto text = object.find_string(key);
  if (!text) return tl::unexpected(text.error());
  if (*text) target = std::move(**text);
  return {};
}

Result<std::vector<SourceHost>> hosts_from_json(const JsonView& list) {
  static constexpr std::array<std::string_view, 4> kKnown{"name", "port", "transport", "socket"};
  if (!list.json().is_array()) return list.mismatch("an array of hosts");
  std::vector<SourceHost> hosts;
  for (std::size_t i = 0; i < list.json().size(); ++i) {
    const JsonView entry(list.json()[i], fmt::format("{}/{}", list.pointer(), i));
    SourceHost host;
    Result<void> done = only(entry, kKnown);
    if (done) done = read(entry, "name", host.name);
    if (done) done = read(entry, "port", host.port);
    if (done) done = read(entry, "transport", host.transport);
    if (done) done = read(entry, "socket", host.socket);
    if (!done) return tl::unexpected(done.error());
    hosts.push_back(std::move(host));
  }
  return hosts;
}

Result<SourceAuth> auth_from_json(const JsonView& value) {
  static constexpr std::array<std::string_view, 3> kKnown{"username", "secret_type", "secret_uuid"};
  SourceAuth auth;
  Result<void> done = only(value, kKnown);
  if (done) done = read(value, "username", auth.username);
  if (done) done = read(value, "secret_type", auth.secret_type);
  if (done) done = read(value, "secret_uuid", auth.secret_uuid);
  if (!done) return tl::unexpected(done.error());
  return auth;
}

Result<SourceKind> kind_from_json(const JsonView& source) {
  const auto kind = source.at("type").and_then([](const JsonView& member) { return member.string(); });
  if (!kind) return tl::unexpected(kind.error());
  if (const auto value = source_kind_from_string(*kind)) return *value;
  return fail(ErrorKind::bad_input, fmt::format("unknown source type '{}'", *kind), "use file, block or network",
              source.pointer() + "/type");
}

/// What each kind of source cannot do without.
Result<void> check_source(const DiskSource& source, const std::string& pointer) {
  if (source.kind == SourceKind::network) {
    if (!source.protocol.empty()) return {};
    return fail(ErrorKind::bad_input, "a network source needs a protocol", "set it", pointer + "/protocol");
  }
  if (!source.path.empty()) return {};
  return fail(ErrorKind::bad_input, fmt::format("a {} source needs a path", to_string(source.kind)), "set it",
              pointer + "/path");
}

Result<DiskSource> source_from_json(const JsonView& value) {
  static constexpr std::array<std::string_view, 7> kKnown{"type",  "path", "protocol",   "name",
                                                          "hosts", "auth", "config_file"};
  if (const auto done = only(value, kKnown); !done) return tl::unexpected(done.error());
  const auto kind = kind_from_json(value);
  if (!kind) return tl::unexpected(kind.error());
  DiskSource source;
  source.kind = *kind;
  Result<void> done = read(value, "path", source.path);
  if (done) done = read(value, "protocol", source.protocol);
  if (done) done = read(value, "config_file", source.config_file);
  if (!done) return tl::unexpected(done.error());
  auto name = value.find_string("name");
  if (!name) return tl::unexpected(name.error());
  source.name = std::move(*name);
  const auto hosts = value.find("hosts");
  if (*hosts) {
    auto list = hosts_from_json(**hosts);
    if (!list) return tl::unexpected(list.error());
    source.hosts = std::move(*list);
  }
  const auto auth = value.find("auth");
  if (*auth) {
    auto parsed = auth_from_json(**auth);
    if (!parsed) return tl::unexpected(parsed.error());
    source.auth = std::move(*parsed);
  }
  if (auto complete = check_source(source, value.pointer()); !complete) return tl::unexpected(complete.error());
  return source;
}

void put(Json& object, const char* key, const std::string& value) {
  if (!value.empty()) object[key] = value;
}

Json to_json(const SourceHost& host) {
  Json object = Json::object();
  put(object, "name", host.name);
  put(object, "port", host.port);
  put(object, "transport", host.transport);
  put(object, "socket", host.socket);
  return object;
}

Json to_json(const DiskSource& source) {
  Json object = {{"type", to_string(source.kind)}};
  put(object, "path", source.path);
  put(object, "protocol", source.protocol);
  put(object, "config_file", source.config_file);
  if (source.name) object["name"] = *source.name;
  for (const SourceHost& host : source.hosts) object["hosts"].push_back(to_json(host));
  if (source.auth) {
    Json auth = Json::object();
    put(auth, "username", source.auth->username);
    put(auth, "secret_type", source.auth->secret_type);
    put(auth, "secret_uuid", source.auth->secret_uuid);
    object["auth"] = std::move(auth);
  }
  return object;
}

}  // namespace

Json to_json(const Attachment& attachment) {
  Json object = {{"source", to_json(attachment.source)}, {"format", attachment.format}};
  if (!attachment.state.is_null()) object["state"] = attachment.state;
  return object;
}

Result<Attachment> attachment_from_json(const Json& value) {
  static constexpr std::array<std::string_view, 3> kKnown{"source", "format", "state"};
  const JsonView view(value);
  if (const auto done = only(view, kKnown); !done) return tl::unexpected(done.error());
  const auto member = view.at("source");
  if (!member) return tl::unexpected(member.error());
  auto source = source_from_json(*member);
  if (!source) return tl::unexpected(source.error());
  Attachment attachment;
  attachment.source = std::move(*source);
  if (const auto done = read(view, "format", attachment.format); !done) return tl::unexpected(done.error());
  if (const auto state = value.find("state"); state != value.end()) attachment.state = *state;
  return attachment;
}

}  // namespace aiolos
