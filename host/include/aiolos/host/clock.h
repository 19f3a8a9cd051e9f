// SPDX-License-Identifier: Apache-2.0
// This machine's clocks.
#pragma once

#include <memory>

#include "aiolos/core/interfaces.h"

namespace aiolos {

/// The real clock. Safe from several threads.
std::unique_ptr<Clock> make_clock();

}  // namespace aiolos
