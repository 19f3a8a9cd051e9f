// SPDX-License-Identifier: Apache-2.0
// AIOLOS_CAN_EXTEND without the slot extend.
#include "bad_plugin.h"

BAD_PLUGIN("promised_extend", driver->capabilities = AIOLOS_CAN_EXTEND)
