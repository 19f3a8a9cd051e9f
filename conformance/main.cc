// SPDX-License-Identifier: Apache-2.0
// aiolos-conformance: runs a plugin through the rules of the plugin ABI.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "suite.h"

namespace aiolos::conformance {
namespace {

namespace fs = std::filesystem;

constexpr int kUsage = 2;

struct Options {
  std::string plugin;
  std::string connection;
  std::string config;
  bool connect = false;
  bool fail_fast = false;
  bool json = false;
  double deadline_seconds = 60;
  double settle_seconds = 15;  // a disk's last node lingers for some seconds under load
};

/// A folder that goes with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "aiolos-conformance-XXXXXX").native();
    if (::mkdtemp(name.data()) == nullptr)
      throw fs::filesystem_error("mkdtemp", name, std::error_code(errno, std::generic_category()));
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

Result<Json> read_connection(const std::string& name) {
  std::ifstream file(name);
  if (!file)
    return fail(ErrorKind::bad_input, fmt::format("cannot read {}", name), "name a file with a connection_info");
  return parse_json(std::string(std::istreambuf_iterator<char>(file), {}), name);
}

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

Result<Subject> read_subject(const Options& options, const fs::path& state) {
  auto connection_info = read_connection(options.connection);
  if (!connection_info) return tl::unexpected(connection_info.error());
  auto config = find_config(options.config);
  if (!config) return tl::unexpected(config.error());
  Subject subject;
  subject.plugin = fs::absolute(options.plugin);
  subject.connection_info = *std::move(connection_info);
  subject.config = *std::move(config);
  subject.state = state;
  subject.connect = options.connect;
  subject.fail_fast = options.fail_fast;
  subject.deadline = milliseconds_of(options.deadline_seconds);
  subject.settle = milliseconds_of(options.settle_seconds);
  return subject;
}

void print(const Check& check) {
  std::cout << to_line(check) << '\n';
  for (const std::string& note : check.verdict.notes) std::cout << "     note: " << note << '\n';
  std::cout.flush();
}

int run(const Options& options) {
  const TemporaryFolder state;
  const auto subject = read_subject(options, state.path());
  if (!subject) {
    std::cerr << "aiolos-conformance: " << describe(subject.error()) << "; " << subject.error().next << '\n';
    return kUsage;
  }
  const Report report = run_suite(*subject, [&](const Check& check) {
    if (!options.json) print(check);
  });
  std::cout << (options.json ? report.to_json().dump(2) : report.summary()) << '\n';
  return report.count(Outcome::fail) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace aiolos::conformance

int main(int argc, char** argv) {
  aiolos::conformance::Options options;
  CLI::App app(
      "Checks a plugin against the rules of the plugin ABI.\n\n"
      "Without --connect nothing on this host is changed: loading, describe, target and aio_mode are checked.\n"
      "With it the volume is connected and disconnected many times, by processes that are killed in between, too:\n"
      "use a host that does nothing else, and a volume whose data may be lost.\n\n"
      "Exit status: 0 all checks passed or were skipped; 1 some failed; 2 wrong usage.");
  app.add_option("plugin", options.plugin, "The shared object, such as aiolos-nfs.so")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--connection", options.connection, "File with a connection_info of one of its types")->required();
  app.add_option("--config", options.config, "Configuration file; /etc/aiolos/aiolos.yaml if that exists");
  app.add_flag("--connect", options.connect, "Connect the volume: it exists, and this host may be changed");
  app.add_option("--deadline", options.deadline_seconds, "Seconds that each verb may take")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--settle", options.settle_seconds, "Seconds that the kernel may take to remove devices")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--fail-fast", options.fail_fast, "End with the first check that fails");
  app.add_flag("--json", options.json, "Print one JSON document at the end");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : aiolos::conformance::kUsage;
  }
  try {
    return aiolos::conformance::run(options);
  } catch (const std::exception& exception) {
    std::cerr << "aiolos-conformance: " << exception.what() << '\n';
    return aiolos::conformance::kUsage;
  }
}
