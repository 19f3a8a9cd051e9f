// SPDX-License-Identifier: Apache-2.0
#include "test_images.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>

#include "aiolos/core/posix.h"

namespace aiolos::measure {
namespace {

constexpr std::chrono::minutes kLongest{30};  // a full image on slow storage

}  // namespace

const std::array<ImageKind, 4>& image_kinds() {
  static const std::array<ImageKind, 4> kinds{{{"raw", true}, {"raw", false}, {"qcow2", true}, {"qcow2", false}}};
  return kinds;
}

std::string describe(const ImageKind& kind) {
  return fmt::format("{}, {}", kind.format, kind.preallocated ? "preallocated" : "sparse");
}

Result<void> make_image(const ImageKind& kind, const std::string& path, std::uint64_t size,
                        const TemporaryFolder& folder, const Stop& stop) {
  ::unlink(path.c_str());  // qemu-img would empty it, and the file system keep some of its blocks
  const std::string preallocation = kind.preallocated ? "preallocation=full" : "preallocation=off";
  const auto made =
      run_program({"qemu-img", "create", "-q", "-f", kind.format, "-o", preallocation, path, fmt::format("{}", size)},
                  folder, kLongest, stop);
  if (!made) return tl::unexpected(made.error());
  return {};
}

Result<void> require_room(const std::string& folder, std::uint64_t bytes) {
  struct statvfs room {};
  if (::statvfs(folder.c_str(), &room) != 0)
    return fail(ErrorKind::storage, fmt::format("cannot look at '{}': {}", folder, errno_text(errno)),
                "name a folder that exists");
  const std::uint64_t free = std::uint64_t{room.f_bavail} * room.f_frsize;
  if (free >= bytes) return {};
  return fail(ErrorKind::storage, fmt::format("'{}' has {} bytes free and the images need {}", folder, free, bytes),
              "make room, name another folder, or use --size and --disks for less");
}

}  // namespace aiolos::measure
