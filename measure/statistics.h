// SPDX-License-Identifier: Apache-2.0
// What repeated measurements say together. Pure.
#pragma once

#include <span>
#include <vector>

#include "aiolos/core/json.h"

namespace aiolos::measure {

/// Several runs of the same thing.
struct Spread {
  double median = 0;
  double low = 0;   ///< The least.
  double high = 0;  ///< The most.

  bool operator==(const Spread&) const = default;
};

/// @param values at least one. The median of an even number is the mean of the two in the middle.
Spread spread_of(std::vector<double> values);

/// How far the runs lie apart, as a share of their median; 0 where that is 0.
double relative_width(const Spread& spread);

/// The value that `share` (0 to 1) of all are not above. @param sorted ascending, not empty.
double percentile(std::span<const double> sorted, double share);

/// @param values above 0, at least one.
double geometric_mean(std::span<const double> values);

/// {"median", "low", "high"}
Json to_json(const Spread& spread);

}  // namespace aiolos::measure
