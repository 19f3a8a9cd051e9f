// SPDX-License-Identifier: Apache-2.0
// The name of a plugin before it in the folder.
#include "bad_plugin.h"

BAD_PLUGIN("taken_name", driver->name = "good_c")
