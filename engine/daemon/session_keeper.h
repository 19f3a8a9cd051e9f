// SPDX-License-Identifier: Apache-2.0
// Sessions that outlive their process: the service manager keeps what makes them, the next process goes on with the
// connection as it is, and QEMU does not know. So also those disks go on that QEMU would not reconnect.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "descriptor_store.h"
#include "session_record.h"

namespace aiolos::engine {

/// A session that an earlier process has left.
struct KeptSession {
  std::string disk;  ///< Name.
  UniqueFd socket;
  SessionRecord record;
  std::string name;                            ///< Of the record in the store.
  std::string socket_name;                     ///< In the store.
  std::map<std::uint64_t, std::string> names;  ///< In the store, of the descriptors of messages, by serial.

  /// Lets the front end know that nobody goes on with it.
  void discard(DescriptorStore& store);
  /// The store has nothing of it any more; it goes on.
  void withdraw(DescriptorStore& store);
};

/// The sessions that a new process finds in its store. What makes none is let go.
std::vector<KeptSession> take_kept_sessions(DescriptorStore& store);

/// Keeps one session. For one thread.
class SessionKeeper {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// @param store outlives the keeper, and so does `socket`, the front end's. @param disk name.
  SessionKeeper(DescriptorStore& store, std::string disk, int socket);
  /// Goes on with what was kept. @param kept without its socket, which is `socket` now.
  SessionKeeper(DescriptorStore& store, KeptSession kept, int socket);

  /// A message that the session has done, with descriptors for the keeper.
  void note(Message message);
  /// A message that waits for requests in flight. Kept at once, for who has sent it does nothing until it is answered.
  void defer(Message message);
  /// A message is about to be answered that the session has refused: it waits no longer.
  void answered();
  /// Keeps what was noted, but not more often than every few milliseconds.
  void save(Time now);
  /// Keeps what was noted.
  void save();
  /// The session is over.
  void forget();

  const SessionRecord& record() const { return kept_.record; }

 private:
  bool save_record();

  DescriptorStore& store_;
  KeptSession kept_;
  int socket_;
  bool changed_ = false;
  Time last_{};
};

}  // namespace aiolos::engine
