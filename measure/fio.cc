// SPDX-License-Identifier: Apache-2.0
#include "fio.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <sstream>

namespace aiolos::measure {
namespace {

constexpr std::chrono::seconds kLongestStart{60};

std::string rw_of(const LoadCase& load) {
  return fmt::format("{}{}", load.pattern == Pattern::random ? "rand" : "", to_string(load.operation));
}

long milliseconds_of(double seconds) { return std::lround(seconds * 1000); }

/// fio takes a colon in a file's name for the end of it.
std::string escaped(const std::string& file) {
  std::string text;
  for (const char c : file) text += c == ':' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return text;
}

}  // namespace

std::vector<std::string> fio_command(const std::vector<std::string>& files, const LoadCase& load,
                                     const RunOptions& options, const std::string& engine, const std::string& output) {
  std::vector<std::string> argv{"fio",
                                "--output=" + output,
                                "--output-format=json",
                                "--ioengine=" + engine,
                                "--direct=1",
                                "--thread",
                                "--group_reporting",
                                "--lat_percentiles=1",
                                "--clat_percentiles=0",
                                "--percentile_list=50:99",
                                "--allow_file_create=0",
                                "--fallocate=none",
                                "--rw=" + rw_of(load),
                                fmt::format("--bs={}", load.block_size),
                                fmt::format("--iodepth={}", load.depth),
                                fmt::format("--runtime={}ms", milliseconds_of(options.seconds))};
  if (load.operation == Operation::read) argv.emplace_back("--readonly");
  if (!options.once_over) {
    argv.emplace_back("--time_based");
    argv.push_back(fmt::format("--ramp_time={}ms", milliseconds_of(options.seconds / 4)));
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    argv.push_back(fmt::format("--name=disk{}", i));
    argv.push_back("--filename=" + escaped(files[i]));
  }
  return argv;
}

std::chrono::seconds fio_deadline(const RunOptions& options) {
  return kLongestStart + std::chrono::ceil<std::chrono::seconds>(std::chrono::duration<double>(2 * options.seconds));
}

Result<RunFigures> fio_figures(std::string_view json, Operation operation) {
  // Warnings may stand before it.
  const auto begin = json.find('{');
  const Json document =
      begin == std::string_view::npos ? Json() : Json::parse(json.substr(begin), nullptr, /*allow_exceptions=*/false);
  const std::string all_jobs = fmt::format("/jobs/0/{}", to_string(operation));
  const auto number = [&](const std::string& pointer) -> std::optional<double> {
    const Json::json_pointer place(all_jobs + pointer);
    if (!document.contains(place) || !document[place].is_number()) return std::nullopt;
    return document[place].get<double>();
  };
  const auto iops = number("/iops");
  const auto p50_ns = number("/lat_ns/percentile/50.000000");
  const auto p99_ns = number("/lat_ns/percentile/99.000000");
  if (iops && p50_ns && p99_ns) return RunFigures{*iops, *p50_ns / 1000, *p99_ns / 1000};
  return fail(ErrorKind::storage, "fio's answer is not the JSON that is expected, or no request came back",
              "check that the storage answers; run fio by hand to see its answer");
}

Result<RunFigures> run_fio(const std::vector<std::string>& files, const LoadCase& load, const RunOptions& options,
                           const std::string& engine, const TemporaryFolder& folder, const Stop& stop) {
  const std::string output = folder / "fio.json";
  const auto done = run_program(fio_command(files, load, options, engine, output), folder, fio_deadline(options), stop);
  if (!done) return tl::unexpected(done.error());
  std::ostringstream text;
  text << std::ifstream(output).rdbuf();
  return fio_figures(text.str(), load.operation);
}

}  // namespace aiolos::measure
