// SPDX-License-Identifier: Apache-2.0
// An init that fails and does not say why.
#include "bad_plugin.h"

static int init(const aiolos_host *host, aiolos_call *call, void **state) {
  (void)host;
  (void)call;
  (void)state;
  return 42;
}

BAD_PLUGIN("init_fails_silently", driver->init = init)
