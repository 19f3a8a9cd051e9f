// SPDX-License-Identifier: Apache-2.0
// The flows' results as JSON, and requests as JSON: what the C API speaks and `--json` prints.
#pragma once

#include <vector>

#include "aiolos/agent/agent.h"

namespace aiolos {

/// Runs one request as aiolos.h describes them. Never fails: an error is an answer.
Json run_request(Agent& agent, const Json& request);

}  // namespace aiolos
