// SPDX-License-Identifier: Apache-2.0
// This host's Fibre Channel adapters and the remote ports that they have seen, as sysfs shows them.
//
// Source: Linux, drivers/scsi/scsi_transport_fc.c. Everything read here is what the transport class remembers: no
// command goes to the fabric, so nothing waits for it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scsi/sysfs.h"

namespace aiolos::fibre_channel {

/// A port of another machine (class fc_remote_ports). The kernel keeps those that went: their state says so.
struct RemotePort {
  std::string port_name;              ///< 16 hexadecimal digits.
  std::string state;                  ///< The kernel's word: Online, Blocked, Not Present, ...
  bool is_target = false;             ///< Has the role FCP Target.
  unsigned channel = 0;               ///< With `target_id` its SCSI address on the adapter's host.
  std::optional<unsigned> target_id;  ///< nullopt as long as it has none: it is no target, or was never logged in to.

  bool is_online() const { return state == "Online" || state == "Marginal"; }
  /// Gone just now, perhaps for a moment (a LIP, a cable): I/O waits until it is back or fast_io_fail_tmo is over.
  bool is_blocked() const { return state == "Blocked"; }
};

/// A host bus adapter's port (class fc_host).
struct Adapter {
  unsigned host = 0;      ///< Number of its SCSI host.
  std::string port_name;  ///< 16 hexadecimal digits.
  std::string state;      ///< The kernel's word: Online, Linkdown, Offline, ...
  std::vector<RemotePort> remote_ports;

  bool is_online() const { return state == "Online"; }
  /// Its link is up, and it is not through with the fabric yet, as after a LIP: libfc calls that Offline, lpfc
  /// Bypassed.
  bool is_logging_in() const { return state == "Offline" || state == "Bypassed"; }
  /// The remote port of that name; nullptr if the adapter never saw it.
  const RemotePort* find(std::string_view port_name) const;
  /// "host3 (0x10...)".
  std::string name() const;
};

/// All adapters of this host by their number; empty where it has none.
std::vector<Adapter> read_adapters(const scsi::Sysfs& sysfs);

}  // namespace aiolos::fibre_channel
