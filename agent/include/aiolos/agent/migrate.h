// SPDX-License-Identifier: Apache-2.0
// Live migration of a guest with its volumes: what is asked for, what the two hosts tell each other, what came of it.
// docs/migration.md says how it works.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/agent/config.h"
#include "aiolos/core/aio_policy.h"
#include "aiolos/core/drain_outlook.h"
#include "aiolos/core/migration.h"
#include "aiolos/core/queue_plan.h"

namespace aiolos {

/// A volume that goes with its guest, as the destination is to connect it.
struct MovingVolume {
  std::string target;  ///< "vdb"
  Json connection_info;
  Json disk_info;
};

/// A virtio disk that is to have fewer requests in flight while its guest moves.
struct LoweredQueue {
  std::string target;   ///< "vdb"
  std::string serial;   ///< As the guest sees it.
  std::string device;   ///< The guest's kernel's name: "vda".
  unsigned before = 0;  ///< nr_requests.
  unsigned lowered = 0;
};

/// A guest that is to move. Holds the secrets of its volumes' connection_info.
struct MovingGuest {
  std::string name;
  std::string uuid;
  std::string xml;                            ///< Live, migratable.
  std::optional<std::string> persistent_xml;  ///< Its definition, if it has one.
  std::vector<MovingVolume> volumes;
  std::vector<PlanEngine> engines;           ///< What QEMU says of its iothreads, where they have been asked.
  std::vector<LoweredQueue> lowered_queues;  ///< To be put back when it has come.
};

/// One disk as the destination decided it.
struct PreparedDisk {
  std::string target;
  std::optional<AioMode> mode;
  std::string xml;
  std::vector<std::string> reasons;  ///< Of the mode.
  std::vector<std::string> notes;
};

/// A guest for which all is connected on the destination.
struct PreparedGuest {
  std::string xml;
  std::optional<std::string> persistent_xml;
  std::vector<PreparedDisk> disks;
};

/// The destination of one migration. For one thread. Goes one way: prepare, begin, then arrived or cancel. One that
/// goes before either leaves it to reconcile, which settles by where the guest is.
class MigrationPeer {
 public:
  virtual ~MigrationPeer() = default;
  /// Connects every volume there and decides on its disk anew. A failure leaves nothing connected.
  /// @param rehearse decides and checks everything, changes nothing, and ends it.
  virtual Result<PreparedGuest> prepare(const MovingGuest& guest, bool rehearse) = 0;
  /// libvirt is about to be asked. From now on the guest may come even if nobody asks any more.
  virtual Result<void> begin() = 0;
  /// Whether the destination's libvirt runs the guest, or is taking it in.
  virtual Result<bool> has_guest() = 0;
  /// The guest has come: checks that, and sets again what libvirt has lost on the way. @return notes for people.
  virtual Result<std::vector<std::string>> arrived() = 0;
  /// It does not come: everything is disconnected again, unless the guest runs there all the same. Done already is
  /// success.
  virtual Result<void> cancel() = 0;
};

/// What to migrate, and how.
struct MigrationRequest {
  std::string domain;       ///< Name or UUID.
  std::string destination;  ///< The destination's libvirt, as the source's daemon reaches it.
  MigrationSettings settings;
  std::optional<std::chrono::microseconds> max_drain;   ///< No switchover while a drain would take longer.
  std::optional<std::chrono::seconds> post_copy_after;  ///< Needs settings.post_copy.
  std::chrono::seconds deadline{600};
  /// By target, for volumes whose connection_info holds secrets, or is another one for the destination:
  /// {"vdb": {"connection_info": .., "disk_info"?: ..}}.
  Json connections = Json::object();
  bool dry_run = false;
  bool ask_qemu = false;     ///< What is in flight on its own disks; taints the guest.
  bool raise_pools = true;   ///< QEMU's thread pools that are too small for its disks are larger while it moves.
  bool guest_agent = false;  ///< The guest's agent may lower nr_requests of its disks while it moves.
};

/// How far a migration is.
struct MigrationStatus {
  enum class Phase { preparing, copying, held, switching_over, post_copy, settling };
  Phase phase = Phase::preparing;
  MigrationProgress progress;
  std::optional<std::chrono::microseconds> drain;     ///< What it would take now.
  std::optional<std::chrono::microseconds> downtime;  ///< The drain included.
  std::optional<std::chrono::seconds> left;           ///< Until the switchover; nullopt where it cannot be said.
};

/// "copying", "switching over".
AIOLOS_API std::string_view to_string(MigrationStatus::Phase phase);

/// Who watches a migration. Both are called in the thread that migrates, several times a second.
struct MigrationWatch {
  std::function<void(const MigrationStatus&)> show;  ///< May be empty.
  std::function<bool()> stop;                        ///< Whether to give up, e.g. after Ctrl-C; may be empty.
};

/// One disk that has moved.
struct MovedDisk {
  std::string target;
  bool engine = false;  ///< aiolos-engine does its I/O.
  std::optional<AioMode> before;
  std::optional<AioMode> after;
  std::optional<std::chrono::microseconds> drain_predicted;  ///< Before the switchover; nullopt: not known.
  std::optional<std::chrono::microseconds> drain_bound;
  std::optional<std::chrono::microseconds> drain;  ///< What it took.
  std::optional<DrainOutlook> outlook;             ///< As the source had it.
  std::vector<std::string> notes;
};

/// What came of a migration, or of its rehearsal.
struct MigrationReport {
  std::string domain;
  std::string domain_uuid;
  std::string destination;
  bool dry_run = false;
  MigrationResult result;
  std::optional<std::chrono::microseconds> downtime_predicted;
  std::vector<MovedDisk> disks;
  std::vector<std::string> notes;
};

/// {"domain", "uuid", "destination", "dry_run", "total_ms", "iterations", "downtime_ms", "downtime_predicted_us",
/// "disks": [{"target", "data_plane", "mode": {"before", "after"}, "drain_us", "drain_predicted_us", "drain_bound_us",
/// "drain_outlook", "notes"}], "notes"}; null is not known.
AIOLOS_API Json to_json(const MigrationReport& report);

/// Asks the other side one thing and waits for the answer: {"ok": ..} or {"error": ..}.
using AskPeer = std::function<Result<Json>(const Json& request)>;

/// A peer behind a pipe. What it sends holds secrets.
AIOLOS_API std::unique_ptr<MigrationPeer> remote_peer(AskPeer ask);

/// Answers what a remote_peer asks. @param peer the one that does it. @return {"ok": ..} or {"error": ..}.
AIOLOS_API Json answer_peer(MigrationPeer& peer, const Json& request);

}  // namespace aiolos
