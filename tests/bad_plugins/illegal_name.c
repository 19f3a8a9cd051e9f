// SPDX-License-Identifier: Apache-2.0
// A name that no file or log line should hold.
#include "bad_plugin.h"

BAD_PLUGIN("illegal_name", driver->name = "../etc/passwd")
