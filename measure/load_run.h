// SPDX-License-Identifier: Apache-2.0
// One run of a load on disks that are served, as their guests would do it; one thread for all of them.
#pragma once

#include <string>
#include <vector>

#include "load_case.h"
#include "outside.h"

namespace aiolos::measure {

struct RunOptions {
  double seconds = 1;  ///< Longer if not one request came back by then.
  /// The images are fresh and allocate as they are written: every request counts from the first on, and the run ends
  /// early when as many were made as the disks have room for, since what comes after that would allocate no more.
  bool once_over = false;
};

struct RunFigures {
  double iops = 0;  ///< Of all disks together.
  double p50_us = 0;
  double p99_us = 0;
};

/// What a quarter of the time does before it counts, so that it is steady, is left out (unless `once_over`).
/// @param sockets as many as the load has disks. @return ErrorKind::storage if a request failed or did not come back,
/// ErrorKind::retry if it was stopped.
Result<RunFigures> run_load(const std::vector<std::string>& sockets, const LoadCase& load, const RunOptions& options,
                            const Stop& stop);

}  // namespace aiolos::measure
