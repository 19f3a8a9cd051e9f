// SPDX-License-Identifier: Apache-2.0
// Where the walk over all properties of a disk begins. Internal to config_guest_disk; its tests use it too.
#pragma once

#include "property_row.h"

namespace aiolos::disk {

/// The table of `<disk>`; every other one hangs below it.
const Table& disk_table();

/// The table of `<source>`.
const Table& source_table();

}  // namespace aiolos::disk
