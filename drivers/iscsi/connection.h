// SPDX-License-Identifier: Apache-2.0
// What a connection_info says of an iSCSI volume: where it is, and how to log in there.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/plugin.hpp"

namespace aiolos::iscsi {

/// An IP portal of a target.
struct Portal {
  std::string host;  ///< An address, IPv6 without brackets, or a name.
  std::uint16_t port = 3260;

  auto operator<=>(const Portal&) const = default;
};

/// "10.0.0.1:3260", "[fd00::1]:3260": as iscsiadm takes and prints it.
std::string to_string(const Portal& portal);
/// The inverse. The port may be missing, and ",1" (a portal group tag) may follow; nullopt if it is none.
std::optional<Portal> parse_portal(std::string_view text);

/// A target at one of its portals: what a session is with.
struct TargetPortal {
  Portal portal;
  std::string iqn;

  auto operator<=>(const TargetPortal&) const = default;
};

/// One way to a volume.
struct LunPath {
  TargetPortal target;
  std::uint64_t lun = 0;  ///< As the kernel numbers it.

  auto operator<=>(const LunPath&) const = default;
};

/// CHAP of the initiator to the target.
struct Chap {
  std::string username;
  Secret password;
};

/// Whether a connection_info says where the volume is; one with nothing but `data.device_path` was connected by others.
bool names_target(const sdk::Volume& volume);

/// The ways to the volume: `target_portals`, `target_iqns` and `target_luns` side by side, or else `target_portal`,
/// `target_iqn` and `target_lun`. At least one. @return ErrorKind::bad_input naming the key that is wrong.
Result<std::vector<LunPath>> read_paths(const sdk::Volume& volume);
/// Whether those are lists, so that there is nothing to discover.
bool lists_portals(const sdk::Volume& volume);

/// CHAP from PREFIX_method, PREFIX_username and PREFIX_password of `data`; nullopt if there is no method.
/// @param prefix "auth" or "discovery_auth". @return ErrorKind::bad_input for a method that is not CHAP, or a name or
/// password that open-iscsi's records cannot hold.
Result<std::optional<Chap>> read_chap(const sdk::Volume& volume, std::string_view prefix);

/// The paths as the attachment's state keeps them, and back.
Json to_json(const std::vector<LunPath>& paths);
Result<std::vector<LunPath>> paths_from_json(const Json& value);

}  // namespace aiolos::iscsi
