// SPDX-License-Identifier: Apache-2.0
// A split virtqueue from the device's side: virtio 1.2, section 2.7. The driver is a guest and may write anything at
// any time; whatever is read from it is read once and checked. A ring that makes no sense is broken: it stands still,
// and only it.
#pragma once

#define VIRTIO_RING_NO_LEGACY  // its legacy part is no C++
#include <linux/virtio_ring.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aiolos/core/posix.h"
#include "guest_memory.h"
#include "inflight_region.h"
#include "protocol.h"

namespace aiolos::engine {

/// The buffers of one request, as this process sees them.
struct DescriptorChain {
  std::vector<iovec> readable;  ///< What the device reads.
  std::vector<iovec> writable;  ///< What it writes.
};

/// One ring. For one thread.
class SplitRing {
 public:
  /// QEMU's VIRTQUEUE_MAX_SIZE, and IOV_MAX: most buffers of one request.
  static constexpr unsigned kLargestSize = 1024;

  // --- configuration, while the ring stands ---
  Result<void> set_size(std::uint32_t size);
  Result<void> set_base(std::uint32_t available_index);
  /// May come while the ring runs too, to switch the log of the used ring on and off. Takes effect with `resolve`.
  void set_addresses(const VringAddress& addresses) { addresses_ = addresses; }
  /// The ring's part of an inflight region, which outlives this process.
  void set_inflight(InflightRing inflight) { inflight_ = inflight; }

  /// Finds the addresses in the guest's memory. Needed after each change of either.
  Result<void> resolve(const GuestMemory& memory);

  /// From now on requests come. Those that were in flight in an earlier process come first.
  /// @param event_index whether VIRTIO_RING_F_EVENT_IDX was negotiated.
  Result<void> start(const GuestMemory& memory, bool event_index);
  /// Takes nothing new from the driver any more. What an earlier process took still comes, for base() is behind it.
  void drain() { draining_ = true; }
  /// Whether nothing is in flight that the driver could still hear of.
  bool drained() const { return in_flight_ == 0 && (resubmit_.empty() || broken_); }
  /// The guest's memory is not touched any more. After drained(), unless nobody looks at the ring again.
  void stop() { started_ = false; }

  bool started() const { return started_; }
  unsigned size() const { return size_; }
  /// Where the driver's next request will be: what GET_VRING_BASE answers.
  std::uint16_t base() const { return next_available_; }
  unsigned in_flight() const { return in_flight_; }
  bool broken() const { return broken_; }
  /// Why the ring is broken, once; empty after that, and while it is not.
  std::string take_breakage() { return std::exchange(breakage_, {}); }

  // --- requests ---
  /// Whether the driver has something for the device.
  bool has_request();
  /// Whether the next one was in flight in an earlier process: a drain waits for it.
  bool resubmits() const { return started_ && !broken_ && !resubmit_.empty(); }
  /// Takes the next request. @return its head, which complete() wants; nullopt if there is none, or the ring broke.
  std::optional<std::uint16_t> pop();
  /// Finds the buffers of a request. @return false if the ring broke over it.
  bool read_chain(const GuestMemory& memory, std::uint16_t head, DescriptorChain& chain);
  /// Puts a request into the used ring. The driver sees it after publish().
  /// @param written bytes at the beginning of its writable buffers.
  void complete(std::uint16_t head, std::uint32_t written);
  /// Shows the driver what has been completed. @return whether it wants to be told, by `call`.
  bool publish(const DirtyLog* log);
  /// Asks the driver for a kick with its next request. @return whether it has put one there meanwhile.
  bool arm(const DirtyLog* log);
  /// Tells the driver that it need not kick for now.
  void disarm();

  UniqueFd kick;
  UniqueFd call;
  UniqueFd error;
  bool enabled = false;

 private:
  void break_ring(std::string why);
  void recover();
  bool take(std::uint16_t head);
  bool add_buffer(const GuestMemory& memory, const vring_desc& descriptor, DescriptorChain& chain);
  bool walk(const GuestMemory& memory, std::span<const std::byte> table, std::uint16_t head, bool indirect,
            DescriptorChain& chain);
  void log_used(const DirtyLog* log, std::uint64_t offset, std::uint64_t size) const;
  std::uint16_t available_index() const;

  unsigned size_ = 0;
  VringAddress addresses_{};
  InflightRing inflight_;
  bool started_ = false;
  bool draining_ = false;
  bool broken_ = false;
  std::string breakage_;
  bool event_index_ = false;

  const std::byte* descriptors_ = nullptr;
  const vring_avail* available_ = nullptr;
  vring_used* used_ = nullptr;

  std::uint16_t next_available_ = 0;
  std::uint16_t seen_available_ = 0;   ///< The driver's index when last looked at.
  std::uint16_t used_index_ = 0;       ///< Behind the completed ones.
  std::uint16_t published_index_ = 0;  ///< Behind those that the driver sees.
  bool notified_ = false;              ///< The driver has been told of something since the start.
  unsigned in_flight_ = 0;
  std::vector<bool> taken_;                 ///< By head.
  std::vector<std::uint16_t> resubmit_;     ///< From an earlier process, the next one last.
  std::vector<std::uint16_t> unpublished_;  ///< Heads.
  std::vector<iovec> indirect_;
};

}  // namespace aiolos::engine
