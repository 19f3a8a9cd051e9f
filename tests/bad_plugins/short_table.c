// SPDX-License-Identifier: Apache-2.0
// A table shorter than that of ABI 1.0.
#include "bad_plugin.h"

BAD_PLUGIN("short_table", driver->size = 64)
