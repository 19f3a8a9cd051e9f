// SPDX-License-Identifier: Apache-2.0
// The kernel's iSCSI sessions. Source of the attributes: drivers/scsi/scsi_transport_iscsi.c.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "connection.h"
#include "scsi/device.h"

namespace aiolos::iscsi {

struct Session {
  unsigned host = 0;    ///< Number of its SCSI host; with software iSCSI each session has one of its own.
  unsigned target = 0;  ///< Number of its SCSI target on that host.
  TargetPortal peer;    ///< As the record has it, whatever portal the target redirected to.
  std::string iface;
  std::string state;  ///< "LOGGED_IN", "FAILED" (connection lost, being reopened) or "FREE"

  bool logged_in() const { return state == "LOGGED_IN"; }
  bool logging_in() const { return state == "FREE"; }  ///< For the first time.
};

std::vector<Session> list_sessions(const scsi::Sysfs& sysfs);
/// The session with a target at a portal; where several interfaces have one, that of `iface` first.
std::optional<Session> find_session(const scsi::Sysfs& sysfs, const TargetPortal& peer, const std::string& iface);

/// Where the session has a LUN.
scsi::Address address_of(const Session& session, std::uint64_t lun);
/// Whether it has a device of any other LUN.
bool has_other_luns(const scsi::Sysfs& sysfs, const Session& session, std::uint64_t lun);

}  // namespace aiolos::iscsi
