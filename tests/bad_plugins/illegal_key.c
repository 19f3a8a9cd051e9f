// SPDX-License-Identifier: Apache-2.0
// A configuration key that YAML would read as something else.
#include "bad_plugin.h"

BAD_PLUGIN("illegal_key", driver->configuration_key = "a: b"; driver->configuration_defaults = "{}")
