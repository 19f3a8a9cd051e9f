// SPDX-License-Identifier: Apache-2.0
// A summary in Latin-1.
#include "bad_plugin.h"

BAD_PLUGIN("summary_not_utf8", driver->summary = "B\xfcro")
