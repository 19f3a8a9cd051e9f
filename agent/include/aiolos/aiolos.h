/* SPDX-License-Identifier: Apache-2.0
 *
 * The C API of libaiolos, for orchestrators in Python, Go and other languages: JSON in, JSON out, one opaque handle.
 *
 * A request is one JSON object: {"command": NAME, ...}.
 *
 *   command     members                                             answer
 *   drivers                                                         {"drivers": [..]}
 *   host                                                            {"kernel": .., "aio_nr": .., "aio": {..}, ..}
 *   disk_xml    connection_info, disk_info                          {"xml": ".."}
 *   explain     connection_info, disk_info                          {"aio": .., "facts": .., "xml": ".."}
 *   attach      domain, connection_info, disk_info, dry_run?        as explain
 *   detach      domain, target, force?                              {}
 *   extend      domain, target, size (bytes)                        {"size": bytes}
 *   qos         domain, target, qos_specs                           {}
 *   attachments                                                     {"attachments": [..]}
 *   reconcile                                                       {"reconciled": [..]}
 *   plan        domain, apply?                                      {"plan": {..}, "real": .., "applied": [..], ..}
 *
 * docs/formats.md has the members and the answers in full.
 *
 * A failure is {"error": {"kind": .., "message": .., "next": .., "where": ..}}: kind says who can mend it (bad_input,
 * configuration, refused, retry, storage, hypervisor, bug), next what to do.
 *
 * Waits: a request waits at most 120 s for another one on the same target, 30 s for another process to leave the root
 * of an embedded hypervisor, 60 s for a guest to give a disk back, and for each command and probe as long as its own
 * limit says. A wait that ends so is an error of kind retry. A call to libvirt takes as long as libvirt does.
 *
 * Processes: with qemu:///embed, which is the default, the first request that needs libvirt makes this process the one
 * that drives the root, and it holds the root's lock until it exits, also after aiolos_close. Other processes (the
 * aiolos command among them) wait for it and are then told to try again. A program that lives long uses
 * qemu:///system, or leaves such requests to a process of their own.
 *
 * Threads: aiolos_request may be called from any number of threads with one agent; requests for the same target wait
 * for their turn. aiolos_close only after the last call has returned. Nothing here changes signal handlers, the locale
 * or the working directory.
 */
#ifndef AIOLOS_H
#define AIOLOS_H

#ifdef __cplusplus
extern "C" {
#endif

#define AIOLOS_C_API __attribute__((visibility("default")))

/* A set of loaded plugins with one configuration. */
typedef struct aiolos_agent aiolos_agent;

/* The library's version, "0.1.0". Static; do not free. */
AIOLOS_C_API const char* aiolos_version(void);

/* Reads the configuration and loads the plugins.
 * config_path: a YAML file; NULL for /etc/aiolos/aiolos.yaml, or the defaults where that does not exist.
 * error: where to put {"error": ..} if NULL is returned; to be freed with aiolos_free. May be NULL.
 * Returns the agent, to be closed with aiolos_close. */
AIOLOS_C_API aiolos_agent* aiolos_open(const char* config_path, char** error);

/* Runs one request and waits for its end.
 * request: NUL-terminated UTF-8 JSON. Returns the answer, NUL-terminated JSON to be freed with aiolos_free; never NULL:
 * when memory is used up it is an error that says so. */
AIOLOS_C_API char* aiolos_request(aiolos_agent* agent, const char* request);

/* Frees what this library returned. NULL is fine. */
AIOLOS_C_API void aiolos_free(char* text);

/* Unloads the plugins. NULL is fine. What is attached stays attached. */
AIOLOS_C_API void aiolos_close(aiolos_agent* agent);

#ifdef __cplusplus
}
#endif

#endif
