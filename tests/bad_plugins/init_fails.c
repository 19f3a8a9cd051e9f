// SPDX-License-Identifier: Apache-2.0
// An init that fails and says why.
#include "bad_plugin.h"

static int init(const aiolos_host *host, aiolos_call *call, void **state) {
  (void)state;
  host->fail(call, AIOLOS_ERROR_CONFIGURATION, "the tool 'zfs' is not there", "install zfsutils-linux", NULL);
  return 1;
}

BAD_PLUGIN("init_fails", driver->init = init)
