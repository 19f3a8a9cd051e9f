// SPDX-License-Identifier: Apache-2.0
// Which portals answer. iscsiadm waits for a portal as long as its record says, one after the other; here all are asked
// at once, so that dead ones cost their time only once.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "connection.h"

namespace aiolos::iscsi {

/// Tries to open a TCP connection to each of the portals, and closes it again.
/// @param timeout for all of them together. @return one text a portal: empty if it answers (or is given by a name,
/// which iscsid resolves), else why it does not: "Connection refused".
std::vector<std::string> probe_portals(const std::vector<Portal>& portals, std::chrono::milliseconds timeout);

}  // namespace aiolos::iscsi
