// SPDX-License-Identifier: Apache-2.0
// A disk that is served to a guest: its socket, the front end's session, and its requests on their way between the
// guest's rings and the AIO engine. Belongs to a reactor, and to that one's thread.
#pragma once

#include <linux/virtio_blk.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aio_engine.h"
#include "aiolos/core/drain_governor.h"
#include "aiolos/core/shared_budget.h"
#include "aiolos/core/vocabulary.h"
#include "block_request.h"
#include "disk_group.h"
#include "disk_statistics.h"
#include "image.h"
#include "message_channel.h"
#include "poller.h"
#include "session.h"
#include "session_keeper.h"

namespace aiolos::engine {

using SteadyTime = std::chrono::steady_clock::time_point;

struct DiskSettings {
  std::string name;    ///< Told apart by it; the socket's path unless set.
  std::string path;    ///< Of the image or block device.
  std::string socket;  ///< Where the front end connects.
  AioMode aio = AioMode::io_uring;
  std::string group;   ///< The VM, whose disks stop together.
  std::string serial;  ///< At most 20 bytes.
  bool read_only = false;
  bool direct = true;
  unsigned queues = 4;  ///< Rings offered; a front end may use fewer.
  double weight = 1.0;  ///< In the budget.
};

/// One AIO engine with its budget, and what waits to be submitted to it.
struct AioShare {
  AioShare(std::unique_ptr<AioEngine> made, unsigned capacity) : engine(std::move(made)), budget(capacity) {}

  /// Makes the engine as large as the budget needs it, after disks and rings have come or gone. Where the kernel has no
  /// room, that is logged, and all goes on with what there is.
  void fit_engine();

  std::unique_ptr<AioEngine> engine;
  SharedBudget budget;
  std::vector<IoRequest*> batch;  ///< Taken from rings in this turn of the reactor.
};

/// Where a disk is served.
struct DiskSocket {
  UniqueFd listener;
  UniqueFd lock;  ///< Its file is locked while requests of an earlier process can still change the disk.
};

class ServedDisk final : public SessionDisk {
 public:
  /// @param socket of open_socket(). While requests of an earlier process are with the storage, nobody is served.
  /// @param group of the guest's disks; outlives this one.
  /// @param store that keeps its session for the next process; nullptr for none.
  ServedDisk(DiskSettings settings, Image image, DiskSocket socket, Poller& poller, AioShare& share, DiskGroup& group,
             DescriptorStore* store = nullptr);
  ServedDisk(const ServedDisk&) = delete;
  ServedDisk& operator=(const ServedDisk&) = delete;
  /// Nothing may be in flight.
  ~ServedDisk() override;

  const DiskSettings& settings() const { return settings_; }
  const std::shared_ptr<DiskStatistics>& statistics() const { return statistics_; }
  const Image& image() const { return image_; }
  const DiskGroup& group() const { return group_; }
  SharedBudget::DiskId budget_id() const { return budget_id_; }
  AioShare& share() { return share_; }

  // --- the reactor's turn, in this order ---
  /// A request came back from the engine: answers it, for the disk it is of.
  static void finished(IoRequest& request, SteadyTime now);
  /// Shows the front end what has been completed since the last call.
  void publish();
  /// Takes requests from the rings into the share's batch, as far as the budget lets it. @return whether it took any.
  bool take_requests(SteadyTime now);
  /// Has the guest kick with its next request. @return whether there is one already that may be taken.
  bool arm();

  /// Puts what it may have in flight, and what a drain would take, into the statistics.
  void show_limits();

  /// Looks at the image's size again and tells the guest. @return the size in bytes.
  Result<std::uint64_t> resize();
  /// Goes on with a session of an earlier process. Right after the disk was made; needs a store.
  void resume(KeptSession kept);
  /// Takes no more requests; ends the connection when nothing is in flight any more.
  void close();
  /// As close(), for a process that ends: the connection stays open where the service manager keeps it for the next
  /// one.
  void leave();
  /// Whether the disk is closed and can be destroyed.
  bool closed() const { return closing_ && !session_; }

 private:
  struct Task;

  // SessionDisk
  std::uint64_t features() const override;
  unsigned queues() const override { return settings_.queues; }
  std::span<const std::byte> config() const override { return std::as_bytes(std::span(&config_, 1)); }
  Result<void> write_config(std::uint32_t offset, std::span<const std::byte> bytes) override;
  void features_changed(std::uint64_t features) override;
  void kick_changed(SplitRing& ring, int kick) override;
  void ring_ready(SplitRing& ring) override;
  void ring_stopping() override;

  void open_when_free();
  void open();
  void accept();
  void receive();
  bool handle(Message& message);
  void keep(Message message, bool answers, bool refused);
  void go_on();
  void disconnect(const Error& why);
  void leave_if_drained();
  void end_session_if_drained();

  bool take_from(SplitRing& ring, SteadyTime now);
  void count_drain();
  void update_slots();
  void begin_request(SplitRing& ring, std::uint16_t head, SteadyTime now);
  void submit(Task& task);
  void bounce(Task& task);
  bool write_zeroes_instead(Task& task);
  void finish(Task& task, SteadyTime now);
  void answer(Task& task, std::uint8_t status, std::optional<SharedBudget::Duration> latency);
  void log_writes(const Task& task, bool data_written) const;
  void count(const Task& task, SteadyTime now);
  void report_broken(SplitRing& ring);
  Task& new_task();
  BlockLimits limits() const;
  bool writes_through() const;

  const DiskSettings settings_;
  Image image_;
  const DiskSocket socket_;
  UniqueFd lock_timer_;              ///< While the lock is waited for.
  std::optional<KeptSession> kept_;  ///< Goes on when the lock is there.
  Poller& poller_;
  AioShare& share_;
  DiskGroup& group_;
  DescriptorStore* const store_;
  const SharedBudget::DiskId budget_id_;
  const std::shared_ptr<DiskStatistics> statistics_ = std::make_shared<DiskStatistics>();
  virtio_blk_config config_{};

  std::unique_ptr<MessageChannel> channel_;
  std::unique_ptr<Session> session_;
  std::optional<SessionKeeper> keeper_;
  std::optional<Message> deferred_;           ///< Waits for requests in flight.
  std::optional<SteadyTime> stopping_since_;  ///< The first of the rings, until the last one is taken away.
  bool closing_ = false;
  bool leaving_ = false;
  bool awake_ = false;  ///< Rings are looked at in each turn; the guest need not kick.
  bool published_ = true;
  std::size_t first_ring_ = 0;

  DrainGovernor governor_;
  std::uint64_t last_length_ = 0;  ///< Of the last request taken: what the next one is expected to be.
  std::deque<Task> tasks_;         ///< All there ever were at once; a deque, for their addresses stay.
  std::vector<Task*> free_tasks_;
};

/// Makes a listening socket, in place of one that a process has left which has ended.
/// @return ErrorKind::retry while another process serves this socket.
Result<UniqueFd> listen_at(const std::string& path);

/// listen_at(), and the lock beside it, PATH.lock.
Result<DiskSocket> open_socket(const std::string& path);
/// Removes both files.
void remove_socket(const std::string& path);

}  // namespace aiolos::engine
