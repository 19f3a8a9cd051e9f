/* SPDX-License-Identifier: Apache-2.0
 *
 * Kills the program that it is preloaded into at one of the moments at which a crash leaves a state of its own: just
 * before it writes to its journal, when a side effect has happened that the journal does not know of, and just after
 * that is on disk, when the journal knows of one that has not happened yet. SQLite in WAL mode with full sync writes a
 * transaction to JOURNAL-wal and calls fdatasync once.
 *
 * KILL_JOURNAL  path of the journal
 * KILL_AT       which moment, from 1; 0 or unset: none
 * KILL_MOMENTS  file that gets a line for each moment: "before" or "after", and the statement that wrote
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int written;           /* a transaction has been written and not synced yet */
static char statement[1024]; /* the last one that changed a database */

int sqlite3_step(void *prepared) {
  int (*const real)(void *) = dlsym(RTLD_NEXT, "sqlite3_step");
  int (*const readonly)(void *) = dlsym(RTLD_NEXT, "sqlite3_stmt_readonly");
  const char *(*const text)(void *) = dlsym(RTLD_NEXT, "sqlite3_sql");
  const char *const sql = text(prepared);
  if (sql != NULL && !readonly(prepared) && strncmp(sql, "BEGIN", 5) != 0) {
    snprintf(statement, sizeof statement, "%s", sql);
    for (char *c = statement; *c != '\0'; ++c)
      if (*c == '\n') *c = ' ';
  }
  return real(prepared);
}

static int is_wal(int fd) {
  const char *journal = getenv("KILL_JOURNAL");
  char link[64], path[4096], wal[4096];
  if (journal == NULL) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = '\0';
  snprintf(wal, sizeof wal, "%s-wal", journal);
  return strcmp(path, wal) == 0;
}

static void moment(const char *when) {
  static long count;
  const char *at = getenv("KILL_AT");
  const char *moments = getenv("KILL_MOMENTS");
  ++count;
  if (moments != NULL) {
    FILE *const file = fopen(moments, "ae");
    if (file == NULL || fprintf(file, "%s %s\n", when, statement) < 0 || fclose(file) != 0) abort();
  }
  if (at != NULL && atol(at) == count) raise(SIGKILL);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
  ssize_t (*const real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
  if (!written && is_wal(fd)) {
    moment("before");
    written = 1;
  }
  return real(fd, data, size, offset);
}

int fdatasync(int fd) {
  int (*const real)(int) = dlsym(RTLD_NEXT, "fdatasync");
  const int done = real(fd);
  if (written && is_wal(fd)) {
    written = 0;
    moment("after");
  }
  return done;
}
