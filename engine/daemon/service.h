// SPDX-License-Identifier: Apache-2.0
// The daemon's heart: which disks there are, on which reactors, and what can be asked of them. Belongs to the control
// thread, which never waits: what a reactor has to do first is answered later.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "aiolos/core/json.h"
#include "reactor.h"
#include "settings.h"

namespace aiolos::engine {

/// A disk and what it has done, for those who report it.
struct DiskReport {
  DiskSettings settings;
  std::uint64_t size = 0;  ///< Bytes.
  std::shared_ptr<DiskStatistics> statistics;
};

class Service {
 public:
  /// @param control the control thread's poller, in which the replies run.
  /// @param store that keeps the disks' sessions over processes; nullptr for none. When a disk is added that an earlier
  /// process served, it goes on with its session.
  Service(const Settings& settings, Poller& control, std::unique_ptr<DescriptorStore> store);
  /// Waits for what the disks have in flight, and leaves their sessions to the next process.
  ~Service();

  using Reply = std::function<void(Result<Json>)>;

  /// Serves a disk. @param keep it in the state file.
  void add(DiskSettings disk, bool keep, Reply reply);
  /// Ends the sessions whose disks have not been added.
  void discard_sessions();
  /// The disks that an earlier process kept in the state file.
  Result<std::vector<DiskSettings>> kept_disks() const;

  /// One request of the admin socket: {"command": ..., ...}. The reply may come later.
  void handle(const Json& request, Reply reply);

  /// Safe for all threads.
  std::vector<DiskReport> reports() const;

 private:
  struct Entry {
    DiskReport report;
    std::size_t reactor;
    bool keep;
    bool leaving = false;
  };

  void add_disk(const JsonView& request, Reply reply);
  void remove_disk(const JsonView& request, Reply reply);
  void resize_disk(const JsonView& request, Reply reply);
  void clamp(const JsonView& request, Reply reply);
  void set_drain_target(const JsonView& request, Reply reply);
  void switchover(const JsonView& request, Reply reply);
  void list(const JsonView& request, Reply reply);
  void stats(const JsonView& request, Reply reply);

  std::optional<KeptSession> session_of(const std::string& disk);
  std::size_t choose_reactor(const std::string& group) const;
  Result<std::string> known_name(const JsonView& request) const;
  void keep_disks() const;

  Poller& control_;
  const std::string state_;
  const std::string socket_group_;
  const std::unique_ptr<DescriptorStore> store_;
  std::vector<KeptSession> sessions_;  ///< Of an earlier process, whose disks are not there yet.
  std::vector<std::unique_ptr<Reactor>> reactors_;
  mutable std::mutex mutex_;  ///< Guards disks_ against reports(); only the control thread writes.
  std::map<std::string, Entry> disks_;
  const std::optional<DiskGroup::Duration> drain_target_;
  std::map<std::string, std::optional<DiskGroup::Duration>> drain_targets_;  ///< By group, where it is another one.
};

/// An error as the admin socket and the command line show it.
Json to_json(const Error& error);

}  // namespace aiolos::engine
