// SPDX-License-Identifier: Apache-2.0
// What is in flight, in memory that QEMU keeps for the time after this process: docs/interop/vhost-user.rst, "Inflight
// I/O tracking", split virtqueues. Killed at any instruction, the next process finds which requests it has to do again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aiolos::engine {

struct InflightDescriptor {
  std::uint8_t in_flight;
  std::uint8_t padding[5];
  std::uint16_t next;     ///< In the last batch that was completed.
  std::uint64_t counter;  ///< Order in which the requests were taken.
};
static_assert(sizeof(InflightDescriptor) == 16);

struct InflightHeader {
  std::uint64_t features;
  std::uint16_t version;
  std::uint16_t descriptors;
  std::uint16_t last_batch_head;
  std::uint16_t used_index;
};
static_assert(sizeof(InflightHeader) == 16);

/// One ring's part of the region; does nothing where there is no region. The memory belongs to the session, and the
/// front end may write it: every index read from it is checked.
class InflightRing {
 public:
  static constexpr std::size_t bytes(unsigned ring_size) {
    return (sizeof(InflightHeader) + ring_size * sizeof(InflightDescriptor) + 63) / 64 * 64;
  }

  InflightRing() = default;
  /// @param memory of at least bytes(ring_size).
  InflightRing(std::byte* memory, unsigned ring_size);

  explicit operator bool() const { return header_ != nullptr; }
  unsigned size() const { return size_; }

  /// Repairs what a process left that was killed between two steps. @param used_index what the driver was shown last.
  /// @return the heads of the requests it had in flight, in the order it took them.
  std::vector<std::uint16_t> recover(std::uint16_t used_index);

  void began(std::uint16_t head);
  /// In this order for each batch: completed() for each request, the used ring's index, published().
  void completed(std::uint16_t head);
  void published(const std::vector<std::uint16_t>& heads, std::uint16_t used_index);

 private:
  InflightDescriptor* descriptors() const { return reinterpret_cast<InflightDescriptor*>(header_ + 1); }

  InflightHeader* header_ = nullptr;
  unsigned size_ = 0;
  std::uint64_t counter_ = 0;
};

}  // namespace aiolos::engine
