// SPDX-License-Identifier: Apache-2.0
// Where each member of the ABI's tables lies: measured once with the frozen header and once with today's.
#ifndef AIOLOS_TESTS_LAYOUT_H
#define AIOLOS_TESTS_LAYOUT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct abi_member {
  const char *name; /* "aiolos_driver.describe", "sizeof aiolos_driver", "AIOLOS_CAN_EXTEND"; NULL ends the list */
  size_t offset;    /* or the value of a constant, or the size of a type */
  size_t size;      /* 0 for a constant or a type */
};

extern const struct abi_member abi_1_0[];
extern const struct abi_member abi_now[];

#ifdef __cplusplus
}
#endif

#endif
