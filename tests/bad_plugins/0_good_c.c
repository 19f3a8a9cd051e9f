// SPDX-License-Identifier: Apache-2.0
// Nothing is wrong with this one: it has to load whatever lies beside it.
#include "bad_plugin.h"

BAD_PLUGIN("good_c", (void)driver)
