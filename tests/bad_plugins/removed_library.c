// SPDX-License-Identifier: Apache-2.0
// What missing_library.c is linked to, and cannot find.

const char *aiolos_tests_removed_library(void);
const char *aiolos_tests_removed_library(void) { return "gone"; }
