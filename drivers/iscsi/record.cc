// SPDX-License-Identifier: Apache-2.0
#include "record.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "aiolos/core/posix.h"

namespace aiolos::iscsi {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnd = "# END RECORD";

std::string_view key_of(std::string_view line) { return line.substr(0, line.find(" = ")); }

std::string file_name(const Portal& portal) { return portal.host + "," + std::to_string(portal.port); }

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) found.push_back(entry->path());
  std::sort(found.begin(), found.end());
  return found;
}

/// Where the new text of a record is written first: outside of the folders that iscsiadm reads as records, and always
/// the same, so that one that is left over is found.
std::string draft_of(const std::string& folder, const std::string& record) {
  return folder + "/.aiolos-" + sdk::md5_hex(record);
}

tl::unexpected<Error> failed(const std::string& path, const char* doing) {
  return sdk::fail(ErrorKind::configuration, std::string(doing) + " " + path + ": " + errno_text(errno),
                   "give this process write access to open-iscsi's records");
}

/// A new file that only root can read, on disk when this returns.
Result<void> write_private(const std::string& path, std::string_view text) {
  ::unlink(path.c_str());
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!file) return failed(path, "cannot create");
  if (!write_all(file.get(), text) || ::fsync(file.get()) != 0) return failed(path, "cannot write");
  return {};
}

}  // namespace

std::string with_settings(std::string_view record, const Settings& settings) {
  std::string lines;
  for (const auto& [key, value] : settings)
    if (value) lines += key + " = " + *value + "\n";
  std::string text;
  while (!record.empty()) {
    const std::string_view line = record.substr(0, record.find('\n'));
    record.remove_prefix(std::min(record.size(), line.size() + 1));
    const bool replaced = std::any_of(settings.begin(), settings.end(),
                                      [&](const auto& setting) { return setting.first == key_of(line); });
    if (replaced) continue;
    if (line == kEnd) text += std::exchange(lines, {});
    text += line;
    text += '\n';
  }
  return text + lines;
}

Settings node_settings(const std::optional<Chap>& chap) {
  const auto text = [](std::string_view value) { return std::optional<std::string>(value); };
  return {{"node.startup", text("manual")},
          {"node.conn[0].startup", text("manual")},
          {"node.session.scan", text("manual")},
          // One try of 5 s. By default a portal that does not answer takes 120 s.
          {"node.session.initial_login_retry_max", text("1")},
          {"node.conn[0].timeo.login_timeout", text("5")},
          {"node.session.auth.authmethod", text(chap ? "CHAP" : "None")},
          {"node.session.auth.username", chap ? text(chap->username) : std::nullopt},
          {"node.session.auth.password", chap ? text(chap->password.reveal()) : std::nullopt}};
}

Settings discovery_settings(const Chap& chap) {
  return {{"discovery.sendtargets.auth.authmethod", "CHAP"},
          {"discovery.sendtargets.auth.username", chap.username},
          {"discovery.sendtargets.auth.password", std::string(chap.password.reveal())}};
}

std::optional<std::string> Database::node_record(const TargetPortal& node, const std::string& iface) const {
  const std::string name = file_name(node.portal);
  for (const std::string& folder : folders_)
    for (const fs::path& entry : entries(fs::path(folder) / "nodes" / node.iqn)) {
      // A file where the portal group is not known, else a folder HOST,PORT,TPGT with a file for each interface.
      if (entry.filename() == name && is_file(entry)) return entry.string();
      if (entry.filename().string().starts_with(name + ",") && is_file(entry / iface)) return (entry / iface).string();
    }
  return std::nullopt;
}

std::optional<std::chrono::milliseconds> Database::age(const std::string& record) {
  struct stat status {};
  if (::stat(record.c_str(), &status) != 0) return std::nullopt;
  const auto written = std::chrono::seconds(status.st_mtim.tv_sec) + std::chrono::nanoseconds(status.st_mtim.tv_nsec);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now - written);
}

std::vector<Portal> Database::portals_of(const std::string& iqn) const {
  std::vector<Portal> portals;
  for (const std::string& folder : folders_)
    for (const fs::path& entry : entries(fs::path(folder) / "nodes" / iqn)) {
      const std::string name = entry.filename();
      const std::size_t comma = name.find(',');
      if (comma == std::string::npos) continue;
      const std::string port = name.substr(comma + 1, name.find(',', comma + 1) - comma - 1);
      if (auto portal = parse_portal("[" + name.substr(0, comma) + "]:" + port)) portals.push_back(*std::move(portal));
    }
  return portals;
}

std::optional<std::string> Database::discovery_record(const Portal& portal) const {
  for (const std::string& folder : folders_) {
    const fs::path record = fs::path(folder) / "send_targets" / file_name(portal) / "st_config";
    if (is_file(record)) return record.string();
  }
  return std::nullopt;
}

Result<void> Database::change(const std::string& record, const Settings& settings) const {
  std::ifstream file(record);
  if (!file) return failed(record, "cannot read");
  const Secret text(with_settings(std::string{std::istreambuf_iterator<char>(file), {}}, settings));
  for (const std::string& folder : folders_) {
    if (!record.starts_with(folder + "/")) continue;
    const std::string draft = draft_of(folder, record);
    AIOLOS_CHECK(write_private(draft, text.reveal()));
    if (::rename(draft.c_str(), record.c_str()) != 0) return failed(record, "cannot replace");
  }
  return {};
}

void Database::clean_up(const std::string& record) const {
  for (const std::string& folder : folders_) ::unlink(draft_of(folder, record).c_str());
}

void Database::remove(const std::string& record) const {
  for (const std::string& folder : folders_)
    if (record.starts_with(folder + "/")) ::unlink(record.c_str());
}

void Database::remove_remains(const TargetPortal& node) const {
  const std::string name = file_name(node.portal);
  std::error_code ignored;
  for (const std::string& folder : folders_) {
    const fs::path target = fs::path(folder) / "nodes" / node.iqn;
    for (const fs::path& entry : entries(target))
      if ((entry.filename() == name || entry.filename().string().starts_with(name + ",")) &&
          fs::is_empty(entry, ignored))
        fs::remove(entry, ignored);
    if (fs::is_empty(target, ignored)) fs::remove(target, ignored);
  }
}

}  // namespace aiolos::iscsi
