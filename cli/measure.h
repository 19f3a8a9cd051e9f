// SPDX-License-Identifier: Apache-2.0
// `aiolos measure`: its options and how it runs, with its progress on a terminal.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "aiolos/agent/agent.h"

namespace aiolos::cli {

struct MeasureOptions {
  std::string path;
  std::string connection;
  std::string format = "raw";
  std::string volume_type;
  bool write = false;
  std::vector<std::string> modes;
  std::vector<std::string> operations;
  std::vector<std::string> patterns;
  std::vector<std::uint32_t> block_sizes;
  std::vector<unsigned> depths;
  std::vector<unsigned> disks;
  double seconds = 0;
  unsigned repetitions = 0;
  unsigned iothreads = 0;
  bool guest = false;
  std::string guest_image;
  std::uint64_t size = 0;
  bool quick = false;
  bool no_limit = false;
  bool no_event_loop = false;
  bool save = false;
  std::string html;
};

void add_measure_options(CLI::App* command, MeasureOptions& options);

/// Opens the agent of this command's configuration.
using OpenAgent = std::function<Result<std::unique_ptr<Agent>>()>;

struct MeasureAnswer {
  Json json;
  std::string text;
};

/// Measures, writes the HTML page and keeps the measurement, as the options say. SIGINT, SIGTERM and SIGHUP end the
/// process, as ever, once all that was started and made is gone.
/// @param state the state folder.
Result<MeasureAnswer> measure(const MeasureOptions& options, const std::string& state, const OpenAgent& open_agent);

}  // namespace aiolos::cli
