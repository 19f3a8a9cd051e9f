// SPDX-License-Identifier: Apache-2.0
// A volume type in Latin-1.
#include "bad_plugin.h"

static const char *const types[] = {"t\xfcr", NULL};

BAD_PLUGIN("type_not_utf8", driver->types = types)
