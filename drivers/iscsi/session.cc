// SPDX-License-Identifier: Apache-2.0
#include "session.h"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace aiolos::iscsi {
namespace {

constexpr std::string_view kSessions = "class/iscsi_session";
constexpr unsigned kChannel = 0;  // all that open-iscsi's transports use: iscsi_user_scan

unsigned number_or(const std::optional<std::string>& text, unsigned otherwise) {
  unsigned number = otherwise;
  if (text) std::from_chars(text->data(), text->data() + text->size(), number);
  return number;
}

/// "3" of ".../host3/session7/iscsi_session/session7".
std::optional<unsigned> host_number(const std::optional<std::string>& folder) {
  constexpr std::string_view kHost = "/host";
  if (!folder) return std::nullopt;
  const std::size_t session = folder->find("/session");
  if (session == std::string::npos) return std::nullopt;
  const std::size_t host = folder->rfind(kHost, session);
  if (host == std::string::npos) return std::nullopt;
  unsigned number = 0;
  const char* digits = folder->data() + host + kHost.size();
  const auto [end, error] = std::from_chars(digits, folder->data() + session, number);
  if (error != std::errc() || end != folder->data() + session) return std::nullopt;
  return number;
}

std::optional<Portal> portal_of(const scsi::Sysfs& sysfs, const std::string& device) {
  for (const std::string& name : sysfs.entries(device)) {
    if (!name.starts_with("connection")) continue;
    const std::string connection = device + "/" + name + "/iscsi_connection/" + name;
    const auto address = sysfs.attribute(connection + "/persistent_address");
    if (address)
      return Portal{*address,
                    static_cast<std::uint16_t>(number_or(sysfs.attribute(connection + "/persistent_port"), 0))};
  }
  return std::nullopt;
}

std::optional<Session> read_session(const scsi::Sysfs& sysfs, const std::string& name) {
  const std::string folder = std::string(kSessions) + "/" + name;
  const std::optional<unsigned> host = host_number(sysfs.resolve(folder));
  const std::optional<Portal> portal = portal_of(sysfs, folder + "/device");
  const std::optional<std::string> iqn = sysfs.attribute(folder + "/targetname");
  if (!host || !portal || !iqn) return std::nullopt;  // it is going
  Session session;
  session.host = *host;
  session.target = number_or(sysfs.attribute(folder + "/target_id"), 0);
  session.peer = {*portal, *iqn};
  session.iface = sysfs.attribute(folder + "/ifacename").value_or("");
  session.state = sysfs.attribute(folder + "/state").value_or("");
  return session;
}

}  // namespace

std::vector<Session> list_sessions(const scsi::Sysfs& sysfs) {
  std::vector<Session> sessions;
  for (const std::string& name : sysfs.entries(kSessions))
    if (std::optional<Session> session = read_session(sysfs, name)) sessions.push_back(*std::move(session));
  return sessions;
}

std::optional<Session> find_session(const scsi::Sysfs& sysfs, const TargetPortal& peer, const std::string& iface) {
  std::optional<Session> found;
  for (Session& session : list_sessions(sysfs))
    if (session.peer == peer && (!found || session.iface == iface)) found = std::move(session);
  return found;
}

scsi::Address address_of(const Session& session, std::uint64_t lun) {
  return {session.host, kChannel, session.target, lun};
}

bool has_other_luns(const scsi::Sysfs& sysfs, const Session& session, std::uint64_t lun) {
  const std::vector<scsi::Address> devices = scsi::devices_of(sysfs, session.host, kChannel, session.target);
  return std::any_of(devices.begin(), devices.end(), [&](const scsi::Address& device) { return device.lun != lun; });
}

}  // namespace aiolos::iscsi
