// SPDX-License-Identifier: Apache-2.0
// What makes a session: the messages of its front end that still hold. Played to a new Session, they make it again,
// also in another process, and the front end need not know.
#pragma once

#include <compare>
#include <cstdint>
#include <map>

#include "protocol.h"

namespace aiolos::engine {

/// A message with descriptors of its own for the same files.
Message copy_of(const Message& message);

/// For one thread.
class SessionRecord {
 public:
  /// Messages come again in this order: each finds what it needs.
  struct Key {
    std::size_t rank;     ///< Of the request.
    std::uint64_t which;  ///< The ring's index, or the memory region's address.
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    std::uint64_t serial;  ///< Told apart by it; greater than those of all entries before.
    Message message;       ///< Wants no reply unless it waits, and has one descriptor at most.
  };

  /// Notes what a session has done.
  /// @return whether the record is another one now; false for what makes no state.
  bool note(Message message);
  /// Notes a message that waits for requests in flight. The front end waits for its answer, which the next process has
  /// to give: it is the last of the entries until answered(), and wants what it wanted.
  void defer(Message message);
  void answered();
  /// Whether an entry is such a message.
  static bool waits(const Key& key);
  /// What the next message that is noted will have.
  std::uint64_t next_serial() const { return next_serial_; }

  const std::map<Key, Entry>& entries() const { return entries_; }
  /// Whether all goes on without losing what was in flight: there is an inflight region, or no ring runs.
  bool resumable() const;

 private:
  void put(const Key& key, Message message);
  bool note_memory(Message message);

  std::map<Key, Entry> entries_;
  std::uint64_t next_serial_ = 0;
};

}  // namespace aiolos::engine
