// SPDX-License-Identifier: Apache-2.0
// One front end's conversation with one disk: what its messages mean, and the state they make. Knows no socket and does
// no I/O; the disk takes requests from its rings.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "aiolos/core/result.h"
#include "guest_memory.h"
#include "protocol.h"
#include "split_ring.h"

namespace aiolos::engine {

/// What a session needs to know of its disk. The disk outlives the session.
class SessionDisk {
 public:
  virtual ~SessionDisk() = default;
  /// Feature bits of virtio and virtio-blk.
  virtual std::uint64_t features() const = 0;
  virtual unsigned queues() const = 0;
  /// virtio_blk_config, at most kConfigSpace bytes.
  virtual std::span<const std::byte> config() const = 0;
  virtual Result<void> write_config(std::uint32_t offset, std::span<const std::byte> bytes) = 0;
  /// The driver's features are known or have changed.
  virtual void features_changed(std::uint64_t features) = 0;
  /// A ring has another kick descriptor, or none; -1 for none. Comes before the old one is closed.
  virtual void kick_changed(SplitRing& ring, int kick) = 0;
  /// A ring may have requests now, also without a kick.
  virtual void ring_ready(SplitRing& ring) = 0;
  /// A ring that had requests is disabled, or its front end waits to take it away.
  virtual void ring_stopping() = 0;
};

/// For one thread.
class Session {
 public:
  explicit Session(SessionDisk& disk);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  struct NoReply {};
  /// The answer must wait until requests in flight are done. Call `handle` again with the same message after each
  /// completion that leaves a ring drained, and read no further message until it answers.
  struct Deferred {};
  using Outcome = std::variant<NoReply, Message, Deferred>;

  /// Does what a message says. @return an error that ends the conversation: the message makes no sense. Where the front
  /// end asked for a reply and can go on without what it asked for, that is an answer and no error.
  Result<Outcome> handle(Message& message);

  /// The descriptor for the back end's own messages; -1 while there is none.
  int backend_channel() const { return backend_channel_.get(); }

  std::vector<SplitRing>& rings() { return rings_; }
  const GuestMemory& memory() const { return memory_; }
  /// nullptr unless a migration wants the guest's dirty pages.
  const DirtyLog* log() const { return (features_ & kFeatureLogAll) != 0 && log_ ? &*log_ : nullptr; }
  std::uint64_t features() const { return features_; }
  unsigned in_flight() const;
  /// Rings take nothing new while the front end waits for them to be drained.
  bool draining() const { return draining_; }

 private:
  Result<Outcome> dispatch(Message& message);
  Result<Outcome> set_features(std::uint64_t features);
  Result<Outcome> set_mem_table(Message& message);
  Result<Outcome> change_memory(Message& message);
  Result<Outcome> set_log_base(Message& message);
  Result<Outcome> set_ring(const Message& message);
  Result<Outcome> set_vring_fd(Message& message);
  Result<Outcome> get_vring_base(const Message& message);
  Result<Outcome> get_config(const Message& message) const;
  Result<Outcome> set_config(const Message& message);
  Result<Outcome> get_inflight(const Message& message);
  Result<Outcome> set_inflight(Message& message);

  Result<SplitRing*> ring(std::uint64_t index);
  Result<void> start(SplitRing& ring);
  Result<void> memory_changed();
  bool drain_all();

  SessionDisk& disk_;
  std::uint64_t features_ = 0;
  std::uint64_t protocol_features_ = 0;
  GuestMemory memory_;
  std::optional<DirtyLog> log_;
  SharedMapping inflight_;
  UniqueFd backend_channel_;
  std::vector<SplitRing> rings_;
  bool draining_ = false;
};

/// The features of vhost and the protocol that every session offers.
std::uint64_t vhost_features();

}  // namespace aiolos::engine
