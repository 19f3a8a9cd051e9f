// SPDX-License-Identifier: Apache-2.0
// A volume type listed twice.
#include "bad_plugin.h"

static const char *const types[] = {"repeated_type", "repeated_type", NULL};

BAD_PLUGIN("repeated_type", driver->types = types)
