// SPDX-License-Identifier: Apache-2.0
// A program, not a shared object, under a plugin's name.

int main(void) { return 0; }
