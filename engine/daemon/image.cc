// SPDX-License-Identifier: Apache-2.0
#include "image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "small_file.h"

namespace aiolos::engine {
namespace {

constexpr std::uint32_t kPage = 4096;

}  // namespace

Result<Image> Image::open(const std::string& path, const ImageOptions& options) {
  Image image;
  image.path_ = path;
  image.read_only_ = options.read_only;
  image.direct_ = options.direct;
  const int flags = (options.read_only ? O_RDONLY : O_RDWR) | (options.direct ? O_DIRECT : 0) | O_CLOEXEC;
  image.fd_.reset(::open(path.c_str(), flags));
  if (!image.fd_ && errno == EINVAL && options.direct)
    return fail(ErrorKind::storage, fmt::format("'{}' is on a file system without O_DIRECT", path),
                "use direct=off, if the disk may be cached in this host's memory, or another file system");
  if (!image.fd_) return tl::unexpected(storage_error("open", path, errno));
  struct stat status {};
  if (::fstat(image.fd(), &status) != 0) return tl::unexpected(storage_error("look at", path, errno));
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
    return fail(ErrorKind::bad_input, fmt::format("'{}' is neither a file nor a block device", path),
                "name a raw image or a block device");
  if (auto found = image.find_alignment(); !found) return tl::unexpected(found.error());
  if (auto size = image.measure(); !size) return tl::unexpected(size.error());
  return image;
}

Result<std::uint64_t> Image::measure() {
  const off_t end = ::lseek(fd(), 0, SEEK_END);
  if (end < 0) return tl::unexpected(storage_error("find the size of", path_, errno));
  size_ = static_cast<std::uint64_t>(end) / block_size_ * block_size_;
  return size_;
}

/// With O_DIRECT the kernel wants offsets, lengths and memory aligned, and tells to what since Linux 6.1 alone; before,
/// one has to try.
Result<void> Image::find_alignment() {
  int logical = 512;
  if (::ioctl(fd(), BLKSSZGET, &logical) == 0) block_size_ = static_cast<std::uint32_t>(logical);
  if (!direct_) return {};
  memory_alignment_ = std::max<std::uint32_t>(block_size_, 512);
#ifdef STATX_DIOALIGN
  struct statx status {};
  if (::statx(fd(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && status.stx_dio_offset_align > 0) {
    block_size_ = std::max(block_size_, status.stx_dio_offset_align);
    memory_alignment_ = status.stx_dio_mem_align;
    return {};
  }
#endif
  const std::unique_ptr<void, decltype(&std::free)> page(std::aligned_alloc(kPage, kPage), &std::free);
  while (block_size_ < kPage && ::pread(fd(), page.get(), block_size_, 0) < 0 && errno == EINVAL) block_size_ *= 2;
  memory_alignment_ = std::max(memory_alignment_, block_size_);
  return {};
}

bool Image::accepts(std::span<const iovec> buffers) const {
  if (!direct_) return true;
  return std::all_of(buffers.begin(), buffers.end(), [this](const iovec& buffer) {
    return reinterpret_cast<std::uintptr_t>(buffer.iov_base) % memory_alignment_ == 0 &&
           buffer.iov_len % block_size_ == 0;
  });
}

}  // namespace aiolos::engine
