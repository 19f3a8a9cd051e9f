// SPDX-License-Identifier: Apache-2.0
// Where the array shows a volume: what a Fibre Channel connection_info says.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/plugin.hpp"

namespace aiolos::fibre_channel {

/// A LUN of a target port. Compared by port, then by number.
struct TargetLun {
  std::string port;       ///< World wide port name: 16 hexadecimal digits in lower case.
  std::uint64_t lun = 0;  ///< As Linux numbers LUNs.

  auto operator<=>(const TargetLun&) const = default;
};

struct VolumeAddress {
  std::vector<TargetLun> luns;  ///< Of one volume, in the order of connection_info, none twice; at least one.
  /// The target ports that each initiator was given (data.initiator_target_map); empty: any initiator, any port.
  std::map<std::string, std::vector<std::string>, std::less<>> initiators;
  /// Whether an HBA may look for the LUN at ports that it does not name (data.enable_wildcard_scan).
  bool may_scan_wildcards = true;

  /// Whether the array shows the volume to any port of this initiator.
  bool allows(std::string_view initiator) const;
  /// Whether it shows it to the initiator at this target port.
  bool allows(std::string_view initiator, std::string_view port) const;
};

/// A port name as sysfs and Cinder's drivers spell them ("0x50...", "50:0a:...", upper case), in the form that is
/// compared.
/// @return empty if it is none.
std::string normalized_port_name(std::string_view text);

/// "0x50...": a port name as people read it in sysfs and in multipath's output.
std::string shown(std::string_view port_name);
/// "LUN 3 of target port 0x50...".
std::string shown(const TargetLun& lun);

/// Reads data.target_wwn(s), data.target_lun(s), data.addressing_mode, data.initiator_target_map and
/// data.enable_wildcard_scan. Source: os-brick 6.4, initiator/connectors/fibre_channel.py,
/// _add_targets_to_connection_properties.
/// @return ErrorKind::bad_input naming the member that is missing, mistyped or does not match the others.
Result<VolumeAddress> read_address(const sdk::Volume& volume);

}  // namespace aiolos::fibre_channel
