// SPDX-License-Identifier: Apache-2.0
// Defaults of the configuration that are no object.
#include "bad_plugin.h"

BAD_PLUGIN("defaults_no_object", driver->configuration_key = "bad"; driver->configuration_defaults = "[]")
