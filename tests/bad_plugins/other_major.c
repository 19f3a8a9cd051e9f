// SPDX-License-Identifier: Apache-2.0
// Built for another major version of the ABI.
#include "bad_plugin.h"

BAD_PLUGIN("other_major", driver->abi = (2u << 16) | 3u)
