// SPDX-License-Identifier: Apache-2.0
// `aiolos disk-xml --batch`: many volumes in one process.
#pragma once

#include <iosfwd>

#include "aiolos/agent/agent.h"

namespace aiolos::cli {

/// Reads JSON lines {"connection_info": .., "disk_info": ..} and writes, for each in its order, {"xml": ".."} or
/// {"error": {..}}. Empty lines are skipped; an error of a line's JSON
/// names the line.
/// @return ErrorKind::bad_input if the input can't be read, ErrorKind::storage if the output can't be written.
Result<void> run_batch(Agent& agent, int input_fd, int output_fd);

}  // namespace aiolos::cli
