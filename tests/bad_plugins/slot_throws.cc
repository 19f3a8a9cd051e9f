// SPDX-License-Identifier: Apache-2.0
// C++ without the SDK: an exception out of a slot.
#include <stdexcept>

#include "bad_plugin.h"

namespace {
int throwing_describe(void*, aiolos_call*, const aiolos_value*) { throw std::out_of_range("map::at"); }
void throwing_fini(void*) { throw std::runtime_error("too late"); }
}  // namespace

BAD_PLUGIN("slot_throws", driver->describe = throwing_describe; driver->fini = throwing_fini)
