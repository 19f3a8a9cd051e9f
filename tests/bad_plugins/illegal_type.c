// SPDX-License-Identifier: Apache-2.0
// A volume type with a space.
#include "bad_plugin.h"

static const char *const types[] = {"illegal type", NULL};

BAD_PLUGIN("illegal_type", driver->types = types)
