// SPDX-License-Identifier: Apache-2.0
#include "unix_socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>

namespace aiolos {

UniqueFd connect_unix_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    return {};
  }
  path.copy(address.sun_path, path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket && ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0)
    return socket;
  const int reason = errno;
  socket.reset();
  errno = reason;
  return {};
}

}  // namespace aiolos
