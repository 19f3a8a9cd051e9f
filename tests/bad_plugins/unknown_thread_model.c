// SPDX-License-Identifier: Apache-2.0
// A thread model that ABI 1.0 does not have.
#include "bad_plugin.h"

BAD_PLUGIN("unknown_thread_model", driver->thread_model = 7)
