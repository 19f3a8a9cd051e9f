// SPDX-License-Identifier: Apache-2.0
// A capability that ABI 1.0 does not have.
#include "bad_plugin.h"

BAD_PLUGIN("unknown_capability", driver->capabilities = 1u << 30)
