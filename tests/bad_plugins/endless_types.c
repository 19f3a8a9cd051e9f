// SPDX-License-Identifier: Apache-2.0
// A list of volume types whose NULL was forgotten.
#include "bad_plugin.h"

static char names[128][8];
static const char *types[129];

static void fill(void) {
  for (int i = 0; i < 128; ++i) {
    names[i][0] = 't';
    names[i][1] = (char)('0' + i / 100);
    names[i][2] = (char)('0' + i / 10 % 10);
    names[i][3] = (char)('0' + i % 10);
    types[i] = names[i];
  }
}

BAD_PLUGIN("endless_types", fill(); driver->types = types)
