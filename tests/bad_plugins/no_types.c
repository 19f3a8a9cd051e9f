// SPDX-License-Identifier: Apache-2.0
// An empty list of volume types.
#include "bad_plugin.h"

static const char *const types[] = {NULL};

BAD_PLUGIN("no_types", driver->types = types)
