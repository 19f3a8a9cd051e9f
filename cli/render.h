// SPDX-License-Identifier: Apache-2.0
// Results as text for people.
#pragma once

#include <string>
#include <vector>

#include "aiolos/agent/agent.h"

namespace aiolos::cli {

std::string render(const Explanation& explanation);
std::string render(const std::vector<DriverListing>& drivers);
std::string render(const std::vector<AttachmentListing>& attachments);
std::string render(const std::vector<ReconcileEntry>& entries);
std::string render(const HostFacts& host);
/// "aiolos: where: message" and what to do next, on a line of its own.
std::string render(const AioBudget& budget);
std::string render(const PlanReport& report);
std::string render(const Error& error);

}  // namespace aiolos::cli
