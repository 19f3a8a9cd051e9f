// SPDX-License-Identifier: Apache-2.0
// Logical volumes that are not active have no device: they are activated for a guest, and deactivated after the last.
//
// Source: lvm(8) and lvchange(8) of LVM 2.03.16. Every failure of its commands is exit status 5, so they are asked
// first.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "aiolos/plugin.hpp"

namespace aiolos::local {

/// A logical volume, as its device's name has it.
struct LogicalVolume {
  std::string group;
  std::string name;

  std::string full_name() const { return group + "/" + name; }
};

/// The logical volume whose device would be at `path`: /dev/GROUP/NAME, or /dev/mapper/GROUP-NAME with the dashes of
/// the names doubled. nullopt for a path of another form. Touches nothing.
std::optional<LogicalVolume> logical_volume_at(std::string_view path);

/// Makes sure that the device is there. One that was active before is left alone; one that is activated here is held.
/// @param path of the device, for errors. @return ErrorKind::storage if LVM has no such volume or cannot activate it. A
/// `path` at which there is something already, or that is no logical volume's, is success.
Result<void> activate(sdk::Call& call, const std::string& path);

/// Undoes it, unless another volume holds it or somebody has it open. Not held, or gone: nothing.
Result<void> deactivate(sdk::Call& call, const std::string& path);

}  // namespace aiolos::local
