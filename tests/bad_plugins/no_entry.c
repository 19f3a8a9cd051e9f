// SPDX-License-Identifier: Apache-2.0
// A shared object that is no plugin: the entry has another name.

int some_other_symbol(void) { return 0; }
