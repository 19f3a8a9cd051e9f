// SPDX-License-Identifier: Apache-2.0
#include "html_report.h"

#include <fmt/format.h>

#include <functional>

#include "plot.h"

namespace aiolos::measure {
namespace {

// A page that prints: plots are not torn apart, colours are kept, and the text is dark on white.
constexpr std::string_view kStyle = R"css(
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 68rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 13px; margin: .8rem 0; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ccc; text-align: right; }
th:first-child, td:first-child { text-align: left; }
td.best { font-weight: 700; } small { white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem; }
figure { margin: 0; break-inside: avoid; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg .title { font-size: 12.5px; font-weight: 600; }
svg .grid { stroke: #ddd; } svg .whisker { stroke-width: 1.5; opacity: .7; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: 13px; } dd { margin: 0; }
.verdict { border-left: 4px solid #0072b2; padding-left: .8rem; }
@media print { body { max-width: none; margin: 0; font-size: 11px; } tr { break-inside: avoid; }
  .plots { grid-template-columns: 1fr 1fr; } * { print-color-adjust: exact; } }
)css";

struct Look {
  std::string_view colour;
  unsigned marker;
};

/// Colours that also those who see few can tell apart (Okabe and Ito 2008).
Look look_of(AioMode mode) {
  switch (mode) {
    case AioMode::threads:
      return {"#e69f00", 0};
    case AioMode::native:
      return {"#0072b2", 1};
    case AioMode::io_uring:
      break;
  }
  return {"#009e73", 2};
}

using Take = std::function<const Spread&(const ModeResult&)>;

const ModeResult* result_of(const CaseResult& result, AioMode mode) {
  for (const ModeResult& each : result.modes)
    if (each.mode == mode) return &each;
  return nullptr;
}

/// The cases that differ in depth alone.
using Group = std::vector<const CaseResult*>;

std::vector<Group> grouped(const SubjectResult& subject) {
  std::vector<Group> groups;
  for (const CaseResult& each : subject.cases) {
    const std::string name = describe_without_depth(each.load);
    if (groups.empty() || describe_without_depth(groups.back().front()->load) != name) groups.emplace_back();
    groups.back().push_back(&each);
  }
  return groups;
}

PlotSeries series_of(const Group& group, AioMode mode, const Take& take) {
  PlotSeries series{std::string(to_string(mode)), std::string(look_of(mode).colour), look_of(mode).marker, {}};
  for (const CaseResult* each : group)
    if (const ModeResult* result = result_of(*each, mode))
      series.points.push_back({static_cast<double>(each->load.depth), take(*result)});
  return series;
}

bool in_guest(const CaseResult& result) { return !result.modes.empty() && result.modes.front().in_guest; }

Plot plot_of(const Group& group, const std::string& what, const Take& take) {
  const CaseResult& first = *group.front();
  Plot plot{describe_without_depth(first.load) + (in_guest(first) ? ", in a guest" : ""),
            "requests in flight on each disk",
            what,
            {}};
  for (const AioMode mode : {AioMode::threads, AioMode::native, AioMode::io_uring})
    if (PlotSeries series = series_of(group, mode, take); !series.points.empty())
      plot.series.push_back(std::move(series));
  return plot;
}

void add_limit(const Group& group, Plot& plot) {
  PlotSeries series{"fio, without QEMU", "#767676", 3, {}};
  for (const CaseResult* each : group)
    if (each->limit) series.points.push_back({static_cast<double>(each->load.depth), *each->limit});
  if (!series.points.empty()) plot.series.push_back(std::move(series));
}

std::string figure(const Plot& plot) {
  return plot.series.empty() ? std::string() : "<figure>\n" + svg(plot) + "</figure>\n";
}

std::string plots(const SubjectResult& subject) {
  std::string out = "<div class=\"plots\">\n";
  for (const Group& group : grouped(subject)) {
    Plot iops =
        plot_of(group, "requests a second", [](const ModeResult& result) -> const Spread& { return result.iops; });
    add_limit(group, iops);
    out += figure(iops);
    out += figure(
        plot_of(group, "latency, p99, µs", [](const ModeResult& result) -> const Spread& { return result.p99_us; }));
  }
  return out + "</div>\n";
}

std::string with_spread(const Spread& spread) {
  return fmt::format("{:.0f} <small>({:.0f}–{:.0f})</small>", spread.median, spread.low, spread.high);
}

std::string case_row(const CaseResult& result) {
  double best = 0;
  for (const ModeResult& each : result.modes) best = std::max(best, each.iops.median);
  std::string row = fmt::format("<tr><td>{}</td>", escape_xml(describe(result.load)));
  for (const AioMode mode : {AioMode::threads, AioMode::native, AioMode::io_uring}) {
    const ModeResult* each = result_of(result, mode);
    row += each ? fmt::format("<td{}>{}</td><td>{:.0f}</td>", each->iops.median >= best ? " class=\"best\"" : "",
                              with_spread(each->iops), each->p99_us.median)
                : std::string("<td>–</td><td>–</td>");
  }
  return row + fmt::format("<td>{}</td></tr>\n", result.limit ? with_spread(*result.limit) : "–");
}

std::string table(const SubjectResult& subject, bool through_guest) {
  const std::string_view where = through_guest ? ", in a guest" : "";
  std::string out = fmt::format(
      "<table><thead><tr><th rowspan=\"2\">load</th><th colspan=\"2\">threads{0}</th>"
      "<th colspan=\"2\">native{0}</th><th colspan=\"2\">io_uring{0}</th><th>fio</th></tr><tr><th>IOPS</th><th>p99 "
      "µs</th><th>IOPS</th><th>p99 µs</th>"
      "<th>IOPS</th><th>p99 µs</th><th>IOPS</th></tr></thead><tbody>\n",
      where);
  for (const CaseResult& each : subject.cases) out += case_row(each);
  return out + "</tbody></table>\n";
}

std::string section(const SubjectResult& subject, const Report& report) {
  std::string out = fmt::format("<section><h2>{}</h2>\n<p>Class of storage: {}</p>\n", escape_xml(subject.name),
                                escape_xml(to_string(subject.storage)));
  if (const auto profile = profile_of(subject, report))
    out += fmt::format("<p class=\"verdict\">{}</p>\n", escape_xml(describe(*profile)));
  out += plots(subject) + table(subject, report.conditions.guest.has_value()) + "<ul>\n";
  for (const std::string& note : subject.notes) out += fmt::format("<li>{}</li>\n", escape_xml(note));
  for (const std::string& probe : subject.probes) out += fmt::format("<li>{}</li>\n", escape_xml(probe));
  return out + "</ul></section>\n";
}

std::string event_loop(const std::vector<EventLoopResult>& results) {
  if (results.empty()) return {};
  std::string out =
      "<section><h2>QEMU's event loop meanwhile</h2>\n<p>The latency of another disk in the same event loop that "
      "answers "
      "at once, a request each millisecond, while a raw image is written (random 4 KiB, depth 32).</p>\n"
      "<table><thead><tr><th>written beside it</th><th>mode</th><th>p50 µs</th><th>p99 µs</th><th>max µs</th>"
      "<th>written IOPS</th></tr></thead><tbody>\n";
  for (const EventLoopResult& each : results)
    out +=
        fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                    to_string(each.neighbour), to_string(each.mode), with_spread(each.p50_us), with_spread(each.p99_us),
                    with_spread(each.max_us), each.neighbour == Neighbour::none ? "–" : with_spread(each.written_iops));
  return out + "</tbody></table></section>\n";
}

std::string fact(std::string_view name, std::string_view value) {
  return fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape_xml(name), escape_xml(value));
}

std::string version_text(const std::optional<Version>& value) { return value ? version_string(*value) : "not known"; }

std::string conditions(const Report& report) {
  const Conditions& is = report.conditions;
  std::string out = "<section><h2>Conditions</h2>\n<dl>\n";
  out += fact("measured", report.date) + fact("on", report.path);
  out += fact("kernel", version_text(report.host.kernel)) + fact("QEMU", version_text(report.host.qemu));
  out += fact("processors", report.host.cpus ? fmt::format("{}", *report.host.cpus) : "not known");
  out += fact("load average before", fmt::format("{:.2f}", is.load_average));
  out += fact("each run", fmt::format("{} s, and a quarter of that before it counts", is.seconds));
  out += fact("each figure", fmt::format("the median of {} runs, with the least and the most", is.repetitions));
  if (is.image_size > 0) out += fact("each image", fmt::format("{} MiB", is.image_size >> 20));
  if (!is.limit_engine.empty()) out += fact("fio", "ioengine=" + is.limit_engine);
  out += fact("how", describe_engines(is) + ", cache.direct=on, " + (is.guest ? "virtio-blk" : "vhost-user-blk") +
                         " with one queue for each disk");
  if (!caveat(is).empty()) out += fact("note", caveat(is));
  return out + "</dl></section>\n";
}

}  // namespace

std::string html_report(const Report& report) {
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>AIO modes on {0}</title>\n<style>{1}</style></head><body>\n<h1>AIO modes on {0}</h1>\n",
      escape_xml(report.path), kStyle);
  for (const SubjectResult& each : report.subjects) out += section(each, report);
  return out + event_loop(report.event_loop) + conditions(report) + "</body></html>\n";
}

}  // namespace aiolos::measure
