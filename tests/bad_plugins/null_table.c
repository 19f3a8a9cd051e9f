// SPDX-License-Identifier: Apache-2.0
// An entry that serves no such host.
#include "aiolos/plugin.h"

const aiolos_driver *aiolos_plugin_entry(const aiolos_host *host) {
  (void)host;
  return NULL;
}
