// SPDX-License-Identifier: Apache-2.0
// A report as one page: everything in it, nothing fetched, readable in print. Pure.
#pragma once

#include <string>

#include "report.h"

namespace aiolos::measure {

/// For each subject a plot of IOPS and one of latency (p99) by depth for each kind of load, with the runs' spread, then
/// the figures as tables, and the conditions under which they hold.
std::string html_report(const Report& report);

}  // namespace aiolos::measure
