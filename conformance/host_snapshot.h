// SPDX-License-Identifier: Apache-2.0
// What connecting storage leaves on a host, so that it can be told whether the host is as it was.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace aiolos::conformance {

/// Sorted entries by subject: "mounts", "block devices", ...
using HostSnapshot = std::map<std::string, std::vector<std::string>>;

/// What /proc and /sys show now. Touches no mounted file system and no device.
HostSnapshot take_snapshot();

/// What differs, a line each: "+ mounts: ..." is there now, "- mounts: ..." no more.
std::vector<std::string> differences(const HostSnapshot& before, const HostSnapshot& after);

/// Waits until the host is as it was, for the kernel removes devices in its own time.
/// @return what still differs after `timeout`; empty if nothing does.
std::vector<std::string> wait_until_as(const HostSnapshot& before, std::chrono::milliseconds timeout);

/// Open file descriptors of this process, with what they lead to.
std::vector<std::string> open_descriptors();

}  // namespace aiolos::conformance
