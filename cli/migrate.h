// SPDX-License-Identifier: Apache-2.0
// `aiolos migrate` and what answers it on the destination, `aiolos migrate-receive`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "aiolos/agent/agent.h"

namespace aiolos::cli {

/// What the command line says; what it does not say is the configuration's.
struct MigrateOptions {
  std::string domain;
  std::string to;
  std::string peer;
  std::string connections;
  std::string migrate_uri;
  std::optional<double> max_drain_ms;
  std::optional<double> deadline_ms;
  std::optional<double> downtime_limit_ms;
  std::optional<double> post_copy_after_ms;
  std::optional<std::uint64_t> bandwidth;
  std::optional<unsigned> parallel;
  std::vector<std::string> compress;
  bool auto_converge = false;
  bool post_copy = false;
  bool tls = false;
  bool unsafe = false;
  bool dry_run = false;
};

void add_migrate_options(CLI::App* command, MigrateOptions& options);

/// Migrates, with its progress on a terminal. SIGINT, SIGTERM and SIGHUP end the migration where it can be ended, and
/// then the process.
Result<MigrationReport> migrate(const MigrateOptions& options, const Config& config, Agent& agent);

/// Answers the source, a JSON line for a JSON line, until its input ends. What is not settled by then is: where the
/// guest does not come, all is disconnected.
Result<void> migrate_receive(Agent& agent, int input_fd, int output_fd);

std::string render(const MigrationReport& report);

}  // namespace aiolos::cli
