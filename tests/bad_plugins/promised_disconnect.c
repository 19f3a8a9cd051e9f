// SPDX-License-Identifier: Apache-2.0
// AIOLOS_CAN_CONNECT without the slot disconnect.
#include "bad_plugin.h"

static int connect(void *state, aiolos_call *call, const aiolos_value *connection_info) {
  return good_describe(state, call, connection_info);
}

BAD_PLUGIN("promised_disconnect", driver->capabilities = AIOLOS_CAN_CONNECT; driver->connect = connect)
