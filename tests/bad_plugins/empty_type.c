// SPDX-License-Identifier: Apache-2.0
// An empty volume type.
#include "bad_plugin.h"

static const char *const types[] = {"empty_type", "", NULL};

BAD_PLUGIN("empty_type", driver->types = types)
