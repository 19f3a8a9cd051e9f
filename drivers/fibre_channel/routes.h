// SPDX-License-Identifier: Apache-2.0
// The ways from this host's adapters to a volume: which of them can be scanned, which have to come back first, and what
// to say if none leads there.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "adapters.h"
#include "scsi/device.h"
#include "volume_address.h"

namespace aiolos::fibre_channel {

/// From one adapter to one LUN of the volume. Whether it leads there is only known by a scan.
struct Route {
  enum class State {
    open,     ///< The target port is logged in to: its LUN can be scanned.
    blocked,  ///< The target port has just gone, and may come back by itself.
    closed,   ///< Anything else: the adapter is down, or does not see the target port.
  };

  std::string adapter;  ///< Adapter::name()
  TargetLun lun;
  State state = State::closed;
  std::string reason;                    ///< Why it is not open: "the HBA is Linkdown".
  std::optional<scsi::Address> address;  ///< Of its SCSI device; nullopt until the adapter has seen the target port.

  /// "target port 0x50... at host3 (0x10...)".
  std::string name() const;
};

/// The routes that the volume's address allows, in the order of its LUNs, then of the adapters.
std::vector<Route> routes_to(const VolumeAddress& volume, const std::vector<Adapter>& adapters);

/// The online adapters that may reach the volume but whose driver names no target port at all: these can only be
/// scanned with wildcards. Where ports are named and the volume's are not among them, a wildcard would bring in other
/// volumes.
std::vector<Adapter> without_target_ports(const VolumeAddress& volume, const std::vector<Adapter>& adapters);

/// Whether no adapter that may reach the volume is online, and one may soon be. Where another is, one that says so for
/// ever (switched off, say) is not to be waited for.
bool is_logging_in(const VolumeAddress& volume, const std::vector<Adapter>& adapters);

/// Whether an adapter may be asked for the volume at all. @return ErrorKind::configuration if this host has no adapter,
/// ErrorKind::bad_input if the volume is for other initiators, ErrorKind::storage if those it is for are not online.
Result<void> check_adapters(const VolumeAddress& volume, const std::vector<Adapter>& adapters);

}  // namespace aiolos::fibre_channel
