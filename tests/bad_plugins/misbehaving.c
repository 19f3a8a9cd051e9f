// SPDX-License-Identifier: Apache-2.0
// Loads, and then breaks the rules of the ABI in the way that data.do names.
#include "bad_plugin.h"

#include <string.h>

static int is(aiolos_str text, const char *name) {
  return text.size == strlen(name) && memcmp(text.data, name, text.size) == 0;
}

static aiolos_str what_to_do(const aiolos_value *connection_info) {
  aiolos_str text = {"", 0};
  the_host->value_string(
      the_host->value_member(the_host->value_member(connection_info, "data", 4), "do", 2), &text);
  return text;
}

static int publish(aiolos_call *call, const char *json) { return the_host->publish(call, json, strlen(json)); }

static int describe(void *state, aiolos_call *call, const aiolos_value *connection_info) {
  const aiolos_str what = what_to_do(connection_info);
  if (is(what, "fail without a word")) return 3;
  if (is(what, "succeed without a result")) return 0;
  if (is(what, "publish malformed JSON")) return publish(call, "{\"source\": ");
  if (is(what, "succeed after malformed JSON")) {
    publish(call, "{\"source\": ");
    return 0;
  }
  if (is(what, "publish an unknown member"))
    return publish(call, "{\"source\": {\"type\": \"block\", \"pathh\": \"/dev/null\"}}");
  if (is(what, "publish an array")) return publish(call, "[]");
  if (is(what, "publish a wrong type"))
    return publish(call, "{\"source\": {\"type\": \"block\", \"path\": 7}}");
  if (is(what, "put at no pointer")) return the_host->put_string(call, "source", "x", 1);
  if (is(what, "put at NULL")) return the_host->put_string(call, NULL, "x", 1);
  if (is(what, "put below a value"))
    return the_host->put_string(call, "/format", "raw", 3) || the_host->put_string(call, "/format/x", "raw", 3);
  if (is(what, "put past an array's end")) return the_host->put_string(call, "/source/hosts/3/name", "x", 1);
  if (is(what, "put with a bad escape")) return the_host->put_string(call, "/a~2b", "x", 1);
  if (is(what, "put what is not UTF-8")) return the_host->put_string(call, "/source/path", "/dev/b\xfcro", 10);
  if (is(what, "fail without a message")) {
    the_host->fail(call, AIOLOS_ERROR_STORAGE, NULL, NULL, NULL);
    return 1;
  }
  if (is(what, "fail with an unknown kind")) {
    the_host->fail(call, 77, "odd", "sit down", NULL);
    return 1;
  }
  if (is(what, "fail twice")) {
    the_host->fail(call, AIOLOS_ERROR_RETRY, "the first", "wait", "/data/do");
    the_host->fail(call, AIOLOS_ERROR_STORAGE, "the second", "despair", NULL);
    return 1;
  }
  if (is(what, "fail in Latin-1")) {
    the_host->fail(call, AIOLOS_ERROR_STORAGE, "B\xfcro", "next", NULL);
    return 1;
  }
  if (is(what, "run nothing")) return the_host->run(call, NULL, NULL);
  if (is(what, "run without a deadline")) {
    const char *const argv[] = {"true", NULL};
    aiolos_command command = {0};
    aiolos_command_result result = {0};
    command.size = sizeof command;
    command.argv = argv;
    result.size = sizeof result;
    return the_host->run(call, &command, &result);
  }
  if (is(what, "probe no path")) return the_host->probe(call, "relative", "raw") == NULL;
  return good_describe(state, call, connection_info);
}

static int target(void *state, aiolos_call *call, const aiolos_value *connection_info) {
  (void)state;
  if (is(what_to_do(connection_info), "name an empty target")) return the_host->put_string(call, "/target", "", 0);
  return the_host->put_string(call, "/tarket", "x", 1);
}

static int extend(void *state, aiolos_call *call, const aiolos_value *connection_info,
                  const aiolos_value *attachment, uint64_t bytes) {
  (void)state;
  (void)connection_info;
  (void)attachment;
  (void)bytes;
  return the_host->put_integer(call, "/size", -1);
}

static int aio_mode(void *state, aiolos_call *call, const aiolos_value *attachment, const aiolos_value *facts) {
  (void)state;
  (void)attachment;
  (void)facts;
  return the_host->put_string(call, "/permitted/-", "threads", 7) ||
         the_host->put_string(call, "/preferred", "native", 6);
}

BAD_PLUGIN("misbehaving", driver->describe = describe; driver->target = target; driver->extend = extend;
           driver->aio_mode = aio_mode; driver->capabilities = AIOLOS_CAN_EXTEND;
           driver->thread_model = AIOLOS_PER_TARGET)
