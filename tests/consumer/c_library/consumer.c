/* SPDX-License-Identifier: Apache-2.0
 *
 * Prints the drivers of an installed libaiolos, through its C API.
 */
#include <stdio.h>

#include <aiolos/aiolos.h>

int main(void) {
  char *error = NULL;
  aiolos_agent *agent = aiolos_open(NULL, &error);
  if (agent == NULL) {
    fprintf(stderr, "%s\n", error);
    aiolos_free(error);
    return 1;
  }
  char *answer = aiolos_request(agent, "{\"command\": \"drivers\"}");
  printf("%s\n", answer);
  aiolos_free(answer);
  aiolos_close(agent);
  return 0;
}
