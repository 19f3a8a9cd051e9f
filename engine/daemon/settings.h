// SPDX-License-Identifier: Apache-2.0
// What aiolos-engine is told to do, by its command line, its configuration file or its admin socket: one reader for
// all.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/json.h"
#include "served_disk.h"

namespace aiolos::engine {

struct Settings {
  std::string admin;              ///< Path of the admin socket; none if empty.
  std::string metrics;            ///< ADDRESS:PORT of the metrics, on loopback; none if empty.
  std::string state;              ///< Where disks that the admin socket added are kept for a restart; nowhere if empty.
  unsigned reactors = 1;          ///< Threads that disks are spread over.
  unsigned capacity = 1024;       ///< Requests in flight of one AIO engine.
  unsigned drain_target_ms = 20;  ///< How long a drain may take; 0: nothing is held back for it.
  std::string socket_group;       ///< Whose processes may connect to the disks; empty: the daemon's own user's alone.
  std::vector<DiskSettings> disks;
};

/// A disk from an object with the members of DiskSettings (path, socket, aio, group, serial, readonly, direct, queues,
/// weight, name). Values may be spelled as strings. An unknown member is an error that names the nearest known one.
Result<DiskSettings> read_disk(const JsonView& object);

/// The same of "path=FILE,socket=SOCK,aio=native,...". A comma in a value is written twice.
Result<DiskSettings> parse_disk(const std::string& text);

/// The inverse of read_disk.
Json to_json(const DiskSettings& disk);

/// Reads a YAML file. @return ErrorKind::configuration with file and line.
Result<Settings> load_settings(const std::string& file);

}  // namespace aiolos::engine
