// SPDX-License-Identifier: Apache-2.0
// The guest's memory as this process has it mapped, and the log of what it wrote there. Addresses come from the guest
// and from the front end: none is followed before it was found here.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "aiolos/core/posix.h"
#include "aiolos/core/result.h"
#include "protocol.h"

namespace aiolos::engine {

/// Part of a file mapped shared for reading and writing. If the file is cut short beneath it, a page of zeroes takes
/// the place of each lost one when it is touched, instead of SIGBUS for all guests of this process.
class SharedMapping {
 public:
  /// @return ErrorKind::bad_input if the file does not reach that far or is none that can be mapped.
  static Result<SharedMapping> map(int fd, std::uint64_t offset, std::uint64_t size);
  SharedMapping() = default;
  SharedMapping(SharedMapping&& other) noexcept;
  SharedMapping& operator=(SharedMapping&& other) noexcept;
  ~SharedMapping();

  std::byte* data() const { return data_; }
  std::uint64_t size() const { return size_; }

 private:
  void* mapped_ = nullptr;
  std::size_t mapped_size_ = 0;
  std::byte* data_ = nullptr;  ///< Where `offset` is.
  std::uint64_t size_ = 0;
};

/// The regions a front end has given. For one thread. Pointers from here hold until their region is removed.
class GuestMemory {
 public:
  static constexpr std::size_t kMostRegions = 64;

  /// Maps a region. @return ErrorKind::bad_input for one that overlaps another, wraps around, or is not in its file.
  Result<void> add(const MemoryRegion& region, const UniqueFd& fd);
  /// Unmaps the region with these addresses and size. Nothing may use it any more.
  Result<void> remove(const MemoryRegion& region);
  void clear() { regions_.clear(); }

  /// @return where `size` bytes at an address of the front end are here; nullptr unless one region has them all.
  std::byte* at_user_address(std::uint64_t address, std::uint64_t size) const;

  /// Appends where `size` bytes at an address of the guest are here, in several pieces if they span regions.
  /// @return false if any of them is nowhere; `pieces` is then as before.
  bool translate(std::uint64_t guest_address, std::uint64_t size, std::vector<iovec>& pieces) const;

  /// The address that the guest knows a byte by; nullopt if it is none of the guest's.
  std::optional<std::uint64_t> guest_address(const void* byte) const;

 private:
  struct Region {
    MemoryRegion place;
    SharedMapping mapping;
  };
  std::vector<Region> regions_;
};

/// Where a back end notes for a live migration which pages of the guest it has written.
class DirtyLog {
 public:
  static constexpr unsigned kPageShift = 12;

  DirtyLog() = default;
  explicit DirtyLog(SharedMapping mapping) : mapping_(std::move(mapping)) {}

  /// Notes that `size` bytes at an address of the guest have been written: after they were, and before the guest is
  /// told. What lies beyond the log's end is not noted.
  void mark(std::uint64_t guest_address, std::uint64_t size) const;

 private:
  SharedMapping mapping_;
};

}  // namespace aiolos::engine
