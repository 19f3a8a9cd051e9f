// SPDX-License-Identifier: Apache-2.0
// What qemu-img says of an image, as values.
#include "qemu_image.h"

#include <array>

#include "aiolos/core/json.h"

namespace aiolos {
namespace {

/// qemu-img is trusted to be qemu-img: a surprise in its output is ours to mend, not the user's.
tl::unexpected<Error> not_understood(const std::string& path, const Error& error) {
  return fail(ErrorKind::bug, "cannot understand qemu-img's answer for '" + path + "': " + describe(error),
              "report this with the output of 'qemu-img info --output=json' for it");
}

bool flag(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

std::uint64_t unsigned_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

std::optional<std::string> string_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

/// The part of `name` before ':' if it is one of QEMU's protocols; source: path_has_protocol in QEMU's block.c.
std::string_view protocol_of(std::string_view name) {
  const std::size_t end = name.find_first_of(":/");
  return end == std::string_view::npos || name[end] != ':' ? std::string_view{} : name.substr(0, end);
}

/// "//user:password@host/..." without the part before '@'.
std::string without_credentials(const std::string& name) {
  const std::size_t authority = name.find("://");
  if (authority == std::string::npos) return name;
  const std::size_t end = std::min(name.find('/', authority + 3), name.size());
  const std::size_t at = name.rfind('@', end);
  if (at == std::string::npos || at < authority + 3) return name;
  return name.substr(0, authority + 3) + name.substr(at + 1);
}

BackingPlace place_of_json(const std::string& name) {
  const Json options = Json::parse(name.substr(5), nullptr, false);
  if (!options.is_object()) return {false, "json: (not understood)", std::nullopt};
  const std::optional<std::string> driver = string_at(options, "driver");
  // Both the nested and the dotted spelling name the file below the format.
  const auto file = options.find("file");
  const bool nested = file != options.end() && file->is_object();
  const std::optional<std::string> protocol = nested ? string_at(*file, "driver") : string_at(options, "file.driver");
  const std::optional<std::string> filename =
      nested ? string_at(*file, "filename") : string_at(options, "file.filename");
  const auto on_this_host = [](const std::string& p) { return p == "file" || p == "host_device"; };
  if (protocol && on_this_host(*protocol) && filename) return {true, *filename, driver};
  if (driver && on_this_host(*driver))
    if (const auto direct = string_at(options, "filename")) return {true, *direct, std::nullopt};
  // The rest of it may hold secrets: only the driver is shown.
  return {false, "json: (driver " + protocol.value_or(driver.value_or("not named")) + ")", driver};
}

}  // namespace

Result<ImageInfo> parse_image_info(std::string_view json, const std::string& path) {
  const Result<Json> parsed = parse_json(json, "qemu-img info");
  if (!parsed) return not_understood(path, parsed.error());
  const JsonView view(*parsed);
  const auto format = view.find_string("format");
  const auto size = view.find_unsigned("virtual-size");
  if (!format) return not_understood(path, format.error());
  if (!size) return not_understood(path, size.error());

  ImageInfo info;
  info.format = format->value_or("");
  info.virtual_size = size->value_or(0);
  info.cluster_size = unsigned_at(*parsed, "cluster-size");
  info.encrypted = flag(*parsed, "encrypted");
  if (const auto snapshots = parsed->find("snapshots"); snapshots != parsed->end()) info.snapshots = snapshots->size();
  info.backing = string_at(*parsed, "full-backing-filename");
  if (!info.backing) info.backing = string_at(*parsed, "backing-filename");
  info.backing_format = string_at(*parsed, "backing-filename-format");
  const auto specific = parsed->find("format-specific");
  if (specific == parsed->end() || !specific->is_object()) return info;
  const auto data = specific->find("data");
  if (data == specific->end() || !data->is_object()) return info;
  info.extended_l2 = flag(*data, "extended-l2");
  info.lazy_refcounts = flag(*data, "lazy-refcounts");
  info.corrupt = flag(*data, "corrupt");
  info.data_file = string_at(*data, "data-file");
  info.encrypted = info.encrypted || data->contains("encrypt");
  return info;
}

Result<ImageMap> parse_image_map(std::string_view json, const std::string& path) {
  const Result<Json> parsed = parse_json(json, "qemu-img map");
  if (!parsed) return not_understood(path, parsed.error());
  if (!parsed->is_array()) return not_understood(path, JsonView(*parsed).mismatch("an array").value());
  ImageMap map;
  for (const Json& entry : *parsed) {
    if (!entry.is_object()) return not_understood(path, JsonView(entry).mismatch("an object").value());
    const std::uint64_t length = unsigned_at(entry, "length");
    const bool zero = flag(entry, "zero");
    const bool data = flag(entry, "data");
    const bool has_offset = entry.contains("offset");
    // "present" came with QEMU 6.1; before it, what is neither data nor placed was not allocated.
    const bool present = entry.contains("present") ? flag(entry, "present") : data || has_offset;
    // An extended L2 entry may place a cluster whose parts hold nothing yet: not present, but a write allocates
    // nothing.
    if (has_offset && unsigned_at(entry, "depth") == 0) {
      map.areas.push_back({unsigned_at(entry, "offset"), length});
    } else if (!present || unsigned_at(entry, "depth") != 0 || (zero && !data)) {
      map.unallocated += length;  // what reads as zeroes by a flag alone needs a new cluster for a write too
    } else {
      map.without_place += length;
    }
  }
  return map;
}

BackingPlace backing_place(const std::string& name, const std::string& image) {
  if (name.starts_with("json:")) return place_of_json(name);
  std::string path = name;
  if (const std::string_view protocol = protocol_of(name); protocol == "file" || protocol == "host_device")
    path = name.substr(protocol.size() + 1);
  else if (!protocol.empty())
    return {false, without_credentials(name), std::nullopt};
  if (path.starts_with("//") && name.starts_with("file:")) path = path.substr(path.find_first_not_of('/') - 1);
  if (!path.starts_with('/')) path = image.substr(0, image.find_last_of('/') + 1) + path;
  return {true, path, std::nullopt};
}

std::string_view format_by_magic(std::string_view head) {
  struct Row {
    std::string_view magic;
    std::string_view format;
  };
  using namespace std::string_view_literals;
  // Source: the `probe` functions in QEMU's block/*.c.
  constexpr std::array kMagics{
      Row{"QFI\xfb\0\0\0\1"sv, "qcow"},
      Row{"QFI\xfb"sv, "qcow2"},
      Row{"LUKS\xba\xbe"sv, "luks"},
      Row{"QED\0"sv, "qed"},
      Row{"KDMV"sv, "vmdk"},
      Row{"COWD"sv, "vmdk"},
      Row{"vhdxfile"sv, "vhdx"},
      Row{"conectix"sv, "vpc"},
      Row{"# Disk DescriptorFile"sv, "vmdk"},
      Row{"Bochs Virtual HD Image"sv, "bochs"},
      Row{"WithoutFreeSpace"sv, "parallels"},
      Row{"WithouFreSpacExt"sv, "parallels"},
  };
  for (const Row& row : kMagics)
    if (head.starts_with(row.magic)) return row.format;
  constexpr std::size_t kVdiMagicAt = 64;
  if (head.size() >= kVdiMagicAt + 4 && head.substr(kVdiMagicAt, 4) == "\x7f\x10\xda\xbe"sv) return "vdi";
  return {};
}

std::string image_without_backing(const std::string& path, const std::string& format, bool block_device) {
  const Json options{{"driver", format},
                     {"backing", nullptr},
                     {"file", {{"driver", block_device ? "host_device" : "file"}, {"filename", path}}}};
  return "json:" + options.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace aiolos
