/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin ABI: how a storage type's driver and Aiolos speak to each other. Pure C; C11 and C++.
 *
 * A plugin is a shared object with ONE exported symbol, `aiolos_plugin_entry`. It returns the description of a
 * driver: a table of functions ("slots"), headed by its own size and ABI version. Both sides only ever append to their
 * tables, so either may be older than the other: what lies past the smaller size does not exist. A NULL slot means
 * "do what the host does by default", which is said at the slot. Another ABI major version is refused.
 *
 * Rules that hold everywhere:
 *  - Strings are UTF-8. An `aiolos_str` is not NUL-terminated. Structured data are JSON values (schemas: docs/).
 *  - Nothing allocated on one side is freed on the other. What the host hands to a slot (values, strings, results of
 *    services) is the host's and valid until that slot returns. What a slot hands to the host is copied at once.
 *  - No exception and no longjmp crosses. A slot returns 0 for done, or non-zero after calling `host->fail` once.
 *  - A plugin does not fork, start threads that outlive a call, change signal handlers, the locale or the working
 *    directory. To run a command it asks the host, which enforces deadlines and keeps secrets out of argument lists.
 *  - Verbs are idempotent: connecting what is connected gives the same answer; disconnecting what is gone is success.
 *  - Whatever changes this host stands between `begin_effect` and `end_effect`, and what several volumes share (a session, a
 *    mount) is held: after a crash anywhere, `disconnect` must be able to undo what was done, from the connection_info, what
 *    is held and what this host shows.
 *
 * Threads: the host calls slots from any of its threads, but never two at a time for what the driver's thread model
 * keeps apart. `host` functions may be called from the thread that runs the slot, with that slot's `call`.
 */
#ifndef AIOLOS_PLUGIN_H
#define AIOLOS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AIOLOS_ABI_MAJOR 1u
#define AIOLOS_ABI_MINOR 0u
/* The version that a table was compiled with, as its `abi` member holds it. */
#define AIOLOS_ABI_VERSION ((AIOLOS_ABI_MAJOR << 16) | AIOLOS_ABI_MINOR)

#if defined(__GNUC__)
#define AIOLOS_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define AIOLOS_PLUGIN_EXPORT
#endif

/* A JSON value that the host owns. Read it with the host's value_* functions. */
typedef struct aiolos_value aiolos_value;
/* The call in progress: where its result, its error and its log lines go. Only valid in that call. */
typedef struct aiolos_call aiolos_call;

typedef struct aiolos_str {
  const char *data; /* may be NULL if size is 0 */
  size_t size;      /* bytes */
} aiolos_str;

typedef enum aiolos_value_type {
  AIOLOS_NULL = 0, /* also what an absent member is */
  AIOLOS_BOOLEAN = 1,
  AIOLOS_INTEGER = 2,
  AIOLOS_REAL = 3,
  AIOLOS_STRING = 4,
  AIOLOS_ARRAY = 5,
  AIOLOS_OBJECT = 6
} aiolos_value_type;

/* Who can mend an error (aiolos/core/result.h's ErrorKind). */
typedef enum aiolos_error_kind {
  AIOLOS_ERROR_BAD_INPUT = 0,     /* the connection_info is wrong */
  AIOLOS_ERROR_CONFIGURATION = 1, /* a setting of this host is wrong, or a package is missing */
  AIOLOS_ERROR_REFUSED = 2,       /* against policy, or it would harm: a device in use, another volume's device */
  AIOLOS_ERROR_RETRY = 3,         /* may succeed later, unchanged */
  AIOLOS_ERROR_STORAGE = 4,       /* the storage failed */
  AIOLOS_ERROR_BUG = 5            /* this plugin broke its own rules */
} aiolos_error_kind;

typedef enum aiolos_log_level {
  AIOLOS_LOG_DEBUG = 0,
  AIOLOS_LOG_INFO = 1,
  AIOLOS_LOG_WARNING = 2,
  AIOLOS_LOG_ERROR = 3
} aiolos_log_level;

/* What a driver can do. A bit promises the slots named beside it; the loader refuses a promise with a NULL slot. */
enum {
  AIOLOS_CAN_CONNECT = 1u << 0,     /* connect and disconnect */
  AIOLOS_CAN_EXTEND = 1u << 1,      /* extend */
  AIOLOS_CAN_MULTIATTACH = 1u << 2, /* one volume on several guests at once */
  AIOLOS_CAN_MULTIPATH = 1u << 3    /* several paths to one volume */
};

/* Which of a driver's slots may run at the same time. The host takes the locks, also between processes. */
typedef enum aiolos_thread_model {
  AIOLOS_SERIALIZE_ALL = 0, /* one verb of this driver at a time on this host */
  AIOLOS_PER_TARGET = 1,    /* one verb at a time for each target; promises the slot `target` */
  AIOLOS_PARALLEL = 2       /* any */
} aiolos_thread_model;

/* A command for host->run. It is executed directly, never by a shell, with a clean environment (LC_ALL=C). */
typedef struct aiolos_command {
  uint32_t size;           /* sizeof(aiolos_command) */
  uint32_t timeout_ms;     /* the command is killed after that long, and the run fails with AIOLOS_ERROR_RETRY */
  const char *const *argv; /* NULL-terminated; argv[0] is looked up in the host's own PATH */
  aiolos_str input;        /* standard input: the only way to hand over a secret */
  /* UUID of a secret that the hypervisor keeps: its value, in base64 and a newline, is the standard input instead of
   * `input`; no plugin sees it. NULL: `input` is. */
  const char *secret_uuid;
} aiolos_command;

typedef struct aiolos_command_result {
  uint32_t size;     /* sizeof(aiolos_command_result), set by the plugin */
  int32_t status;    /* exit status; 128 + N if signal N ended it */
  aiolos_str output; /* standard output */
  aiolos_str errors; /* standard error */
} aiolos_command_result;

/* An error, as host->take_error gives it back. */
typedef struct aiolos_error {
  uint32_t size; /* sizeof(aiolos_error), set by the plugin */
  uint32_t kind; /* aiolos_error_kind */
  aiolos_str message;
  aiolos_str next;
  aiolos_str where;
} aiolos_error;

/* The host's services. `size` bytes of it exist. */
typedef struct aiolos_host {
  uint32_t size; /* sizeof(aiolos_host) of the host */
  uint32_t abi;  /* AIOLOS_ABI_VERSION of the host */

  /* --- reading values. A NULL value reads as null, so look-ups may be chained. --- */
  aiolos_value_type (*value_type)(const aiolos_value *value);
  /* The member of an object; NULL if absent, null, or if `object` is no object. */
  const aiolos_value *(*value_member)(const aiolos_value *object, const char *key, size_t key_size);
  /* Number of elements of an array or members of an object; 0 otherwise. */
  size_t (*value_size)(const aiolos_value *value);
  /* Element `index` of an array, or value of member `index` of an object; NULL past the end. */
  const aiolos_value *(*value_element)(const aiolos_value *value, size_t index);
  /* Key of member `index` of an object; size 0 past the end. */
  aiolos_str (*value_key)(const aiolos_value *object, size_t index);
  /* These give 1 and set *out if the value is of that type; otherwise 0 and *out as it was. */
  int (*value_string)(const aiolos_value *value, aiolos_str *out);
  int (*value_integer)(const aiolos_value *value, int64_t *out);
  int (*value_boolean)(const aiolos_value *value, int *out);
  /* Of an integer too. An integer past INT64_MAX reads as AIOLOS_REAL. */
  int (*value_real)(const aiolos_value *value, double *out);
  /* The whole value as JSON text, for a plugin with a JSON library of its own. Valid until the slot returns. */
  aiolos_str (*value_text)(aiolos_call *call, const aiolos_value *value);
  /* Where a value stands in the document it is part of, as a JSON pointer (NUL-terminated too), for `fail`. Empty for a
   * document itself and for NULL. Searches, so only for errors. Valid until the slot returns. */
  aiolos_str (*value_pointer)(aiolos_call *call, const aiolos_value *value);

  /* --- the call's result: an object, built member by member, or published whole --- */
  /* Sets the member at a JSON pointer such as "/source/path", creating what is missing on the way: an array where the
   * next token is a number or "-", an object otherwise. "-" appends to an array, and so does the number one past its
   * end ("/source/hosts/0/name", then "/source/hosts/0/port"). "" is the whole result. Text is UTF-8.
   * 0, or non-zero for a pointer or text that cannot be (the call then has failed with a bug). */
  int (*put_string)(aiolos_call *call, const char *pointer, const char *text, size_t size);
  int (*put_integer)(aiolos_call *call, const char *pointer, int64_t number);
  int (*put_boolean)(aiolos_call *call, const char *pointer, int truth);
  /* As put_string, with the value given as JSON text: for what the others can't say. */
  int (*put_json)(aiolos_call *call, const char *pointer, const char *json, size_t size);
  /* Replaces the result by this JSON text. 0, or non-zero if it does not parse (the call then has failed with a
   * bug). */
  int (*publish)(aiolos_call *call, const char *json, size_t size);

  /* Ends the call with an error; the slot then returns non-zero. The first error of a call stays.
   * kind: aiolos_error_kind. message: what failed, naming the value. next: what the reader can do about it.
   * where: JSON pointer into the connection_info that is at fault, or NULL. All are copied. */
  void (*fail)(aiolos_call *call, uint32_t kind, const char *message, const char *next, const char *where);
  /* Takes the call's error back, so that the slot can get over it: a service failed (a command overran its time) and
   * the slot knows another way. 1 and *error (if that is not NULL); 0 if the call has not failed. Its strings are valid
   * until the slot returns. */
  int (*take_error)(aiolos_call *call, aiolos_error *error);

  /* Writes to the host's log. level: aiolos_log_level. Never pass a secret. */
  void (*log)(aiolos_call *call, uint32_t level, const char *message, size_t size);

  /* --- services --- */
  /* This driver's part of the configuration: the object under the key that `configuration_key` names, complete with
   * the defaults; NULL if it has none. In `init` too. Valid until the slot returns. */
  const aiolos_value *(*configuration)(aiolos_call *call);
  /* Runs a command. 0: it ran, whatever its exit status; *result holds it. Non-zero: it could not be started or
   * overran its time; the call has failed. */
  int (*run)(aiolos_call *call, const aiolos_command *command, aiolos_command_result *result);
  /* Probes the chain of images or the block device at an absolute path: facts as docs/facts.schema.json has them.
   * format: "raw", "qcow2", ... Gives NULL after failing the call. */
  const aiolos_value *(*probe)(aiolos_call *call, const char *path, const char *format);
  /* What is mounted: an array of {"source","target","fstype","options"} from the host's mount table. */
  const aiolos_value *(*mounts)(aiolos_call *call);

  /* --- locks between all processes and threads of this host. `name` is the driver's own: other drivers' are others --- */
  /* Waits for a lock. What it guards should be short: nothing that waits for storage (a flush) belongs under it. 0, or
   * non-zero after failing the call: AIOLOS_ERROR_RETRY if another had it for longer than timeout_ms, AIOLOS_ERROR_BUG if
   * this call has it already. Given back by `unlock` and when the slot returns. */
  int (*lock)(aiolos_call *call, const char *name, uint32_t timeout_ms);
  /* Gives a lock back; one that this call does not have is none of its business. */
  void (*unlock)(aiolos_call *call, const char *name);

  /* --- the volume's journal: in connect, disconnect and extend. What these return from is on disk. --- */
  /* Says that a side effect on this host is about to happen. what: for people, naming what is affected: "mount
   * server:/export at /path". 0 and *effect, or non-zero after failing the call: then do not cause it. */
  int (*begin_effect)(aiolos_call *call, const char *what, int64_t *effect);
  /* Says that it has happened. One that failed stays begun: it may have happened in part. */
  int (*end_effect)(aiolos_call *call, int64_t effect);
  /* Writes down that this volume uses something that it shares with others: before making it, under a lock. resource:
   * the driver's own name for it. Holding it twice is once. */
  int (*hold)(aiolos_call *call, const char *resource);
  /* Writes down that it does no longer: after undoing it, or leaving it to the others. Not held: nothing. The journal
   * releases what is left when disconnect has succeeded. */
  int (*release)(aiolos_call *call, const char *resource);
  /* Sets *held to whether this volume holds it, and *others to how many other volumes of this host do. */
  int (*holders)(aiolos_call *call, const char *resource, int *held, size_t *others);
} aiolos_host;

/* Flags of disconnect. */
enum {
  AIOLOS_FORCE = 1u << 0 /* give up what cannot be flushed: the caller knows that the data may be lost */
};

/* A driver. `size` bytes of it exist. Strings are the plugin's and live as long as it is loaded. */
typedef struct aiolos_driver {
  uint32_t size; /* sizeof(aiolos_driver) that the plugin was compiled with */
  uint32_t abi;  /* AIOLOS_ABI_VERSION that the plugin was compiled with */

  const char *name;               /* of the plugin: letters, digits, '-', '_' */
  const char *version;            /* of the plugin, for people */
  const char *summary;            /* one line, for `aiolos drivers`; may be NULL */
  const char *const *types;       /* the driver_volume_type values it serves; NULL-terminated, at least one */
  const char *configuration_key;  /* top-level key of the configuration that is this driver's; NULL: none */
  /* That section with every key it may have and its default, as the text of a JSON object: {"iface": "default"}. A key
   * that is not there is refused, so is a value of another type than the default's (null takes any); what the
   * operator leaves out is filled in. NULL if configuration_key is. */
  const char *configuration_defaults;
  uint32_t capabilities;          /* AIOLOS_CAN_* */
  uint32_t thread_model;          /* aiolos_thread_model */
  /* What Nova's driver for this storage sets as driver_io whatever the facts: "native", or NULL for nothing. Profile
   * `nova` uses it instead of aio_mode. */
  const char *nova_driver_io;

  /* Called once after loading, before any other slot. *state is handed to every other slot. NULL: no state. */
  int (*init)(const aiolos_host *host, aiolos_call *call, void **state);
  /* Called once before unloading. NULL: nothing to free. */
  void (*fini)(void *state);

  /* REQUIRED. Where the volume is, computed from its connection_info and the configuration alone: result is an
   * Attachment (docs/attachment.schema.json). Touches nothing: no command, no file. Fails with
   * AIOLOS_ERROR_BAD_INPUT and the JSON pointer if a key that is needed is missing or mistyped. */
  int (*describe)(void *state, aiolos_call *call, const aiolos_value *connection_info);

  /* Names what must not be worked on twice at once (an iSCSI target, an export, a path): result {"target": "..."}.
   * Touches nothing. Promised by AIOLOS_PER_TARGET. */
  int (*target)(void *state, aiolos_call *call, const aiolos_value *connection_info);

  /* Makes the volume reachable on this host: result is an Attachment. If it fails the host calls `disconnect` without an
   * attachment, as after a crash. Promised by AIOLOS_CAN_CONNECT. NULL: nothing needs doing, and the volume is where `describe` says. */
  int (*connect)(void *state, aiolos_call *call, const aiolos_value *connection_info);

  /* Undoes connect. connection_info: as connect had it, but for its secrets, which read "***". attachment: what connect
   * published, or null if it failed or this process crashed in it: then nothing, a part or all of it may have been done.
   * What the volume does not hold, or others hold too, stays. flags: AIOLOS_FORCE. Result: none. Promised by AIOLOS_CAN_CONNECT. NULL: nothing needs doing. */
  int (*disconnect)(void *state, aiolos_call *call, const aiolos_value *connection_info,
                    const aiolos_value *attachment, uint32_t flags);

  /* Makes this host see the volume's new size, or grows it where the driver owns the image.
   * bytes: the size asked for. Result {"size": bytes the volume has now}. Promised by AIOLOS_CAN_EXTEND.
   * NULL: extending is refused. */
  int (*extend)(void *state, aiolos_call *call, const aiolos_value *connection_info, const aiolos_value *attachment,
                uint64_t bytes);

  /* The facts of a connected volume's storage (docs/facts.schema.json). NULL: the host probes the attachment's source
   * where that is a file or block device, and knows nothing of a network source. */
  int (*facts)(void *state, aiolos_call *call, const aiolos_value *connection_info, const aiolos_value *attachment);

  /* Whether a connected volume still is what connect found: asked before its XML is written, before it is taken from a
   * guest and before it is extended. Fails with AIOLOS_ERROR_REFUSED if it is another volume (a LUN was renumbered), naming
   * both. Changes nothing. Result: none. NULL: there is nothing that could be mistaken. */
  int (*verify)(void *state, aiolos_call *call, const aiolos_value *connection_info, const aiolos_value *attachment);

  /* REQUIRED. Which AIO modes this storage permits and prefers, given the facts (null: not probed). Result:
   * {"effective": bool      false: QEMU's own client does the I/O, the mode has no effect
   *  "permitted": [modes], "preferred": mode,
   *  "reasons": [text], "rejected": [{"mode", "because"}]}  (docs/advice.schema.json) */
  int (*aio_mode)(void *state, aiolos_call *call, const aiolos_value *attachment, const aiolos_value *facts);
} aiolos_driver;

/* The one exported symbol. host lives as long as the plugin is loaded. Called once; returns the driver, which must
 * live as long, or NULL if this plugin cannot serve a host of that ABI. Takes no resources: `init` does. */
AIOLOS_PLUGIN_EXPORT const aiolos_driver *aiolos_plugin_entry(const aiolos_host *host);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif
