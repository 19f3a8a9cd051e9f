// SPDX-License-Identifier: Apache-2.0
// AIOLOS_PER_TARGET without the slot target.
#include "bad_plugin.h"

BAD_PLUGIN("promised_target", driver->thread_model = AIOLOS_PER_TARGET)
