/* SPDX-License-Identifier: Apache-2.0
 *
 * NBD exports as volumes, reached by QEMU's own client; a plugin in plain C.
 *
 *   {"driver_volume_type": "nbd", "data": {"host": "10.0.0.7", "port": 10809, "export": "vol-1"}}
 *   {"driver_volume_type": "nbd", "data": {"socket": "/run/nbd.sock", "export": "vol-1"}}
 *
 * Nothing is connected on this host, so there is no `connect`; the server grows the export, and QEMU asks it for the
 * new size, so `extend` has nothing to do but to say yes.
 */
#include <stdio.h>
#include <string.h>

#include <aiolos/plugin.h>

/* The host's services. One plugin has one host, for as long as it is loaded. */
static const aiolos_host *host;

static int init(const aiolos_host *the_host, aiolos_call *call, void **state) {
  (void)call;
  (void)state;
  host = the_host;
  return 0;
}

static const aiolos_value *member(const aiolos_value *object, const char *key) {
  return host->value_member(object, key, strlen(key));
}

/* Copies the string data.KEY to the result at `pointer`; a missing or mistyped one ends the call. */
static int copy_string(aiolos_call *call, const aiolos_value *data, const char *key, const char *pointer) {
  aiolos_str text;
  char where[64];
  if (host->value_string(member(data, key), &text)) return host->put_string(call, pointer, text.data, text.size);
  snprintf(where, sizeof where, "/data/%s", key);
  host->fail(call, AIOLOS_ERROR_BAD_INPUT, "expected a string", "name the NBD server and its export", where);
  return 1;
}

/* Copies data.port, which is a number or a string, or the port that IANA gave to NBD. */
static int copy_port(aiolos_call *call, const aiolos_value *data) {
  static const char *const pointer = "/source/hosts/0/port";
  const aiolos_value *port = member(data, "port");
  aiolos_str text;
  int64_t number = 10809;
  char digits[24];
  if (host->value_string(port, &text)) return host->put_string(call, pointer, text.data, text.size);
  if (host->value_type(port) != AIOLOS_NULL && !host->value_integer(port, &number)) {
    host->fail(call, AIOLOS_ERROR_BAD_INPUT, "expected a port number", "leave it out for 10809", "/data/port");
    return 1;
  }
  snprintf(digits, sizeof digits, "%lld", (long long)number);
  return host->put_string(call, pointer, digits, strlen(digits));
}

static int describe(void *state, aiolos_call *call, const aiolos_value *connection_info) {
  const aiolos_value *data = member(connection_info, "data");
  (void)state;
  if (host->put_string(call, "/source/type", "network", 7) || host->put_string(call, "/source/protocol", "nbd", 3) ||
      copy_string(call, data, "export", "/source/name"))
    return 1;
  if (member(data, "socket") != NULL)
    return host->put_string(call, "/source/hosts/0/transport", "unix", 4) ||
           copy_string(call, data, "socket", "/source/hosts/0/socket");
  return copy_string(call, data, "host", "/source/hosts/0/name") || copy_port(call, data);
}

static int extend(void *state, aiolos_call *call, const aiolos_value *connection_info, const aiolos_value *attachment,
                  uint64_t bytes) {
  (void)state;
  (void)connection_info;
  (void)attachment;
  return host->put_integer(call, "/size", (int64_t)bytes);
}

static int aio_mode(void *state, aiolos_call *call, const aiolos_value *attachment, const aiolos_value *facts) {
  static const char reason[] = "QEMU's own nbd client does the I/O: AIO mode has no effect";
  (void)state;
  (void)attachment;
  (void)facts;
  return host->put_boolean(call, "/effective", 0) || host->put_string(call, "/reasons/-", reason, sizeof reason - 1);
}

static const char *const types[] = {"nbd", NULL};

static const aiolos_driver driver = {
    .size = sizeof(aiolos_driver),
    .abi = AIOLOS_ABI_VERSION,
    .name = "nbd",
    .version = "1.0",
    .summary = "NBD exports, by QEMU's own client",
    .types = types,
    .capabilities = AIOLOS_CAN_EXTEND | AIOLOS_CAN_MULTIATTACH,
    .thread_model = AIOLOS_PARALLEL,
    .init = init,
    .describe = describe,
    .extend = extend,
    .aio_mode = aio_mode,
};

const aiolos_driver *aiolos_plugin_entry(const aiolos_host *the_host) {
  (void)the_host;
  return &driver;
}
