// SPDX-License-Identifier: Apache-2.0
// The host's mount table, read from /proc/self/mountinfo.
#include "aiolos/host/mount_table.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>

namespace aiolos {
namespace {

/// Undoes the kernel's octal escapes: space, tab, newline, backslash and '#' come as \040 and the like.
std::string unescape(std::string_view text) {
  std::string result;
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) && octal(text[i + 3])) {
      result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

/// The mount's own options, then those of its file system ("vers=4.2,...") that the first do not name already; the way
/// findmnt(8) shows them.
std::string join_options(std::string_view own, std::string_view file_system) {
  std::string joined = unescape(own);
  const std::vector<std::string_view> seen = split(own, ',');
  for (const std::string_view option : split(file_system, ','))
    if (option != "rw" && option != "ro" && std::find(seen.begin(), seen.end(), option) == seen.end())
      joined += "," + unescape(option);
  return joined;
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// `36 35 98:0 /root /target rw,noatime [optional fields] - fstype source super-options`
std::optional<MountEntry> parse_line(std::string_view line) {
  const std::vector<std::string_view> fields = split(line, ' ');
  const auto dash = std::find(fields.begin(), fields.end(), "-");
  if (dash - fields.begin() < 6 || fields.end() - dash < 3) return std::nullopt;
  const std::optional<int> id = number(fields[0]);
  const std::optional<int> parent = number(fields[1]);
  if (!id || !parent) return std::nullopt;
  const std::string_view super_options = fields.end() - dash > 3 ? dash[3] : std::string_view{};
  return MountEntry{
      *id, *parent,
      Mount{unescape(dash[2]), unescape(fields[4]), unescape(dash[1]), join_options(fields[5], super_options)}};
}

/// Whether `path` is `folder` or lies below it, by components.
bool below(std::string_view folder, std::string_view path) {
  if (folder == "/") return path.starts_with('/');
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

class ProcMountTable final : public MountTable {
 public:
  explicit ProcMountTable(std::string mountinfo) : mountinfo_(std::move(mountinfo)) {}

  Result<std::vector<Mount>> list() override {
    const Result<std::vector<MountEntry>> entries = read();
    if (!entries) return tl::unexpected(entries.error());
    std::vector<Mount> mounts;
    for (const MountEntry& entry : *entries) mounts.push_back(entry.mount);
    return mounts;
  }

  Result<Mount> holding(const std::string& path) override {
    if (!path.starts_with('/'))
      return fail(ErrorKind::bad_input, "path '" + path + "' is not absolute", "give the path from the root: /...");
    const Result<std::vector<MountEntry>> entries = read();
    if (!entries) return tl::unexpected(entries.error());
    if (const MountEntry* entry = mount_holding(*entries, path)) return entry->mount;
    return fail(ErrorKind::storage, "no mount in " + mountinfo_ + " holds '" + path + "'",
                "check that the path is visible in this process's mount namespace");
  }

 private:
  Result<std::vector<MountEntry>> read() const {
    std::ifstream file(mountinfo_, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (!file || text.empty())
      return fail(ErrorKind::configuration, "cannot read the mount table '" + mountinfo_ + "'",
                  "mount /proc in this environment");
    return parse_mountinfo(text);
  }

  std::string mountinfo_;
};

}  // namespace

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> entries;
  for (const std::string_view line : split(text, '\n'))
    if (std::optional<MountEntry> entry = parse_line(line)) entries.push_back(std::move(*entry));
  return entries;
}

const MountEntry* mount_holding(const std::vector<MountEntry>& entries, std::string_view path) {
  const auto is_listed = [&](int id) {
    return std::any_of(entries.begin(), entries.end(), [&](const MountEntry& e) { return e.id == id; });
  };
  // In a chroot or a container the mount above the root is not listed, nor need the root be mounted at "/".
  const MountEntry* current = nullptr;
  for (const MountEntry& entry : entries)
    if ((!is_listed(entry.parent) || entry.parent == entry.id) && below(entry.mount.target, path) &&
        (current == nullptr || entry.mount.target.size() >= current->mount.target.size()))
      current = &entry;

  // Of what is mounted on the current mount, the walk meets the shortest target first. Each step goes to a child, so
  // the table's size bounds it even if the text is not a tree.
  for (std::size_t step = 0; current != nullptr && step < entries.size(); ++step) {
    const MountEntry* next = nullptr;
    for (const MountEntry& entry : entries)
      if (entry.parent == current->id && entry.id != current->id && below(entry.mount.target, path) &&
          (next == nullptr || entry.mount.target.size() <= next->mount.target.size()))
        next = &entry;
    if (next == nullptr) break;
    current = next;
  }
  return current;
}

std::unique_ptr<MountTable> make_mount_table(std::string mountinfo) {
  return std::make_unique<ProcMountTable>(std::move(mountinfo));
}

}  // namespace aiolos
