// SPDX-License-Identifier: Apache-2.0
// Uses a function that nothing provides.
#include "bad_plugin.h"

const char *aiolos_tests_nobody_has_this(void);

BAD_PLUGIN("undefined_symbol", driver->version = aiolos_tests_nobody_has_this())
