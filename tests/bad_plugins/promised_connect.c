// SPDX-License-Identifier: Apache-2.0
// AIOLOS_CAN_CONNECT without the slot connect.
#include "bad_plugin.h"

BAD_PLUGIN("promised_connect", driver->capabilities = AIOLOS_CAN_CONNECT)
