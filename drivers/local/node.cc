// SPDX-License-Identifier: Apache-2.0
#include "node.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "aiolos/core/posix.h"

namespace aiolos::local {
namespace {

std::string name_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "a regular file";
    case S_IFBLK:
      return "a block device";
    case S_IFCHR:
      return "a character device";
    case S_IFDIR:
      return "a directory";
    case S_IFIFO:
      return "a FIFO";
    case S_IFSOCK:
      return "a socket";
    default:
      return "of an unknown kind";
  }
}

tl::unexpected<Error> wrong_kind(const std::string& path, mode_t mode, NodeKind wanted, const std::string& where) {
  const bool wants_device = wanted == NodeKind::block_device;
  std::string next = wants_device ? "name a block device, such as a logical volume or partition" : "name an image file";
  if (wants_device && S_ISREG(mode)) next = R"(use driver_volume_type "file" with data.path for an image file)";
  if (!wants_device && S_ISBLK(mode)) next = R"(use driver_volume_type "local" with data.device_path for a device)";
  return fail(ErrorKind::bad_input,
              path + " is " + name_of(mode) + ", not " + (wants_device ? "a block device" : "a regular file"),
              std::move(next), where);
}

/// A block device that was set read-only opens all the same: only the device itself knows.
bool is_read_only_device(int descriptor) {
  int read_only = 0;
  return ::ioctl(descriptor, BLKROGET, &read_only) == 0 && read_only != 0;
}

}  // namespace

Result<void> look_at(const std::string& path, NodeKind kind, const std::string& where) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    const int error = errno;
    return fail(ErrorKind::storage, path + ": " + errno_text(error),
                error == ENOENT || error == ENOTDIR ? "check the path; the volume has to exist before it is connected"
                                                    : "check the path and the storage below it",
                where);
  }
  const bool fits = kind == NodeKind::block_device ? S_ISBLK(status.st_mode) : S_ISREG(status.st_mode);
  if (!fits) return wrong_kind(path, status.st_mode, kind, where);
  return {};
}

Result<void> check_access(const std::string& path, NodeKind kind, bool writable, const std::string& where) {
  // Opened for reading only: closing a device that was open for writing makes udev look at it anew.
  const UniqueFd descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!descriptor)
    return fail(ErrorKind::storage, path + " cannot be read: " + errno_text(errno), "give this process access to it",
                where);
  if (!writable) return {};
  const std::string next = R"(make it writable, or attach it with data.access_mode "ro")";
  if (::access(path.c_str(), W_OK) != 0)
    return fail(ErrorKind::storage, path + " cannot be written: " + errno_text(errno), next, where);
  if (kind == NodeKind::block_device && is_read_only_device(descriptor.get()))
    return fail(ErrorKind::storage, path + " is a read-only block device", next, where);
  return {};
}

}  // namespace aiolos::local
