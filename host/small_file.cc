// SPDX-License-Identifier: Apache-2.0
#include "small_file.h"

#include <fcntl.h>

#include <array>
#include <cerrno>

#include "aiolos/core/posix.h"

namespace aiolos {
namespace {

/// What a person can do about an errno that a path gave.
std::string advice(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return "check that the volume is connected on this host and that the path is right";
    case EACCES:
    case EPERM:
      return "run as root, or give this user the right to read '" + path + "'";
    case ENXIO:
    case ENODEV:
    case ENOMEDIUM:
      return "the device has gone: connect the volume again";
    case EIO:
    case ESTALE:
    case ENOTCONN:
    case ETIMEDOUT:
    case EHOSTDOWN:
      return "the storage behind it does not answer: look at the kernel's log (dmesg), then connect the volume again";
    case ELOOP:
      return "look at its symbolic links with 'namei -l " + path + "'";
    default:
      return "look at the kernel's log (dmesg) for the storage's own message";
  }
}

}  // namespace

std::optional<std::string> read_small_file(const std::string& path) {
  constexpr std::size_t kLimit = std::size_t{1} << 20;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return std::nullopt;
  std::string text;
  std::array<char, 4096> buffer;
  while (text.size() < kLimit) {
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  text.erase(text.find_last_not_of(" \t\r\n") + 1);
  return text;
}

Error storage_error(const std::string& what, const std::string& path, int error) {
  return Error{ErrorKind::storage, "cannot " + what + " '" + path + "': " + errno_text(error), advice(path, error), {}};
}

}  // namespace aiolos
