// SPDX-License-Identifier: Apache-2.0
// The agent inside a guest, as the flows see it.
#pragma once

#include <chrono>
#include <string>

#include "aiolos/core/json.h"
#include "aiolos/core/result.h"

namespace aiolos {

/// qemu-guest-agent. It may be absent, hang or refuse; and what it says is the guest's word, which nothing on the host
/// may depend on.
class GuestAgent {
 public:
  virtual ~GuestAgent() = default;
  /// Has it do one thing. Works while the guest migrates; safe from several threads.
  /// @param domain UUID. @param command "guest-file-open", ... @param timeout from 1 s; libvirt may add as much to find
  /// out whether anybody listens. @return what it returned. ErrorKind::retry if there is no agent or it does not answer
  /// in time; ErrorKind::refused with its words if it refused.
  virtual Result<Json> ask(const std::string& domain, const std::string& command, const Json& arguments,
                           std::chrono::seconds timeout) = 0;
};

}  // namespace aiolos
