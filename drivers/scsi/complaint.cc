// SPDX-License-Identifier: Apache-2.0
#include "scsi/complaint.h"

#include <sstream>

namespace aiolos::scsi {

std::string complaint(const CommandResult& result) {
  std::string last;
  std::istringstream lines(result.errors.empty() ? result.output : result.errors);
  for (std::string line; std::getline(lines, line);)
    if (!line.empty()) last = line;
  return last.empty() ? "exit status " + std::to_string(result.status) : last;
}

}  // namespace aiolos::scsi
