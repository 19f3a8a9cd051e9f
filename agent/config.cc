// SPDX-License-Identifier: Apache-2.0
#include "aiolos/agent/config.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "aiolos/core/posix.h"

namespace aiolos {
namespace {

// Far beyond any real configuration. An alias may hold itself, or stand for a tree of aliases, and so give few lines
// more values than there is memory.
constexpr std::size_t kDeepest = 64;
constexpr std::size_t kMostValues = 100'000;

/// One document being read.
struct Reader {
  std::string origin;

  std::string place(const YAML::Mark& mark) const {
    // yaml-cpp counts from 0; a null mark (-1) is a node that is not in the text.
    return mark.is_null() ? origin : fmt::format("{}:{}:{}", origin, mark.line + 1, mark.column + 1);
  }
  tl::unexpected<Error> error(const YAML::Node& node, std::string message, std::string next) const {
    return fail(ErrorKind::configuration, std::move(message), std::move(next), place(node.Mark()));
  }
  tl::unexpected<Error> given_twice(const YAML::Node& key, std::string_view name) const {
    return error(key, fmt::format("the key '{}' is given twice", name), "keep one of the two");
  }
};

using Apply = std::function<Result<void>(const Reader&, const YAML::Node&, Config&)>;

/// One key of the framework's own sections.
struct Key {
  std::string_view section;
  std::string_view name;  ///< Empty: any key of the section; `apply` gets the whole section.
  Apply apply;
};

Result<std::string> scalar(const Reader& reader, const YAML::Node& node, std::string_view expected) {
  if (node.IsScalar()) return node.Scalar();
  const std::string_view found = node.IsMap() ? "a mapping" : node.IsSequence() ? "a list" : "nothing";
  return reader.error(node, fmt::format("expected {}, found {}", expected, found), fmt::format("write {}", expected));
}

Apply string_key(std::string& (*target)(Config&)) {
  return [target](const Reader& reader, const YAML::Node& node, Config& config) -> Result<void> {
    auto text = scalar(reader, node, "a string");
    if (!text) return tl::unexpected(text.error());
    target(config) = std::move(*text);
    return {};
  };
}

/// A number of things.
template <typename Number>
Result<Number> count(const Reader& reader, const YAML::Node& node, Number least, Number most) {
  const std::string expected = fmt::format("a number from {} to {}", least, most);
  const auto text = scalar(reader, node, expected);
  if (!text) return tl::unexpected(text.error());
  std::int64_t value = 0;
  if (!YAML::convert<std::int64_t>::decode(node, value) || value < 0 || static_cast<std::uint64_t>(value) < least ||
      static_cast<std::uint64_t>(value) > most)
    return reader.error(node, fmt::format("'{}' is not {}", *text, expected), fmt::format("write {}", expected));
  return static_cast<Number>(value);
}

/// A key whose value is a number of things.
template <typename Number>
Apply count_key(Number least, Number most, Number& (*target)(Config&)) {
  return [least, most, target](const Reader& reader, const YAML::Node& node, Config& config) {
    return count(reader, node, least, most).map([&](Number value) { target(config) = value; });
  };
}

/// The same where no number is something else than any number.
template <typename Number>
Apply optional_key(Number least, Number most, void (*set)(Config&, Number)) {
  return [least, most, set](const Reader& reader, const YAML::Node& node, Config& config) {
    return count(reader, node, least, most).map([&](Number value) { set(config, value); });
  };
}

/// A key whose value is one of a few words.
template <typename Enum>
Apply word_key(std::vector<std::pair<std::string_view, Enum>> words, Enum& (*target)(Config&)) {
  return
      [words = std::move(words), target](const Reader& reader, const YAML::Node& node, Config& config) -> Result<void> {
        std::string expected;
        for (const auto& [word, value] : words) expected += (expected.empty() ? "" : " | ") + std::string(word);
        const auto text = scalar(reader, node, expected);
        if (!text) return tl::unexpected(text.error());
        for (const auto& [word, value] : words) {
          if (word != *text) continue;
          target(config) = value;
          return {};
        }
        return reader.error(node, fmt::format("unknown value '{}'", *text), fmt::format("use {}", expected));
      };
}

Result<std::string> absolute_path(const Reader& reader, const YAML::Node& node) {
  auto path = scalar(reader, node, "a folder");
  if (path && !path->starts_with('/'))
    return reader.error(node, fmt::format("'{}' is not an absolute path", *path), "write the whole path, from '/'");
  return path;
}

/// A key whose value is an absolute path.
Apply path_key(std::string& (*target)(Config&)) {
  return [target](const Reader& reader, const YAML::Node& node, Config& config) {
    return absolute_path(reader, node).map([&](std::string path) { target(config) = std::move(path); });
  };
}

Result<void> apply_state_dir(const Reader& reader, const YAML::Node& node, Config& config) {
  return absolute_path(reader, node).map([&](std::string path) { config.state.dir = std::move(path); });
}

Result<void> apply_plugin_path(const Reader& reader, const YAML::Node& node, Config& config) {
  if (!node.IsSequence()) return reader.error(node, "expected a list of folders", "write [/folder, ...]");
  for (const auto& entry : node) {
    auto folder = absolute_path(reader, entry);
    if (!folder) return tl::unexpected(folder.error());
    config.plugins.path.push_back(std::move(*folder));
  }
  return {};
}

Result<void> apply_cache_modes(const Reader& reader, const YAML::Node& node, Config& config) {
  for (const auto& entry : node) {
    const auto kind = source_kind_from_string(entry.first.Scalar());
    if (!kind)
      return reader.error(entry.first, fmt::format("unknown kind of source '{}'", entry.first.Scalar()),
                          "use file, block or network");
    const auto text = scalar(reader, entry.second, "a cache mode");
    if (!text) return tl::unexpected(text.error());
    const auto mode = cache_mode_from_string(*text);
    if (!mode)
      return reader.error(entry.second, fmt::format("unknown cache mode '{}'", *text),
                          "use default, none, writethrough, writeback, directsync or unsafe");
    config.disk_cachemodes[*kind] = *mode;
  }
  return {};
}

/// A number above 0 of one storage's speed.
Result<double> positive(const Reader& reader, const YAML::Node& node) {
  const auto text = scalar(reader, node, "a number");
  if (!text) return tl::unexpected(text.error());
  double value = 0;
  if (YAML::convert<double>::decode(node, value) && value > 0 && value <= 1e9) return value;
  return reader.error(node, fmt::format("'{}' is no number above 0", *text), "write what was measured, such as 12.5");
}

Result<DiskSpeed> storage_speed(const Reader& reader, const std::string& type, const YAML::Node& node) {
  if (!node.IsMap())
    return reader.error(node, fmt::format("'plan.storage.{}' must be a mapping", type),
                        "write {iops: .., latency_ms: ..}");
  DiskSpeed speed;
  speed.source = fmt::format("plan.storage.{}", type);
  for (const auto& entry : node) {
    const std::string& name = entry.first.Scalar();
    const auto value = positive(reader, entry.second);
    if (!value) return tl::unexpected(value.error());
    if (name == "iops")
      speed.iops = *value;
    else if (name == "latency_ms")
      speed.latency_ms = *value;
    else
      return reader.error(entry.first, fmt::format("unknown key 'plan.storage.{}.{}'", type, name),
                          "known keys: iops, latency_ms");
  }
  return speed;
}

Result<void> apply_storage_speeds(const Reader& reader, const YAML::Node& node, Config& config) {
  if (node.IsNull()) return {};
  if (!node.IsMap())
    return reader.error(node, "'plan.storage' must be a mapping", "write {nfs: {iops: .., latency_ms: ..}}");
  for (const auto& entry : node) {
    const std::string& type = entry.first.Scalar();
    auto speed = storage_speed(reader, type, entry.second);
    if (!speed) return tl::unexpected(speed.error());
    config.plan.storage[type] = std::move(*speed);
  }
  return {};
}

Apply data_plane_key(DataPlaneKind& (*target)(Config&)) {
  return word_key<DataPlaneKind>({{"qemu", DataPlaneKind::qemu}, {"engine", DataPlaneKind::engine}}, target);
}

Result<void> apply_data_planes(const Reader& reader, const YAML::Node& node, Config& config) {
  if (node.IsNull()) return {};
  if (!node.IsMap()) return reader.error(node, "'data_plane.storage' must be a mapping", "write {nfs: engine}");
  for (const auto& entry : node) {
    Config one;
    const auto read = data_plane_key([](Config& c) -> DataPlaneKind& { return c.data_plane.usual; });
    if (auto done = read(reader, entry.second, one); !done) return done;
    config.data_plane.storage[entry.first.Scalar()] = one.data_plane.usual;
  }
  return {};
}

Apply flag_key(bool& (*target)(Config&)) { return word_key<bool>({{"true", true}, {"false", false}}, target); }

Result<void> apply_compression(const Reader& reader, const YAML::Node& node, Config& config) {
  if (!node.IsSequence()) return reader.error(node, "expected a list of methods", "write [xbzrle]");
  for (const auto& entry : node) {
    auto method = scalar(reader, entry, "a method");
    if (!method) return tl::unexpected(method.error());
    config.migration.settings.compression.push_back(std::move(*method));
  }
  return {};
}

const std::vector<Key>& keys() {
  static const std::vector<Key> table{
      {"libvirt", "uri", string_key([](Config& c) -> std::string& { return c.libvirt.uri; })},
      {"libvirt", "virt_type",
       word_key<VirtType>({{"qemu", VirtType::qemu}, {"kvm", VirtType::kvm}},
                          [](Config& c) -> VirtType& { return c.libvirt.virt_type; })},
      {"plugins", "path", apply_plugin_path},
      {"state", "dir", apply_state_dir},
      {"aio", "profile",
       word_key<AioProfile>(
           {{"auto", AioProfile::automatic}, {"nova", AioProfile::nova}, {"measured", AioProfile::measured}},
           [](Config& c) -> AioProfile& { return c.aio.profile; })},
      {"aio", "prefer",
       word_key<AioMode>({{"native", AioMode::native}, {"io_uring", AioMode::io_uring}},
                         [](Config& c) -> AioMode& { return c.aio.prefer; })},
      {"aio", "measured_max_age",
       count_key<unsigned>(0, 36'500, [](Config& c) -> unsigned& { return c.aio.measured_max_age; })},
      {"disk_cachemodes", "", apply_cache_modes},
      {"images", "preallocate",
       word_key<Preallocate>({{"none", Preallocate::none}, {"space", Preallocate::space}},
                             [](Config& c) -> Preallocate& { return c.images.preallocate; })},
      {"plan", "automatic",
       word_key<bool>({{"true", true}, {"false", false}}, [](Config& c) -> bool& { return c.plan.automatic; })},
      {"plan", "max_iothreads",
       count_key<unsigned>(0, 256, [](Config& c) -> unsigned& { return c.plan.limits.max_iothreads; })},
      {"plan", "max_threads",
       count_key<unsigned>(kPoolPerDisk, 65'536, [](Config& c) -> unsigned& { return c.plan.limits.max_threads; })},
      {"plan", "aio_max_batch",
       count_key<std::uint64_t>(0, kAioEventsPerContext,
                                [](Config& c) -> std::uint64_t& { return c.plan.limits.aio_max_batch; })},
      {"plan", "storage", apply_storage_speeds},
      {"data_plane", "default", data_plane_key([](Config& c) -> DataPlaneKind& { return c.data_plane.usual; })},
      {"data_plane", "storage", apply_data_planes},
      {"data_plane", "admin", path_key([](Config& c) -> std::string& { return c.data_plane.admin; })},
      {"data_plane", "sockets", path_key([](Config& c) -> std::string& { return c.data_plane.sockets; })},
      {"migration", "peer", string_key([](Config& c) -> std::string& { return c.migration.peer; })},
      {"migration", "uri", string_key([](Config& c) -> std::string& { return c.migration.settings.uri; })},
      {"migration", "downtime_limit_ms",
       optional_key<std::uint64_t>(
           1, 2'000'000, [](Config& c, std::uint64_t value) { c.migration.settings.downtime_limit_ms = value; })},
      {"migration", "downtime_steps",
       count_key<unsigned>(1, 1000, [](Config& c) -> unsigned& { return c.migration.settings.downtime_steps; })},
      {"migration", "downtime_step_delay_s",
       optional_key<unsigned>(
           0, 86'400,
           [](Config& c, unsigned value) { c.migration.settings.downtime_step_delay = std::chrono::seconds(value); })},
      {"migration", "bandwidth_mib_s",
       optional_key<std::uint64_t>(
           1, 1'000'000, [](Config& c, std::uint64_t value) { c.migration.settings.bandwidth_mib_s = value; })},
      {"migration", "connections",
       count_key<unsigned>(1, 255, [](Config& c) -> unsigned& { return c.migration.settings.connections; })},
      {"migration", "compression", apply_compression},
      {"migration", "auto_converge", flag_key([](Config& c) -> bool& { return c.migration.settings.auto_converge; })},
      {"migration", "post_copy", flag_key([](Config& c) -> bool& { return c.migration.settings.post_copy; })},
      {"migration", "post_copy_after_s",
       optional_key<unsigned>(
           1, 86'400,
           [](Config& c, unsigned value) {
             c.migration.settings.post_copy = true;
             c.migration.post_copy_after = std::chrono::seconds(value);
           })},
      {"migration", "tls", flag_key([](Config& c) -> bool& { return c.migration.settings.tls; })},
      {"migration", "tls_destination",
       string_key([](Config& c) -> std::string& { return c.migration.settings.tls_destination; })},
      {"migration", "zero_copy", flag_key([](Config& c) -> bool& { return c.migration.settings.zero_copy; })},
      {"migration", "persistent", flag_key([](Config& c) -> bool& { return c.migration.settings.persistent; })},
      {"migration", "max_drain_ms",
       optional_key<unsigned>(
           1, 60'000, [](Config& c, unsigned value) { c.migration.max_drain = std::chrono::milliseconds(value); })},
      {"migration", "ask_qemu", flag_key([](Config& c) -> bool& { return c.migration.ask_qemu; })},
      {"migration", "raise_pools", flag_key([](Config& c) -> bool& { return c.migration.raise_pools; })},
      {"migration", "guest_agent", flag_key([](Config& c) -> bool& { return c.migration.guest_agent; })},
      {"migration", "deadline_s",
       optional_key<unsigned>(1, 86'400,
                              [](Config& c, unsigned value) { c.migration.deadline = std::chrono::seconds(value); })},
  };
  return table;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& known) {
  if (const auto near = nearest(name, known)) return fmt::format("did you mean '{}'?", *near);
  std::string list;
  for (const auto& candidate : known) list += (list.empty() ? "" : ", ") + candidate;
  return fmt::format("known keys: {}", list);
}

std::vector<std::string> keys_of(std::string_view section) {
  std::vector<std::string> names;
  for (const Key& key : keys())
    if (key.section == section) names.emplace_back(key.name);
  return names;
}

Result<void> read_framework_section(const Reader& reader, std::string_view section, const YAML::Node& node,
                                    Config& config) {
  if (node.IsNull()) return {};
  if (node.IsScalar())  // `data_plane: engine` for short
    for (const Key& key : keys())
      if (key.section == section && key.name == "default") return key.apply(reader, node, config);
  if (!node.IsMap())
    return reader.error(node, fmt::format("'{}' must be a mapping of keys to values", section),
                        fmt::format("write {}: {{key: value}}", section));
  for (const Key& key : keys())
    if (key.section == section && key.name.empty()) return key.apply(reader, node, config);
  for (const auto& entry : node) {
    const std::string name = entry.first.Scalar();
    const Key* found = nullptr;
    for (const Key& key : keys())
      if (key.section == section && key.name == name) found = &key;
    if (!found)
      return reader.error(entry.first, fmt::format("unknown key '{}.{}'", section, name),
                          did_you_mean(name, keys_of(section)));
    if (Result<void> done = found->apply(reader, entry.second, config); !done) return done;
  }
  return {};
}

/// A plain scalar as the JSON value that YAML's core schema makes of it; a quoted one ("!") stays a string.
Json scalar_to_json(const YAML::Node& node) {
  if (node.Tag() == "!") return node.Scalar();
  bool truth = false;
  std::int64_t integer = 0;
  double real = 0;
  if (YAML::convert<std::int64_t>::decode(node, integer)) return integer;
  if (YAML::convert<double>::decode(node, real)) return real;
  if (YAML::convert<bool>::decode(node, truth)) return truth;
  return node.Scalar();
}

/// Copies a section out of the document.
class SectionReader {
 public:
  SectionReader(const Reader& reader, RawSection& section) : reader_(reader), section_(section) {}

  /// @param pointer the value's place within the section. @param depth how deep that is.
  Result<Json> read(const YAML::Node& node, const std::string& pointer, std::size_t depth) {
    if (depth > kDeepest)
      return reader_.error(node, fmt::format("values are nested more than {} deep", kDeepest),
                           "write it flatter; an alias must not stand for what holds it");
    if (section_.places.size() >= kMostValues)
      return reader_.error(node, fmt::format("a section of more than {} values", kMostValues), "write fewer aliases");
    section_.places[pointer] = reader_.place(node.Mark());
    if (node.IsMap()) return read_map(node, pointer, depth);
    if (node.IsSequence()) return read_list(node, pointer, depth);
    return node.IsScalar() ? scalar_to_json(node) : Json(nullptr);
  }

 private:
  Result<Json> read_map(const YAML::Node& node, const std::string& pointer, std::size_t depth) {
    Json object = Json::object();
    for (const auto& entry : node) {
      const std::string& key = entry.first.Scalar();
      if (object.contains(key)) return reader_.given_twice(entry.first, key);
      const std::string member = pointer + "/" + pointer_token(key);
      auto value = read(entry.second, member, depth + 1);
      if (!value) return value;
      object[key] = std::move(*value);
      section_.places[member] = reader_.place(entry.first.Mark());
    }
    return object;
  }

  Result<Json> read_list(const YAML::Node& node, const std::string& pointer, std::size_t depth) {
    Json array = Json::array();
    for (const auto& entry : node) {
      auto value = read(entry, fmt::format("{}/{}", pointer, array.size()), depth + 1);
      if (!value) return value;
      array.push_back(std::move(*value));
    }
    return array;
  }

  const Reader& reader_;
  RawSection& section_;
};

Result<Config> read_document(const Reader& reader, const YAML::Node& document) {
  Config config;
  config.origin = reader.origin;
  if (!document || document.IsNull()) return config;
  if (!document.IsMap()) return reader.error(document, "the configuration must be a mapping", "write section: {...}");
  for (const auto& entry : document) {
    const std::string name = entry.first.Scalar();
    if (config.sections.contains(name)) return reader.given_twice(entry.first, name);
    // Kept for the drivers, the framework's own sections too: the local driver preallocates as `images` says.
    RawSection section;
    auto value = SectionReader(reader, section).read(entry.second, "", 0);
    if (!value) return tl::unexpected(value.error());
    section.value = std::move(*value);
    section.places[""] = reader.place(entry.first.Mark());
    config.sections.emplace(name, std::move(section));
    const auto& framework = framework_sections();
    if (std::find(framework.begin(), framework.end(), name) != framework.end())
      if (auto done = read_framework_section(reader, name, entry.second, config); !done)
        return tl::unexpected(done.error());
  }
  return config;
}

bool same_type(const Json& value, const Json& model) {
  if (model.is_null()) return true;
  if (model.is_number_integer()) return value.is_number_integer();
  if (model.is_number()) return value.is_number();
  return value.type() == model.type();
}

/// Whether `value` is a number below 0 where the default is none: counts, times and sizes.
bool is_wrongly_negative(const Json& value, const Json& model) {
  return model.is_number() && model.get<double>() >= 0 && value.get<double>() < 0;
}

std::string_view type_name(const Json& value) {
  if (value.is_null()) return "nothing";
  if (value.is_boolean()) return "true or false";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  return value.is_array() ? "a list" : "a mapping";
}

}  // namespace

std::string_view to_string(DataPlaneKind kind) { return kind == DataPlaneKind::engine ? "engine" : "qemu"; }

const std::vector<std::string>& framework_sections() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> sections;
    for (const Key& key : keys())
      if (sections.empty() || sections.back() != key.section) sections.emplace_back(key.section);
    return sections;
  }();
  return names;
}

Result<Config> parse_config(std::string_view text, std::string_view origin) {
  const Reader reader{std::string(origin)};
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    for (std::size_t i = 1; i < documents.size(); ++i)
      if (!documents[i].IsNull())
        return reader.error(documents[i], "the configuration is more than one YAML document",
                            "put everything into one, without '---' in between");
    return read_document(reader, documents.empty() ? YAML::Node() : documents.front());
  } catch (const YAML::Exception& error) {
    return fail(ErrorKind::configuration, fmt::format("not valid YAML: {}", error.msg),
                "correct the YAML at that line and column", reader.place(error.mark));
  }
}

Result<Config> load_config(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  // By read(), which reports an error: an iterator throws it, as it does for a directory, which opens well.
  for (std::array<char, 1 << 14> part{}; file.read(part.data(), part.size()), file.gcount() > 0;)
    text.append(part.data(), static_cast<std::size_t>(file.gcount()));
  if (!file.is_open() || file.bad())
    return fail(ErrorKind::configuration,
                fmt::format("cannot read the configuration file {}: {}", path, errno_text(errno)),
                "check that it is a file that may be read, or name another with --config");
  return parse_config(text, path);
}

Result<Config> find_config(const std::string& path) {
  static const std::string kDefault = "/etc/aiolos/aiolos.yaml";
  if (!path.empty()) return load_config(path);
  std::error_code error;
  return std::filesystem::exists(kDefault, error) ? load_config(kDefault) : Config();
}

Result<Json> complete_section(const Config& config, std::string_view key, const Json& defaults) {
  Json completed = defaults.is_object() ? defaults : Json::object();
  const auto found = config.sections.find(key);
  if (found == config.sections.end()) return completed;
  const RawSection& section = found->second;
  const auto place = [&section](const std::string& pointer) {
    const auto at = section.places.find(pointer);
    return at == section.places.end() ? std::string() : at->second;
  };
  if (section.value.is_null()) return completed;
  if (!section.value.is_object())
    return fail(ErrorKind::configuration, fmt::format("'{}' must be a mapping of keys to values", key),
                fmt::format("write {}: {{key: value}}", key), place(""));
  std::vector<std::string> known;
  for (const auto& [name, value] : completed.items()) known.push_back(name);
  for (const auto& [name, value] : section.value.items()) {
    const std::string where = place("/" + pointer_token(name));
    const auto model = defaults.find(name);
    if (model == defaults.end())
      return fail(ErrorKind::configuration, fmt::format("unknown key '{}.{}'", key, name), did_you_mean(name, known),
                  where);
    if (!same_type(value, *model))
      return fail(ErrorKind::configuration,
                  fmt::format("'{}.{}' must be {}, not {}", key, name, type_name(*model), type_name(value)),
                  fmt::format("the default is {}", model->dump()), where);
    if (is_wrongly_negative(value, *model))
      return fail(ErrorKind::configuration, fmt::format("'{}.{}' must not be negative: {}", key, name, value.dump()),
                  fmt::format("the default is {}", model->dump()), where);
    completed[name] = value;
  }
  return completed;
}

Result<void> check_sections(const Config& config, const std::vector<std::string>& known) {
  for (const auto& [name, section] : config.sections) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    return fail(ErrorKind::configuration, fmt::format("unknown key '{}'", name), did_you_mean(name, known),
                section.places.at(""));
  }
  return {};
}

}  // namespace aiolos
