// SPDX-License-Identifier: Apache-2.0
#include "iscsiadm.h"

#include <algorithm>
#include <chrono>
#include <sstream>
#include <utility>

#include "database_lock.h"
#include "scsi/complaint.h"

namespace aiolos::iscsi {
namespace {

using namespace std::chrono_literals;

constexpr auto kRecordTimeout = 10s;    // a file
constexpr auto kLoginTimeout = 9s;      // iscsid gives up after 5 (node_settings) and says so
constexpr auto kLogoutTimeout = 20s;    // node.conn[0].timeo.logout_timeout is 15
constexpr auto kDiscoveryTimeout = 8s;  // of a portal that has answered before

// Exit statuses. Source: open-iscsi, include/iscsi_err.h.
constexpr int kTransportFailure = 4;  // also: a name that does not resolve
constexpr int kTransportTimeout = 8;
constexpr int kSessionExists = 15;
constexpr int kFatalLogin = 19;
constexpr int kNoDaemon = 20;
constexpr int kNothingFound = 21;
constexpr int kLoginRefused = 24;

/// The reason that iscsiadm gives, such as "initiator reported error (8 - connection timed out)".
std::string complaint(const CommandResult& result) {
  constexpr std::string_view kName = "iscsiadm: ";
  constexpr std::string_view kSummary = "iscsiadm: Could not log";  // "... into all portals", after the reason
  CommandResult reason = result;
  if (const std::size_t summary = reason.errors.rfind(kSummary); summary != 0 && summary != std::string::npos)
    reason.errors.resize(summary);
  const std::string text = scsi::complaint(reason);
  return text.starts_with(kName) ? text.substr(kName.size()) : text;
}

/// iscsiadm, once nobody keeps it from the records.
Result<CommandResult> iscsiadm(sdk::Call& call, std::vector<std::string> argv, std::chrono::milliseconds timeout) {
  wait_for_database();
  argv.insert(argv.begin(), "iscsiadm");
  return call.run(Command{std::move(argv), {}, timeout});
}

Result<CommandResult> node_mode(sdk::Call& call, const TargetPortal& node, const std::string& iface,
                                std::vector<std::string> operation, std::chrono::milliseconds timeout) {
  std::vector<std::string> argv{"-m", "node", "-T", node.iqn, "-p", to_string(node.portal), "-I", iface};
  argv.insert(argv.end(), std::make_move_iterator(operation.begin()), std::make_move_iterator(operation.end()));
  return iscsiadm(call, std::move(argv), timeout);
}

Result<CommandResult> discovery_mode(sdk::Call& call, const Portal& portal, std::vector<std::string> operation) {
  std::vector<std::string> argv{"-m", "discoverydb", "-t", "sendtargets", "-p", to_string(portal)};
  argv.insert(argv.end(), std::make_move_iterator(operation.begin()), std::make_move_iterator(operation.end()));
  return iscsiadm(call, std::move(argv), kRecordTimeout);
}

tl::unexpected<Error> daemon_is_down() {
  return sdk::fail(ErrorKind::configuration, "iscsid does not run, so nobody can log in to an iSCSI target",
                   "start it: systemctl start iscsid");
}

/// Success for status 0 or `also`; a failure of open-iscsi's own otherwise.
Result<void> check(const CommandResult& result, int also, const std::string& doing) {
  if (result.status == 0 || result.status == also) return {};
  if (result.status == kNoDaemon) return daemon_is_down();
  return sdk::fail(ErrorKind::configuration, "iscsiadm cannot " + doing + ": " + complaint(result),
                   "check open-iscsi's configuration on this host, and iscsi.iface in Aiolos' own");
}

std::string name_of(const TargetPortal& node) { return "target " + node.iqn + " at portal " + to_string(node.portal); }

tl::unexpected<Error> login_refused(const TargetPortal& node, bool with_chap) {
  return sdk::fail(ErrorKind::bad_input,
                   name_of(node) + " refuses this host's login " +
                       (with_chap ? "with the user and password of the connection_info" : "without CHAP"),
                   std::string("check ") + (with_chap ? "auth_username and auth_password" : "whether it wants CHAP") +
                       ", and that its access list has the initiator name of /etc/iscsi/initiatorname.iscsi",
                   with_chap ? "/data/auth_password" : "/data/auth_method");
}

tl::unexpected<Error> login_failed(const TargetPortal& node, const CommandResult& result, bool with_chap) {
  switch (result.status) {
    case kLoginRefused:
      return login_refused(node, with_chap);
    case kNoDaemon:
      return daemon_is_down();
    case kTransportTimeout:
      return sdk::fail(ErrorKind::retry,
                       name_of(node) + " lets nobody log in: there is no such target, or it is disabled",
                       "check target_iqn, and the target on the storage");
    case kTransportFailure:
      return sdk::fail(ErrorKind::retry, name_of(node) + " cannot be reached: " + complaint(result),
                       "check the portal's address or name, and the network");
    case kFatalLogin:
      return sdk::fail(ErrorKind::storage, name_of(node) + " does not take this host's login: " + complaint(result),
                       "iscsid's log has the target's reason");
    default:
      return sdk::fail(ErrorKind::storage, "logging in to " + name_of(node) + " failed: " + complaint(result),
                       "iscsid's log has more of it");
  }
}

}  // namespace

std::vector<Portal> portals_in(std::string_view discovered, std::string_view iqn) {
  std::vector<Portal> portals;
  std::istringstream lines{std::string(discovered)};
  for (std::string portal, name; lines >> portal >> name;)
    if (name == iqn)
      if (auto parsed = parse_portal(portal);
          parsed && std::find(portals.begin(), portals.end(), *parsed) == portals.end())
        portals.push_back(*std::move(parsed));
  return portals;
}

Result<void> create_record(sdk::Call& call, const TargetPortal& node, const std::string& iface) {
  AIOLOS_TRY(const CommandResult done, node_mode(call, node, iface, {"-o", "new"}, kRecordTimeout));
  return check(done, 0, "make a record of " + name_of(node));
}

Result<void> delete_record(sdk::Call& call, const TargetPortal& node, const std::string& iface) {
  AIOLOS_TRY(const CommandResult done, node_mode(call, node, iface, {"-o", "delete"}, kRecordTimeout));
  return check(done, kNothingFound, "delete the record of " + name_of(node));
}

Result<void> log_in(sdk::Call& call, const TargetPortal& node, const std::string& iface, bool with_chap) {
  AIOLOS_TRY(const CommandResult done, node_mode(call, node, iface, {"--login"}, kLoginTimeout));
  if (done.status == 0 || done.status == kSessionExists) return {};
  return login_failed(node, done, with_chap);
}

Result<void> log_out(sdk::Call& call, const TargetPortal& node, const std::string& iface) {
  AIOLOS_TRY(const CommandResult done, node_mode(call, node, iface, {"--logout"}, kLogoutTimeout));
  return check(done, kNothingFound, "log out of " + name_of(node));
}

Result<void> create_discovery(sdk::Call& call, const Portal& portal) {
  AIOLOS_TRY(const CommandResult done, discovery_mode(call, portal, {"-o", "new"}));
  return check(done, 0, "make a discovery record of portal " + to_string(portal));
}

Result<void> delete_discovery(sdk::Call& call, const Portal& portal) {
  AIOLOS_TRY(const CommandResult done, discovery_mode(call, portal, {"-o", "delete"}));
  return check(done, kNothingFound, "delete the discovery record of portal " + to_string(portal));
}

Result<std::string> discover(sdk::Call& call, const Portal& portal, const std::string& iface, bool recorded) {
  std::vector<std::string> argv{"-m", recorded ? "discoverydb" : "discovery",
                                "-t", "sendtargets",
                                "-p", to_string(portal),
                                "-I", iface,
                                "-o", "nonpersistent"};
  if (recorded) argv.emplace_back("--discover");
  AIOLOS_TRY(CommandResult done, iscsiadm(call, std::move(argv), kDiscoveryTimeout));
  if (done.status == 0 || done.status == kNothingFound) return std::move(done.output);
  return sdk::fail(ErrorKind::retry, "portal " + to_string(portal) + " does not tell its targets: " + complaint(done),
                   "check discovery_auth_*, or give the portals in target_portals and target_iqns");
}

}  // namespace aiolos::iscsi
