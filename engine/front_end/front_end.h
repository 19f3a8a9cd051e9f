// SPDX-License-Identifier: Apache-2.0
// A small vhost-user front end with the driver of a guest: what QEMU and its guest do, for measuring and for tests. The
// "guest's memory" is a memfd of this process.
#pragma once

#include <linux/virtio_blk.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aiolos/core/result.h"
#include "message_channel.h"
#include "split_ring.h"

namespace aiolos::engine {

struct FrontEndOptions {
  unsigned queues = 1;
  unsigned queue_size = 128;
  std::uint64_t memory = 64U << 20;
  bool event_index = true;
  bool inflight = true;       ///< Keeps the inflight region, also across connections.
  std::uint64_t without = 0;  ///< Feature bits not to accept.
};

/// A buffer of a request, by its address in the guest.
struct GuestBuffer {
  std::uint64_t address;
  std::uint32_t length;
  bool writable;
};

/// The driver's side of one ring. Its memory must be that of a FrontEnd.
class DriverRing {
 public:
  DriverRing(std::byte* descriptors, std::byte* available, std::byte* used, unsigned size, bool event_index);

  /// Puts a request into the ring without telling the device. @return its head; nullopt if the ring is full.
  std::optional<std::uint16_t> add(std::span<const GuestBuffer> buffers);
  /// As above, by a table that lies at `table` in the guest's memory, and at `memory` here.
  std::optional<std::uint16_t> add_indirect(std::span<const GuestBuffer> buffers, std::uint64_t table,
                                            std::byte* memory);
  /// Puts a head into the ring that add() has not given: for hostile drivers.
  void add_head(std::uint16_t head);
  /// Whether the device wants a kick for what was added since the last call.
  bool wants_kick();
  /// The next request that the device has completed.
  std::optional<vring_used_elem> take_used();
  /// Wants to be told of the next completion. @return whether there is one already.
  bool arm();

  vring_desc* descriptors() const { return descriptors_; }
  vring_avail* available() const { return available_; }
  vring_used* used() const { return used_; }
  std::uint16_t used_index() const { return next_used_; }

 private:
  vring_desc* descriptors_;
  vring_avail* available_;
  vring_used* used_;
  unsigned size_;
  bool event_index_;
  std::uint16_t next_available_ = 0;
  std::uint16_t kicked_ = 0;
  std::uint16_t next_used_ = 0;
  std::vector<std::uint16_t> free_;
};

/// For one thread. Every wait has a bound, after which it is an error of kind retry.
class FrontEnd {
 public:
  static Result<std::unique_ptr<FrontEnd>> connect(const std::string& socket, const FrontEndOptions& options = {});

  /// Gives the back end the memory and the rings. The rings go on where they stand, also after a connection was lost.
  Result<void> start();
  /// Takes one ring back, as QEMU does when a guest stops. @return the index that its requests go on at.
  Result<std::uint16_t> stop(unsigned queue);
  /// A new connection in place of one that was lost. start() then gives the rings the base that QEMU gives them: the
  /// used index as it was when the connection broke (vhost_virtqueue_stop), however far the back end came after that.
  Result<void> reconnect();

  // --- messages ---
  /// Sends a message and waits for its answer.
  Result<Message> call(Request request, std::span<const std::byte> payload = {}, int fd = -1);
  /// Sends a message and waits until it is acknowledged.
  Result<void> tell(Request request, std::span<const std::byte> payload = {}, int fd = -1);
  /// Sends a message as it is.
  Result<void> send(const Message& message) { return channel_->send(message); }
  Result<Message> receive();
  Result<virtio_blk_config> config();
  std::uint64_t features() const { return features_; }
  /// Where the back end sends its own messages.
  int backend_channel() const { return backend_channel_.get(); }

  // --- memory ---
  /// Takes memory that is never given back. @return its address in the guest.
  std::uint64_t allocate(std::uint64_t size, std::uint64_t alignment = 4096);
  std::byte* at(std::uint64_t guest_address) const { return memory_.data() + (guest_address - kGuestBase); }
  template <typename T>
  T* at(std::uint64_t guest_address) const {
    return reinterpret_cast<T*>(at(guest_address));
  }
  int memory_fd() const { return memory_fd_.get(); }
  int socket() const { return channel_->fd(); }
  MemoryRegion region() const;

  // --- rings ---
  DriverRing& ring(unsigned queue) { return queues_[queue].ring; }
  VringAddress addresses(unsigned queue) const;
  void kick(unsigned queue);
  int call_fd(unsigned queue) const { return queues_[queue].call.get(); }
  /// Waits until the device has told of a completion. @return false when the time is over.
  bool wait(unsigned queue, std::chrono::milliseconds most);

  static constexpr std::uint64_t kGuestBase = 1U << 30;

 private:
  struct Queue {
    std::uint64_t descriptors;
    std::uint64_t available;
    std::uint64_t used;
    DriverRing ring;
    UniqueFd kick;
    UniqueFd call;
    std::uint16_t base = 0;
  };

  explicit FrontEnd(std::string socket, const FrontEndOptions& options)
      : socket_(std::move(socket)), options_(options) {}
  Result<void> make_memory();
  Result<void> connect_socket();
  Result<void> negotiate();
  Result<void> set_inflight();

  std::string socket_;
  FrontEndOptions options_;
  std::unique_ptr<MessageChannel> channel_;
  UniqueFd backend_channel_;
  UniqueFd memory_fd_;
  SharedMapping memory_;
  std::uint64_t allocated_ = 0;
  std::uint64_t features_ = 0;
  std::vector<Queue> queues_;
  UniqueFd inflight_fd_;
  InflightDescription inflight_{};
};

/// Keeps up to `depth` block requests of one ring in flight, each with its own buffer.
class BlockDriver {
 public:
  BlockDriver(FrontEnd& front_end, unsigned queue, unsigned depth, std::uint32_t buffer_size);

  struct Completion {
    unsigned slot;
    std::uint8_t status;
  };

  /// A slot that is free now.
  std::optional<unsigned> free_slot() const;
  std::span<std::byte> buffer(unsigned slot) const;
  /// Starts a request of `bytes` of the slot's buffer. kick() afterwards. @param type VIRTIO_BLK_T_*
  bool start(unsigned slot, std::uint32_t type, std::uint64_t sector, std::uint32_t bytes);
  void kick() { front_end_.kick(queue_); }
  std::optional<Completion> poll();
  /// poll(), waiting for the device. nullopt when the time is over.
  std::optional<Completion> wait(std::chrono::milliseconds most = std::chrono::seconds(10));

  /// One request from start to end. @return its status; 255 if it did not come back.
  std::uint8_t run(std::uint32_t type, std::uint64_t sector, std::uint32_t bytes);

 private:
  struct Slot {
    std::uint64_t header;
    std::uint64_t data;
    std::uint64_t status;
  };

  FrontEnd& front_end_;
  unsigned queue_;
  std::uint32_t buffer_size_;
  std::vector<Slot> slots_;
  std::vector<unsigned> slot_of_head_;
  std::vector<unsigned> free_;
};

}  // namespace aiolos::engine
