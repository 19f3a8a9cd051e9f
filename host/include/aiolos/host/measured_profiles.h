// SPDX-License-Identifier: Apache-2.0
// The measurements of this host, one file for each class of storage:
// STATE/measured/VOLUME_TYPE,FORMAT,ALLOCATION,FS.json
#pragma once

#include <optional>
#include <string>

#include "aiolos/core/measured_profile.h"

namespace aiolos {

/// @param state the state folder. @return nullopt if nothing was measured of this class; ErrorKind::configuration,
/// naming the file, if what is there can't be read.
Result<std::optional<MeasuredProfile>> load_measured_profile(const std::string& state, const StorageClass& storage);

/// Keeps a measurement in place of an earlier one of its class. Readers see the one or the other, whole.
/// @return the file. ErrorKind::storage if it can't be written.
Result<std::string> save_measured_profile(const std::string& state, const MeasuredProfile& profile);

}  // namespace aiolos
