// SPDX-License-Identifier: Apache-2.0
// A name in Latin-1.
#include "bad_plugin.h"

BAD_PLUGIN("name_not_utf8", driver->name = "b\xfcro")
