// SPDX-License-Identifier: Apache-2.0
// One file or block device as the kernel describes it: the I/O. What it means is file_verdict.cc's.
#include "file_probe.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "aiolos/core/posix.h"
#include "small_file.h"

namespace aiolos {
namespace {

constexpr std::size_t kExtentsAtOnce = 512;

/// The kernel's fiemap request with room for its answer: the struct ends in a flexible array, which C++ can't hold by
/// value.
class FiemapRequest {
 public:
  FiemapRequest() : words_((sizeof(fiemap) + kExtentsAtOnce * sizeof(fiemap_extent)) / sizeof(std::uint64_t) + 1) {}
  fiemap& header() { return *reinterpret_cast<fiemap*>(words_.data()); }
  const fiemap_extent& extent(std::uint32_t index) { return header().fm_extents[index]; }

 private:
  std::vector<std::uint64_t> words_;
};

/// All extents of a file. @param flags FIEMAP_FLAG_SYNC or 0. @return errno, or 0 with `map` filled.
int read_extents(int fd, std::uint64_t size, std::uint32_t flags, const std::atomic<bool>& abandoned, ExtentMap& map) {
  map = ExtentMap{};
  FiemapRequest request;
  std::uint64_t next = 0;
  while (next < size) {
    if (abandoned) return ECANCELED;
    request.header().fm_start = next;
    request.header().fm_length = size - next;
    request.header().fm_flags = flags;
    request.header().fm_mapped_extents = 0;
    request.header().fm_extent_count = kExtentsAtOnce;
    if (::ioctl(fd, FS_IOC_FIEMAP, &request.header()) != 0) return errno;
    const std::uint32_t count = request.header().fm_mapped_extents;
    for (std::uint32_t i = 0; i < count; ++i) {
      const fiemap_extent& extent = request.extent(i);
      map.add({{extent.fe_logical, extent.fe_length}, extent.fe_flags});
      next = extent.fe_logical + extent.fe_length;
      if ((extent.fe_flags & FIEMAP_EXTENT_LAST) != 0) return 0;
    }
    if (count == 0) return 0;
  }
  return 0;
}

void observe_extents(int fd, const std::atomic<bool>& abandoned, FileObservation& file) {
  ExtentMap map;
  file.extents_error = read_extents(fd, file.size, 0, abandoned, map);
  // A file that was just written has no blocks for what is still in the page cache. They will be there within seconds;
  // asking the kernel to write them now gives an answer that stays true.
  if (file.extents_error == 0 && map.delayed > 0) {
    file.flushed = true;
    file.extents_error = read_extents(fd, file.size, FIEMAP_FLAG_SYNC, abandoned, map);
  }
  if (file.extents_error == 0) file.extents = std::move(map);
}

void observe_allocation(int fd, const std::atomic<bool>& abandoned, FileObservation& file) {
  struct statfs fs {};
  if (::fstatfs(fd, &fs) == 0) file.filesystem = static_cast<std::uint32_t>(fs.f_type);
  int flags = 0;
  if (::ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) file.flags = static_cast<unsigned>(flags);
  observe_extents(fd, abandoned, file);

  const off_t hole = ::lseek(fd, 0, SEEK_HOLE);
  if (hole >= 0)
    file.first_hole = static_cast<std::uint64_t>(hole);
  else
    file.hole_error = errno;

  struct stat after {};  // after the flush, which may have allocated
  if (::fstat(fd, &after) == 0) file.allocated = static_cast<std::uint64_t>(after.st_blocks) * 512;
}

/// The alignment that statx(2) promises (Linux 6.1, by file system); 0: no direct I/O on this file; absent: not told.
std::optional<std::uint32_t> statx_alignment(int fd) {
#ifdef STATX_DIOALIGN
  struct statx data {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &data) != 0 || (data.stx_mask & STATX_DIOALIGN) == 0)
    return std::nullopt;
  return data.stx_dio_offset_align;
#else
  return std::nullopt;
#endif
}

/// Opens with O_DIRECT and reads. The smallest length that works is the alignment, unless the kernel told it.
void observe_direct_io(const std::string& path, FileObservation& file) {
  constexpr std::size_t kLargest = 65536;
  DirectIo& direct = file.direct;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC | O_NOCTTY));
  if (!fd) {
    direct.open_error = errno;
    return;
  }
  int sector = 0;
  if (file.block_device && ::ioctl(fd.get(), BLKSSZGET, &sector) == 0 && sector > 0) {
    direct.alignment = static_cast<std::uint32_t>(sector);
    direct.alignment_source = "BLKSSZGET";
  } else if (const auto told = statx_alignment(fd.get()); told && *told > 0) {
    direct.alignment = *told;
    direct.alignment_source = "STATX_DIOALIGN";
  }

  const std::unique_ptr<void, void (*)(void*)> buffer(std::aligned_alloc(kLargest, kLargest), std::free);
  if (buffer == nullptr) return;
  for (std::size_t length = direct.alignment.value_or(512); length <= kLargest; length *= 2) {
    ssize_t got = 0;
    do {
      got = ::pread(fd.get(), buffer.get(), length, 0);
    } while (got < 0 && errno == EINTR);
    direct.read_error = got < 0 ? errno : 0;
    if (direct.read_error != EINVAL) {
      // A file shorter than the read proves that direct reads work, not what they must be aligned to.
      if (direct.read_error == 0 && !direct.alignment && static_cast<std::size_t>(got) == length) {
        direct.alignment = static_cast<std::uint32_t>(length);
        direct.alignment_source = "a read of " + std::to_string(length) + " bytes";
      }
      return;
    }
  }
}

void observe_head(int fd, FileObservation& file) {
  std::array<char, 512> buffer;
  const ssize_t got = ::pread(fd, buffer.data(), buffer.size(), 0);
  if (got > 0) file.head.assign(buffer.data(), static_cast<std::size_t>(got));
}

}  // namespace

Result<FileObservation> observe_file(const std::string& path, const std::atomic<bool>& abandoned) {
  // stat first: opening a FIFO or a tape drive would already do something.
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return tl::unexpected(storage_error("find", path, errno));
  FileObservation file;
  file.block_device = S_ISBLK(status.st_mode);
  if (!file.block_device && !S_ISREG(status.st_mode))
    return fail(ErrorKind::bad_input, "'" + path + "' is neither a file nor a block device",
                S_ISDIR(status.st_mode) ? "it is a folder: name the image in it" : "name an image or a block device");

  if (const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), std::free); real != nullptr)
    file.real_path = real.get();
  else
    file.real_path = path;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return tl::unexpected(storage_error("open", path, errno));

  file.inode = status.st_ino;
  file.device = file.block_device ? status.st_rdev : status.st_dev;
  file.size = static_cast<std::uint64_t>(status.st_size);
  if (file.block_device) {
    if (::ioctl(fd.get(), BLKGETSIZE64, &file.size) != 0) return tl::unexpected(storage_error("size", path, errno));
  } else {
    observe_allocation(fd.get(), abandoned, file);
  }
  observe_head(fd.get(), file);
  if (!abandoned) observe_direct_io(path, file);
  return file;
}

}  // namespace aiolos
