// SPDX-License-Identifier: Apache-2.0
// plugin.h by itself, twice, as strict C11: it needs no other header and warns of nothing.
#include "aiolos/plugin.h"
#include "aiolos/plugin.h"

_Static_assert(offsetof(aiolos_driver, size) == 0, "every table begins with its size");
_Static_assert(offsetof(aiolos_driver, abi) == 4, "and then the version");
_Static_assert(offsetof(aiolos_host, size) == 0, "every table begins with its size");
_Static_assert(offsetof(aiolos_host, abi) == 4, "and then the version");
_Static_assert(sizeof(aiolos_error_kind) == sizeof(int), "no compiler flag may change an enum's size unnoticed");

const aiolos_driver *aiolos_plugin_entry(const aiolos_host *host) { return host == NULL ? NULL : NULL; }
