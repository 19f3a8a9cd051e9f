// SPDX-License-Identifier: Apache-2.0
// A line plot as SVG, for a page and for print. Pure.
#pragma once

#include <string>
#include <vector>

#include "statistics.h"

namespace aiolos::measure {

struct PlotPoint {
  double x = 0;  ///< Above 0: the axis is logarithmic.
  Spread y;      ///< Drawn as a point at the median and a whisker from low to high.
};

struct PlotSeries {
  std::string name;
  std::string colour;  ///< As CSS has it.
  /// Told apart without colour, too: 0 disc, 1 square, 2 triangle, 3 diamond on a broken line.
  unsigned marker = 0;
  std::vector<PlotPoint> points;  ///< By x.
};

struct Plot {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<PlotSeries> series;  ///< Of at least one point in all.
};

/// The `<svg>` element. The y axis begins at 0.
std::string svg(const Plot& plot);

/// Ticks at 1, 2 or 5 times a power of 10 from 0 to the first that is not below `most`; at most seven.
std::vector<double> ticks_up_to(double most);

/// `text` for use in HTML and XML, attributes included.
std::string escape_xml(std::string_view text);

/// "12.3k", "1.5M"; three digits.
std::string short_number(double value);

}  // namespace aiolos::measure
