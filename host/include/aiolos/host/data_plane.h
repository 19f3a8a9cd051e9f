// SPDX-License-Identifier: Apache-2.0
// The host's aiolos-engine, asked over its admin socket. The requests are in docs/engine.md.
#pragma once

#include <memory>
#include <string>

#include "aiolos/core/interfaces.h"

namespace aiolos {

/// Connects with each call. Safe from several threads.
/// @param admin path of the daemon's admin socket.
std::unique_ptr<DataPlane> make_data_plane(std::string admin);

}  // namespace aiolos
