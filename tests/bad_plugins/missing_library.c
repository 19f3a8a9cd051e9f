// SPDX-License-Identifier: Apache-2.0
// Needs a library that is not there when it is loaded.
#include "bad_plugin.h"

const char *aiolos_tests_removed_library(void);

BAD_PLUGIN("missing_library", driver->version = aiolos_tests_removed_library())
