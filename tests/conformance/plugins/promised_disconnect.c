// SPDX-License-Identifier: Apache-2.0
// Promises to connect, and has no slot for it.
#include "aiolos/plugin.h"

static int no_slot(void* state, aiolos_call* call, const aiolos_value* one) {
  (void)state;
  (void)call;
  (void)one;
  return 1;
}

static int no_advice(void* state, aiolos_call* call, const aiolos_value* attachment, const aiolos_value* facts) {
  (void)state;
  (void)call;
  (void)attachment;
  (void)facts;
  return 1;
}

static const char* const types[] = {"tmpfs", NULL};

static const aiolos_driver driver = {.size = sizeof(aiolos_driver),
                                     .abi = AIOLOS_ABI_VERSION,
                                     .name = "promised_disconnect",
                                     .version = "1.0",
                                     .types = types,
                                     .capabilities = AIOLOS_CAN_CONNECT,
                                     .describe = no_slot,
                                     .connect = no_slot,
                                     .aio_mode = no_advice};

const aiolos_driver* aiolos_plugin_entry(const aiolos_host* host) {
  (void)host;
  return &driver;
}
