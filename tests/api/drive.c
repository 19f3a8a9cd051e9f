/* SPDX-License-Identifier: Apache-2.0
 * Drives libaiolos from C: prints the answer to each request named on the command line.
 *   drive CONFIG REQUEST... */
#include <stdio.h>

#include "aiolos/aiolos.h"

int main(int argc, char **argv) {
  char *error = NULL;
  aiolos_agent *agent;
  int i;
  if (argc < 3) return 2;
  agent = aiolos_open(argv[1], &error);
  if (!agent) {
    printf("%s\n", error);
    aiolos_free(error);
    return 1;
  }
  for (i = 2; i < argc; ++i) {
    char *answer = aiolos_request(agent, argv[i]);
    printf("%s\n", answer);
    aiolos_free(answer);
  }
  aiolos_close(agent);
  return 0;
}
