// SPDX-License-Identifier: Apache-2.0
// open-iscsi's command, for what only it can do: make and delete records, log in and out, discover.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "connection.h"

namespace aiolos::iscsi {

/// The portals of a sendtargets answer ("10.0.0.1:3260,1 iqn...") that belong to a target.
std::vector<Portal> portals_in(std::string_view discovered, std::string_view iqn);

/// Makes a node's record with iscsid.conf's settings, in place of one that is there.
Result<void> create_record(sdk::Call& call, const TargetPortal& node, const std::string& iface);
/// Gone already is success.
Result<void> delete_record(sdk::Call& call, const TargetPortal& node, const std::string& iface);

/// Logs in as the record says. Logged in already is success.
/// @param with_chap whether the record has CHAP, for the error.
/// @return ErrorKind::bad_input if the target refuses the initiator, ErrorKind::retry if it does not answer,
/// ErrorKind::configuration if iscsid does not run.
Result<void> log_in(sdk::Call& call, const TargetPortal& node, const std::string& iface, bool with_chap);
/// Ends the session, whoever uses it. No session is success.
Result<void> log_out(sdk::Call& call, const TargetPortal& node, const std::string& iface);

/// Makes or deletes a record of a discovery, which then takes its CHAP from there.
Result<void> create_discovery(sdk::Call& call, const Portal& portal);
Result<void> delete_discovery(sdk::Call& call, const Portal& portal);
/// Asks a portal for its targets (sendtargets), and leaves no record of what it says. @param recorded whether the
/// discovery has a record. @return iscsiadm's output. ErrorKind::retry if the portal does not answer.
Result<std::string> discover(sdk::Call& call, const Portal& portal, const std::string& iface, bool recorded);

}  // namespace aiolos::iscsi
