// SPDX-License-Identifier: Apache-2.0
// A measurement as a table for people.
#pragma once

#include <string>

#include "report.h"

namespace aiolos::cli {

std::string render(const measure::Report& report);

}  // namespace aiolos::cli
