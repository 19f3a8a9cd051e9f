// SPDX-License-Identifier: Apache-2.0
// A slot that every driver has is NULL.
#include "bad_plugin.h"

BAD_PLUGIN("no_describe", driver->describe = NULL)
