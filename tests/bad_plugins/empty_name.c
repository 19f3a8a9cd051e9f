// SPDX-License-Identifier: Apache-2.0
// An empty name.
#include "bad_plugin.h"

BAD_PLUGIN("empty_name", driver->name = "")
