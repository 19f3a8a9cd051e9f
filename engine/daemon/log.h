// SPDX-License-Identifier: Apache-2.0
// The daemon's log: lines on standard error, with the priority prefixes that systemd's journal reads (sd-daemon(3)).
#pragma once

#include <string_view>

namespace aiolos::engine {

enum class LogLevel { error = 3, warning = 4, info = 6 };

/// Writes one line, "SUBJECT: TEXT". Safe for all threads.
void log_line(LogLevel level, std::string_view subject, std::string_view text);

}  // namespace aiolos::engine
