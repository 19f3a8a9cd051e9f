// SPDX-License-Identifier: Apache-2.0
// No AIO mode of QEMU.
#include "bad_plugin.h"

BAD_PLUGIN("nova_io_unknown", driver->nova_driver_io = "aio")
