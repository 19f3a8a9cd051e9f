// SPDX-License-Identifier: Apache-2.0
// No name.
#include "bad_plugin.h"

BAD_PLUGIN("null_name", driver->name = NULL)
