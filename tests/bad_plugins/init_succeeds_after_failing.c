// SPDX-License-Identifier: Apache-2.0
// An init that fails and returns success.
#include "bad_plugin.h"

static int init(const aiolos_host *host, aiolos_call *call, void **state) {
  (void)state;
  host->fail(call, AIOLOS_ERROR_STORAGE, "the array is on fire", "call the fire brigade", NULL);
  return 0;
}

BAD_PLUGIN("init_succeeds_after_failing", driver->init = init)
