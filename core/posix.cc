// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/posix.h"

#include <cerrno>
#include <system_error>

namespace aiolos {

std::string errno_text(int error) { return std::generic_category().message(error); }

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno != EINTR) return false;
    if (wrote > 0) text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return true;
}

}  // namespace aiolos
