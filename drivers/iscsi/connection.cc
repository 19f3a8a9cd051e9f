// SPDX-License-Identifier: Apache-2.0
// Source of the keys: os-brick, initiator/connectors/iscsi.py and base_iscsi.py.
#include "connection.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "scsi/device.h"

namespace aiolos::iscsi {
namespace {

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Only what addresses and names are made of: the host goes into the name of a file.
bool is_host(std::string_view host) {
  return !host.empty() &&
         std::all_of(host.begin(), host.end(),
                     [](unsigned char c) {
                       return std::isalnum(c) != 0 || c == '.' || c == ':' || c == '-' || c == '_' || c == '%';
                     }) &&
         host.front() != '-' && host.front() != '.';
}

/// RFC 3720, 3.2.6: the three kinds of names; they too go into the name of a file.
bool is_iqn(std::string_view name) {
  const bool kind = name.starts_with("iqn.") || name.starts_with("eui.") || name.starts_with("naa.");
  return kind &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) { return c > ' ' && c != '/' && c != 0x7f; });
}

Result<Portal> read_portal(const sdk::Value& value) {
  AIOLOS_TRY(const std::string_view text, value.string());
  if (std::optional<Portal> portal = parse_portal(text)) return *std::move(portal);
  return value.error("'" + std::string(text) + "' is no portal", "give it as ADDRESS:PORT, such as 10.0.0.1:3260");
}

Result<std::string> read_iqn(const sdk::Value& value) {
  AIOLOS_TRY(const std::string_view name, value.string());
  if (is_iqn(name)) return std::string(name);
  return value.error("'" + std::string(name) + "' is no iSCSI name",
                     "give the target's, which begins with iqn., eui. or naa.");
}

Result<std::uint64_t> read_lun(const sdk::Volume& volume, const sdk::Value& value) {
  AIOLOS_TRY(const std::string text, value.text());
  const auto lun = parse_number<std::uint64_t>(text);
  if (!lun) return value.error("'" + text + "' is no LUN", "give its number");
  const sdk::Value mode = volume.data().at("addressing_mode");
  AIOLOS_TRY(const std::string_view name, mode.string_or("transparent"));
  if (const auto number = scsi::kernel_lun(*lun, name)) return *number;
  return mode.error("unknown addressing mode '" + std::string(name) + "'", "use SAM, SAM2, SAM3-flat or transparent");
}

Result<LunPath> read_path(const sdk::Volume& volume, const sdk::Value& portal, const sdk::Value& iqn,
                          const sdk::Value& lun) {
  LunPath path;
  AIOLOS_TRY(path.target.portal, read_portal(portal));
  AIOLOS_TRY(path.target.iqn, read_iqn(iqn));
  AIOLOS_TRY(path.lun, read_lun(volume, lun));
  return path;
}

/// Whether open-iscsi's `key = value` lines can hold it: it cuts white space off the ends.
bool fits_record(std::string_view text) {
  constexpr std::size_t kLongest = 255;  // AUTH_STR_MAX_LEN of open-iscsi is 256, with a NUL
  return !text.empty() && text.size() <= kLongest && text.front() != ' ' && text.back() != ' ' &&
         std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; });
}

}  // namespace

std::string to_string(const Portal& portal) {
  const bool is_ipv6 = portal.host.find(':') != std::string::npos;
  return (is_ipv6 ? "[" + portal.host + "]" : portal.host) + ":" + std::to_string(portal.port);
}

std::optional<Portal> parse_portal(std::string_view text) {
  text = text.substr(0, text.find(','));
  std::string_view host = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    host = text.substr(1, end - 1);
    port = text.substr(end + 1);
  } else if (std::count(text.begin(), text.end(), ':') == 1) {
    host = text.substr(0, text.find(':'));
    port = text.substr(host.size());
  }
  Portal portal;
  if (!is_host(host)) return std::nullopt;
  portal.host = host;
  if (port.empty()) return portal;
  const auto number = parse_number<std::uint16_t>(port.substr(1));
  if (port.front() != ':' || !number || *number == 0) return std::nullopt;
  portal.port = *number;
  return portal;
}

bool names_target(const sdk::Volume& volume) {
  return volume.data().at("target_iqn").present() || volume.data().at("target_iqns").present() ||
         !volume.data().at("device_path").present();
}

bool lists_portals(const sdk::Volume& volume) {
  return volume.data().at("target_portals").present() && volume.data().at("target_iqns").present();
}

Result<std::vector<LunPath>> read_paths(const sdk::Volume& volume) {
  const sdk::Value data = volume.data();
  std::vector<LunPath> paths;
  if (!lists_portals(volume)) {
    AIOLOS_TRY(LunPath path, read_path(volume, data.at("target_portal"), data.at("target_iqn"), data.at("target_lun")));
    paths.push_back(std::move(path));
    return paths;
  }
  const sdk::Value portals = data.at("target_portals");
  const sdk::Value iqns = data.at("target_iqns");
  const sdk::Value luns = data.at("target_luns");
  if (portals.type() != AIOLOS_ARRAY || portals.size() == 0) return portals.mismatch("a list of portals");
  if (iqns.size() != portals.size())
    return iqns.error(std::to_string(iqns.size()) + " targets for " + std::to_string(portals.size()) + " portals",
                      "give one of target_iqns for each of target_portals");
  if (luns && luns.size() != portals.size())
    return luns.error(std::to_string(luns.size()) + " LUNs for " + std::to_string(portals.size()) + " portals",
                      "give one of target_luns for each of target_portals");
  for (std::size_t index = 0; index < portals.size(); ++index) {
    AIOLOS_TRY(LunPath path,
               read_path(volume, portals[index], iqns[index], luns ? luns[index] : data.at("target_lun")));
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(std::move(path));
  }
  return paths;
}

Result<std::optional<Chap>> read_chap(const sdk::Volume& volume, std::string_view prefix) {
  const std::string name(prefix);
  const std::string method_key = name + "_method";
  const std::string username_key = name + "_username";
  const std::string password_key = name + "_password";
  const sdk::Value method = volume.data().at(method_key);
  AIOLOS_TRY(const std::string_view text, method.string_or(""));
  if (text.empty() || text == "None") return std::optional<Chap>();
  if (text != "CHAP") return method.error("unknown method '" + std::string(text) + "'", "use CHAP, or none at all");
  const sdk::Value username = volume.data().at(username_key);
  const sdk::Value password = volume.data().at(password_key);
  AIOLOS_TRY(const std::string_view user, username.string());
  AIOLOS_TRY(Secret secret, password.secret());
  constexpr std::string_view kNext = "use 1 to 255 characters, with no control characters and no blanks at the ends";
  if (!fits_record(user)) return username.error("open-iscsi cannot keep this name", std::string(kNext));
  if (!fits_record(secret.reveal())) return password.error("open-iscsi cannot keep this password", std::string(kNext));
  return std::optional<Chap>(Chap{std::string(user), std::move(secret)});
}

Json to_json(const std::vector<LunPath>& paths) {
  Json list = Json::array();
  for (const LunPath& path : paths)
    list.push_back({{"portal", to_string(path.target.portal)}, {"iqn", path.target.iqn}, {"lun", path.lun}});
  return list;
}

Result<std::vector<LunPath>> paths_from_json(const Json& value) {
  std::vector<LunPath> paths;
  for (const Json& entry : value) {
    const std::optional<Portal> portal = parse_portal(entry.value("portal", ""));
    if (!portal) return sdk::fail(ErrorKind::bug, "the journal holds a path without a portal", "report this");
    paths.push_back({{*portal, entry.value("iqn", "")}, entry.value("lun", std::uint64_t{0})});
  }
  return paths;
}

}  // namespace aiolos::iscsi
