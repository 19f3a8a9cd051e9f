// SPDX-License-Identifier: Apache-2.0
#include "plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace aiolos::measure {
namespace {

// Pixels of the drawing, before it is scaled.
constexpr double kWidth = 440;
constexpr double kHeight = 280;
constexpr double kLeft = 62;
constexpr double kRight = 14;
constexpr double kTop = 52;
constexpr double kBottom = 44;

/// From values to pixels.
class Scale {
 public:
  explicit Scale(const Plot& plot) {
    double most = 0;
    for (const PlotSeries& series : plot.series)
      for (const PlotPoint& point : series.points) {
        values_.insert(point.x);
        most = std::max(most, point.y.high);
      }
    ticks_ = ticks_up_to(most);
  }
  double x(double value) const {
    const double first = std::log(*values_.begin());
    const double last = std::log(*values_.rbegin());
    const double share = last > first ? (std::log(value) - first) / (last - first) : 0.5;
    return kLeft + kMargin + share * (kWidth - kLeft - kRight - 2 * kMargin);
  }
  double y(double value) const { return kHeight - kBottom - value / ticks_.back() * (kHeight - kTop - kBottom); }
  const std::set<double>& x_values() const { return values_; }
  const std::vector<double>& y_ticks() const { return ticks_; }

 private:
  static constexpr double kMargin = 18;
  std::set<double> values_;
  std::vector<double> ticks_;
};

std::string text(double x, double y, std::string_view anchor, std::string_view content, std::string_view extra = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, extra,
                     escape_xml(content));
}

std::string axes(const Plot& plot, const Scale& scale) {
  std::string out;
  for (const double tick : scale.y_ticks()) {
    const double y = scale.y(tick);
    out += fmt::format("<line class=\"grid\" x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\"/>\n", kLeft, y,
                       kWidth - kRight, y);
    out += text(kLeft - 6, y + 4, "end", short_number(tick));
  }
  for (const double value : scale.x_values())
    out += text(scale.x(value), kHeight - kBottom + 16, "middle", fmt::format("{:g}", value));
  out += text((kLeft + kWidth - kRight) / 2, kHeight - 8, "middle", plot.x_label);
  const double middle = (kTop + kHeight - kBottom) / 2;
  out += text(14, middle, "middle", plot.y_label, fmt::format(" transform=\"rotate(-90 14 {:.1f})\"", middle));
  return out;
}

std::string marker(unsigned kind, double x, double y, std::string_view colour) {
  constexpr double r = 4.5;
  const std::string fill = fmt::format("class=\"marker\" fill=\"{}\"", colour);
  switch (kind) {
    case 0:
      return fmt::format("<circle {} cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"/>", fill, x, y, r);
    case 1:
      return fmt::format("<rect {} x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{}\"/>", fill, x - r, y - r, 2 * r,
                         2 * r);
    case 2:
      return fmt::format("<path {} d=\"M{:.1f} {:.1f}l{} {}h{}z\"/>", fill, x, y - r - 1, r + 1, 2 * r + 1,
                         -2 * (r + 1));
    default:
      return fmt::format("<path {} d=\"M{:.1f} {:.1f}l{} {}l{} {}l{} {}z\"/>", fill, x, y - r - 1, r + 1, r + 1, -r - 1,
                         r + 1, -r - 1, -r - 1);
  }
}

std::string draw(const PlotSeries& series, const Scale& scale) {
  std::string out = fmt::format("<g data-series=\"{}\">\n", escape_xml(series.name));
  std::string line;
  for (const PlotPoint& point : series.points) {
    const double x = scale.x(point.x);
    line += fmt::format("{}{:.1f},{:.1f}", line.empty() ? "" : " ", x, scale.y(point.y.median));
    out += fmt::format(
        "<line class=\"whisker\" x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\"/>\n", x,
        scale.y(point.y.low), scale.y(point.y.high), series.colour);
  }
  out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n", line,
                     series.colour, series.marker == 3 ? " stroke-dasharray=\"5 4\"" : "");
  for (const PlotPoint& point : series.points)
    out += marker(series.marker, scale.x(point.x), scale.y(point.y.median), series.colour) + "\n";
  return out + "</g>\n";
}

std::string legend(const Plot& plot) {
  std::string out;
  double x = kLeft;
  for (const PlotSeries& series : plot.series) {
    out += marker(series.marker, x + 5, 36, series.colour) + "\n" + text(x + 14, 40, "start", series.name);
    x += 32 + 6.6 * static_cast<double>(series.name.size());
  }
  return out;
}

}  // namespace

std::vector<double> ticks_up_to(double most) {
  if (!(most > 0)) most = 1;
  constexpr int kMost = 6;
  double step = std::pow(10, std::floor(std::log10(most / kMost)));
  for (const double factor : {2.0, 2.5, 2.0})  // 1, 2, 5, 10
    if (step * kMost < most) step *= factor;
  std::vector<double> ticks;
  for (int i = 0; ticks.empty() || ticks.back() < most * (1 - 1e-9); ++i) ticks.push_back(step * i);
  return ticks;
}

std::string escape_xml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string short_number(double value) {
  if (value >= 1e6) return fmt::format("{:.3g}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.3g}k", value / 1e3);
  return value >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

std::string svg(const Plot& plot) {
  const Scale scale(plot);
  std::string out =
      fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                  kWidth, kHeight, escape_xml(plot.title));
  out += text(kLeft, 16, "start", plot.title, " class=\"title\"") + legend(plot) + axes(plot, scale);
  for (const PlotSeries& series : plot.series) out += draw(series, scale);
  return out + "</svg>\n";
}

}  // namespace aiolos::measure
