// SPDX-License-Identifier: Apache-2.0
#include "limit.h"

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

Result<double> fio_iops(std::string_view json, Operation operation) {
  // Warnings may stand before it.
  const auto begin = json.find('{');
  const Json document =
      begin == std::string_view::npos ? Json() : Json::parse(json.substr(begin), nullptr, /*allow_exceptions=*/false);
  const auto wrong = [] {
    return fail(ErrorKind::storage, "fio's answer is not the JSON that is expected",
                "run fio by hand to see its answer");
  };
  const JsonView view(document);
  const auto jobs = document.is_object() ? view.find("jobs") : Result<std::optional<JsonView>>(std::nullopt);
  if (!jobs || !*jobs || !(*jobs)->json().is_array() || (*jobs)->json().empty()) return wrong();
  double all = 0;
  for (const Json& job : (*jobs)->json()) {
    const Json::json_pointer iops(fmt::format("/{}/iops", to_string(operation)));
    if (!job.is_object() || !job.contains(iops) || !job[iops].is_number()) return wrong();
    all += job[iops].get<double>();
  }
  return all;
}

Result<double> run_limit(const std::vector<std::string>& files, const LoadCase& load, const RunOptions& options,
                         const std::string& engine, const TemporaryFolder& folder, const Stop& stop) {
  const std::string output = folder / "fio.json";
  const auto most = kLongestStart + std::chrono::milliseconds(2 * milliseconds_of(options.seconds));
  const auto done = run_program(fio_command(files, load, options, engine, output), folder,
                                std::chrono::duration_cast<std::chrono::milliseconds>(most), stop);
  if (!done) return tl::unexpected(done.error());
  std::ostringstream text;
  text << std::ifstream(output).rdbuf();
  return fio_iops(text.str(), load.operation);
}

}  // namespace aiolos::measure
