// SPDX-License-Identifier: Apache-2.0
#include "render_measurement.h"

#include <fmt/format.h>

#include <array>

namespace aiolos::cli {
namespace {

constexpr std::array kModes{AioMode::threads, AioMode::native, AioMode::io_uring};

std::string version_text(const std::optional<Version>& value) { return value ? version_string(*value) : "not known"; }

/// "12345 +-3 % 1234 us": the median, how far the runs lie from it, the latency at p99.
std::string cell(const measure::CaseResult& result, AioMode mode) {
  for (const measure::ModeResult& each : result.modes)
    if (each.mode == mode)
      return fmt::format("{:8.0f} ±{:<3.0f}{:8.0f}", each.iops.median, measure::relative_width(each.iops) * 50,
                         each.p99_us.median);
  return fmt::format("{:>20}", "-");
}

std::string row(const measure::CaseResult& result) {
  std::string text = fmt::format("  {:<40}", describe(result.load));
  for (const AioMode mode : kModes) text += "  " + cell(result, mode);
  return text + (result.limit ? fmt::format("  {:8.0f}\n", result.limit->median) : "         -\n");
}

std::string table(const measure::SubjectResult& subject, const measure::Report& report) {
  std::string text = fmt::format("\n{}\n  {:<40}", subject.name, "");
  const std::string_view where = report.conditions.guest ? ", in a guest" : "";
  for (const AioMode mode : kModes) text += fmt::format("  {:<20}", fmt::format("{}{}", to_string(mode), where));
  text += fmt::format("  {:>8}\n  {:<40}", "fio", "");
  for (std::size_t i = 0; i < kModes.size(); ++i) text += fmt::format("  {:>8} {:<4}{:>7}", "IOPS", "±%", "p99 µs");
  text += fmt::format("  {:>8}\n", "IOPS");
  for (const measure::CaseResult& each : subject.cases) text += row(each);
  if (const auto profile = measure::profile_of(subject, report)) text += fmt::format("  {}\n", describe(*profile));
  for (const std::string& note : subject.notes) text += fmt::format("  note: {}\n", note);
  return text;
}

std::string event_loop(const std::vector<measure::EventLoopResult>& results) {
  if (results.empty()) return {};
  std::string text = fmt::format(
      "\nQEMU's event loop: another disk's latency in it, which needs no storage, while a raw image is written\n"
      "  {:<16}{:<10}{:>10}{:>10}{:>10}{:>14}\n",
      "written beside", "mode", "p50 µs", "p99 µs", "max µs", "written IOPS");
  for (const measure::EventLoopResult& each : results)
    text += fmt::format("  {:<16}{:<10}{:>9.0f}{:>9.0f}{:>9.0f}{:>14.0f}\n", to_string(each.neighbour),
                        to_string(each.mode), each.p50_us.median, each.p99_us.median, each.max_us.median,
                        each.written_iops.median);
  return text;
}

}  // namespace

std::string render(const measure::Report& report) {
  std::string text = fmt::format(
      "{} on {}: kernel {}, QEMU {}, {} processors, load average {:.2f}\nmedian of {} runs of {} s each, by "
      "{}, cache.direct=on; fio: the same files without QEMU\n",
      report.path, report.date, version_text(report.host.kernel), version_text(report.host.qemu),
      report.host.cpus.value_or(0), report.conditions.load_average, report.conditions.repetitions,
      report.conditions.seconds, describe_engines(report.conditions));
  if (!caveat(report.conditions).empty()) text += fmt::format("note: {}\n", caveat(report.conditions));
  for (const measure::SubjectResult& each : report.subjects) text += table(each, report);
  return text + event_loop(report.event_loop);
}

}  // namespace aiolos::cli
