// SPDX-License-Identifier: Apache-2.0
// How long QEMU's event loop is blocked while one of its disks is written: the latency of another disk's requests,
// which need nothing but the loop.
#pragma once

#include <functional>
#include <string>

#include "load_run.h"
#include "outside.h"

namespace aiolos::measure {

struct LoopFigures {
  double p50_us = 0;
  double p99_us = 0;
  double max_us = 0;
};

/// Reads from a disk that answers at once, a request each millisecond. Each is taken to begin when it was due, so that
/// a loop that stands still for ten of them counts ten times and not once.
/// @param socket of the disk. @param over whether to end before the time is over, with what was found so far.
/// @return errors as run_load().
Result<LoopFigures> probe_event_loop(
    const std::string& socket, double seconds, const Stop& stop,
    const std::function<bool()>& over = [] { return false; });

/// The same while, and no longer than, a neighbour in the same loop is written with `load`; what it wrote goes to
/// `written`.
Result<LoopFigures> probe_beside(const std::string& socket, const std::string& neighbour, const LoadCase& load,
                                 const RunOptions& options, const Stop& stop, RunFigures& written);

}  // namespace aiolos::measure
