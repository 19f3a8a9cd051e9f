// SPDX-License-Identifier: Apache-2.0
// No list of volume types.
#include "bad_plugin.h"

BAD_PLUGIN("null_types", driver->types = NULL)
