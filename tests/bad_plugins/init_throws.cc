// SPDX-License-Identifier: Apache-2.0
// C++ without the SDK: something that is no std::exception out of init.
#include "bad_plugin.h"

namespace {
int throwing_init(const aiolos_host*, aiolos_call*, void**) { throw 42; }
}  // namespace

BAD_PLUGIN("init_throws", driver->init = throwing_init)
