// SPDX-License-Identifier: Apache-2.0
#include "log.h"

#include <fmt/format.h>
#include <unistd.h>

namespace aiolos::engine {

void log_line(LogLevel level, std::string_view subject, std::string_view text) {
  const std::string line = fmt::format("<{}>{}: {}\n", static_cast<int>(level), subject, text);
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace aiolos::engine
