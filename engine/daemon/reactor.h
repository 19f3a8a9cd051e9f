// SPDX-License-Identifier: Apache-2.0
// A thread that owns disks: their sockets, their rings and the AIO engines they share. Nothing of it is touched by
// another thread, so nothing of it is locked; other threads leave it tasks.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "poller.h"
#include "served_disk.h"

namespace aiolos::engine {

class Reactor {
 public:
  /// @param capacity of each AIO engine: requests in flight of all its disks together.
  /// @param store that keeps the disks' sessions for the next process, and outlives this; nullptr for none.
  explicit Reactor(unsigned capacity, DescriptorStore* store = nullptr);
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;
  /// Waits for what the disks have in flight, leaves their sessions to the next process, and ends the thread.
  ~Reactor();

  using Added = std::function<void(Result<std::shared_ptr<DiskStatistics>>)>;
  using Removed = std::function<void()>;

  // Safe for all threads. The callbacks run in the reactor's thread.

  /// Serves a disk. @param socket of open_socket().
  /// @param drain_target of its group, if the disk is the first of it; nullopt for none.
  /// @param kept a session of the disk that an earlier process has left in the store.
  void add(DiskSettings settings, Image image, DiskSocket socket, Added added,
           std::optional<DiskGroup::Duration> drain_target = DrainGovernor::Settings{}.target,
           std::optional<KeptSession> kept = std::nullopt);
  /// Ends a disk: nothing new is taken from its rings, and the callback comes when nothing of it is in flight any more.
  void remove(std::string name, Removed removed);
  /// Looks at the size of a disk's image again. @param done gets the size in bytes.
  void resize(std::string name, std::function<void(Result<std::uint64_t>)> done);
  /// Bounds what each disk of a group may have in flight; nullopt ends it.
  void clamp(std::string group, std::optional<unsigned> most);
  /// How long a drain of the group's disks may take; nullopt: nothing is held back for it.
  void set_drain_target(std::string group, std::optional<DiskGroup::Duration> target);
  /// Whether the group's guest is about to be stopped.
  void switchover_near(std::string group, bool near);

 private:
  void run();
  bool turn();
  bool idle() const;
  std::chrono::milliseconds patience() const;
  bool reap(AioShare& share, SteadyTime now);
  void publish();
  void submit(AioShare& share);
  bool arm();
  void rebalance(SteadyTime now);
  void bury_closed();
  DiskGroup& group_of(const DiskSettings& settings, std::optional<DiskGroup::Duration> target);
  Result<AioShare*> share_of(AioMode mode);
  ServedDisk* find(const std::string& name);

  const unsigned capacity_;
  DescriptorStore* const store_;
  Poller poller_;
  std::map<AioMode, AioShare> shares_;
  std::map<std::string, DiskGroup> groups_;  ///< By the group's name; a disk without one is alone under its own.
  std::vector<std::unique_ptr<ServedDisk>> disks_;
  std::vector<std::pair<ServedDisk*, Removed>> closing_;
  std::size_t first_disk_ = 0;
  SteadyTime balanced_{};
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace aiolos::engine
