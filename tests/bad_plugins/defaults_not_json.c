// SPDX-License-Identifier: Apache-2.0
// Defaults of the configuration that do not parse.
#include "bad_plugin.h"

BAD_PLUGIN("defaults_not_json", driver->configuration_key = "bad"; driver->configuration_defaults = "{\"a\": }")
