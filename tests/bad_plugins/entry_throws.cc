// SPDX-License-Identifier: Apache-2.0
// C++ without the SDK: an exception out of the entry.
#include <stdexcept>

#include "aiolos/plugin.h"

extern "C" const aiolos_driver* aiolos_plugin_entry(const aiolos_host*) { throw std::runtime_error("no licence"); }
