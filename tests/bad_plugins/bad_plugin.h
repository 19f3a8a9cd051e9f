// SPDX-License-Identifier: Apache-2.0
// A driver without fault, for each file here to spoil in one way: BAD_PLUGIN("type", driver->name = NULL;)
#ifndef AIOLOS_TESTS_BAD_PLUGIN_H
#define AIOLOS_TESTS_BAD_PLUGIN_H

#include "aiolos/plugin.h"

static const aiolos_host *the_host;

static int good_init(const aiolos_host *host, aiolos_call *call, void **state) {
  (void)call;
  (void)state;
  the_host = host;
  return 0;
}

static int good_describe(void *state, aiolos_call *call, const aiolos_value *connection_info) {
  (void)state;
  (void)connection_info;
  return the_host->put_string(call, "/source/type", "block", 5) ||
         the_host->put_string(call, "/source/path", "/dev/null", 9);
}

static int good_aio_mode(void *state, aiolos_call *call, const aiolos_value *attachment, const aiolos_value *facts) {
  (void)state;
  (void)attachment;
  (void)facts;
  return the_host->put_string(call, "/permitted/-", "threads", 7);
}

static aiolos_driver *good_driver(const char *type) {
  static const char *types[2];
  static aiolos_driver driver;
  types[0] = type;
  driver.size = sizeof driver;
  driver.abi = AIOLOS_ABI_VERSION;
  driver.name = type;
  driver.version = "1.0";
  driver.types = types;
  driver.thread_model = AIOLOS_PARALLEL;
  driver.init = good_init;
  driver.describe = good_describe;
  driver.aio_mode = good_aio_mode;
  return &driver;
}

#define BAD_PLUGIN(type, spoil)                                          \
  const aiolos_driver *aiolos_plugin_entry(const aiolos_host *host) {    \
    aiolos_driver *driver = good_driver(type);                           \
    (void)host;                                                          \
    spoil;                                                               \
    return driver;                                                       \
  }

#endif
