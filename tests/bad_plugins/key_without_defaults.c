// SPDX-License-Identifier: Apache-2.0
// A configuration without its defaults.
#include "bad_plugin.h"

BAD_PLUGIN("key_without_defaults", driver->configuration_key = "bad")
