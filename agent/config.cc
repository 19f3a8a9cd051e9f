// SPDX-License-Identifier: Apache-2.0
#include "aiolos/agent/config.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

namespace aiolos {
namespace {

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
};

using Apply = std::function<Result<void>(const Reader&, const YAML::Node&, Config&)>;

/// One key of the framework's own sections.
struct Key {
  std::string_view section;
  std::string_view name;  ///< Empty: any key of the section; `apply` gets the whole section.
  Apply apply;
};

Result<std::string> scalar(const Reader& reader, const YAML::Node& node, std::string_view expected) {
  if (!node.IsScalar())
    return reader.error(node, fmt::format("expected {}, found {}", expected, node.IsMap() ? "a mapping" : "a list"),
                        fmt::format("write {}", expected));
  return node.Scalar();
}

Apply string_key(std::string& (*target)(Config&)) {
  return [target](const Reader& reader, const YAML::Node& node, Config& config) -> Result<void> {
    auto text = scalar(reader, node, "a string");
    if (!text) return tl::unexpected(text.error());
    target(config) = std::move(*text);
    return {};
  };
}

/// A key whose value is one of a few words.
template <typename Enum>
Apply word_key(std::vector<std::pair<std::string_view, Enum>> words, Enum& (*target)(Config&)) {
  return [words = std::move(words), target](const Reader& reader, const YAML::Node& node,
                                            Config& config) -> Result<void> {
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

Result<void> apply_plugin_path(const Reader& reader, const YAML::Node& node, Config& config) {
  if (!node.IsSequence()) return reader.error(node, "expected a list of folders", "write [/folder, ...]");
  for (const auto& entry : node) {
    auto folder = scalar(reader, entry, "a folder");
    if (!folder) return tl::unexpected(folder.error());
    if (folder->empty() || folder->front() != '/')
      return reader.error(entry, fmt::format("'{}' is not an absolute path", *folder), "write the whole path");
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

const std::vector<Key>& keys() {
  static const std::vector<Key> table{
      {"libvirt", "uri", string_key([](Config& c) -> std::string& { return c.libvirt.uri; })},
      {"libvirt", "virt_type",
       word_key<VirtType>({{"qemu", VirtType::qemu}, {"kvm", VirtType::kvm}},
                          [](Config& c) -> VirtType& { return c.libvirt.virt_type; })},
      {"plugins", "path", apply_plugin_path},
      {"state", "dir", string_key([](Config& c) -> std::string& { return c.state.dir; })},
      {"aio", "profile",
       word_key<AioProfile>({{"auto", AioProfile::automatic}, {"nova", AioProfile::nova}},
                            [](Config& c) -> AioProfile& { return c.aio.profile; })},
      {"aio", "prefer",
       word_key<AioMode>({{"native", AioMode::native}, {"io_uring", AioMode::io_uring}},
                         [](Config& c) -> AioMode& { return c.aio.prefer; })},
      {"disk_cachemodes", "", apply_cache_modes},
      {"images", "preallocate",
       word_key<Preallocate>({{"none", Preallocate::none}, {"space", Preallocate::space}},
                             [](Config& c) -> Preallocate& { return c.images.preallocate; })},
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

Json to_json(const Reader& reader, const YAML::Node& node, const std::string& pointer, RawSection& section) {
  section.places[pointer] = reader.place(node.Mark());
  switch (node.Type()) {
    case YAML::NodeType::Map: {
      Json object = Json::object();
      for (const auto& entry : node) {
        const std::string& key = entry.first.Scalar();
        const std::string member = pointer + "/" + pointer_token(key);
        object[key] = to_json(reader, entry.second, member, section);
        section.places[member] = reader.place(entry.first.Mark());
      }
      return object;
    }
    case YAML::NodeType::Sequence: {
      Json array = Json::array();
      for (std::size_t i = 0; i < node.size(); ++i)
        array.push_back(to_json(reader, node[i], fmt::format("{}/{}", pointer, i), section));
      return array;
    }
    case YAML::NodeType::Scalar:
      return scalar_to_json(node);
    default:
      return nullptr;
  }
}

Result<Config> read_document(const Reader& reader, const YAML::Node& document) {
  Config config;
  config.origin = reader.origin;
  if (!document || document.IsNull()) return config;
  if (!document.IsMap()) return reader.error(document, "the configuration must be a mapping", "write section: {...}");
  for (const auto& entry : document) {
    const std::string name = entry.first.Scalar();
    const auto& framework = framework_sections();
    if (std::find(framework.begin(), framework.end(), name) != framework.end())
      if (auto done = read_framework_section(reader, name, entry.second, config); !done)
        return tl::unexpected(done.error());
    // Kept for the drivers, the framework's own sections too: the local driver preallocates as `images` says.
    RawSection section;
    section.value = to_json(reader, entry.second, "", section);
    section.places[""] = reader.place(entry.first.Mark());
    config.sections.emplace(name, std::move(section));
  }
  return config;
}

bool same_type(const Json& value, const Json& model) {
  if (model.is_null()) return true;
  if (model.is_number_integer()) return value.is_number_integer();
  if (model.is_number()) return value.is_number();
  return value.type() == model.type();
}

std::string_view type_name(const Json& value) {
  if (value.is_boolean()) return "true or false";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  return value.is_array() ? "a list" : "a mapping";
}

}  // namespace

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
    return read_document(reader, YAML::Load(std::string(text)));
  } catch (const YAML::Exception& error) {
    return fail(ErrorKind::configuration, fmt::format("not valid YAML: {}", error.msg),
                "correct the YAML at that line and column", reader.place(error.mark));
  }
}

Result<Config> load_config(const std::string& path) {
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad())
    return fail(ErrorKind::configuration, fmt::format("cannot read the configuration file {}", path),
                "check that it exists and may be read, or name another with --config");
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
