// SPDX-License-Identifier: Apache-2.0
// The storage of a served disk: a raw file or a block device.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>

#include "aiolos/core/posix.h"
#include "aiolos/core/result.h"

namespace aiolos::engine {

struct ImageOptions {
  bool read_only = false;
  bool direct = true;  ///< O_DIRECT: what the guest was told is on the storage does not sit in this host's memory.
};

class Image {
 public:
  /// @return ErrorKind::storage with the path and what to do.
  static Result<Image> open(const std::string& path, const ImageOptions& options);

  int fd() const { return fd_.get(); }
  /// Bytes, of whole blocks, as of the last measure().
  std::uint64_t size() const { return size_; }
  std::uint32_t block_size() const { return block_size_; }
  bool read_only() const { return read_only_; }

  /// Looks at the size again. @return it.
  Result<std::uint64_t> measure();

  /// Whether these buffers can be handed to the kernel as they are.
  bool accepts(std::span<const iovec> buffers) const;

 private:
  Result<void> find_alignment();

  std::string path_;
  UniqueFd fd_;
  std::uint64_t size_ = 0;
  std::uint32_t block_size_ = 512;  ///< Offsets and lengths are multiples of it.
  std::uint32_t memory_alignment_ = 1;
  bool read_only_ = false;
  bool direct_ = false;
};

}  // namespace aiolos::engine
