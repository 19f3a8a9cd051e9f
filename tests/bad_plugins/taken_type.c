// SPDX-License-Identifier: Apache-2.0
// A volume type that a plugin before it in the folder serves.
#include "bad_plugin.h"

static const char *const types[] = {"taken_type", "good_c", NULL};

BAD_PLUGIN("taken_type", driver->types = types)
