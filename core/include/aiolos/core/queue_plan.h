// SPDX-License-Identifier: Apache-2.0
// The queue plan: how many AIO engines a guest has, which disks share each, and how large their pools and queues are.
// Pure functions of plain data; rules and sources of the numbers in docs/queue-plan.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/aio_policy.h"
#include "aiolos/core/facts.h"
#include "aiolos/core/json.h"
#include "aiolos/core/vocabulary.h"

namespace aiolos {

/// The number of the engine that is no iothread: QEMU's main loop. libvirt counts iothreads from 1.
constexpr unsigned kMainLoop = 0;

/// Threads that one engine of QEMU has at most, unless told otherwise; so also what one disk alone has.
/// Source: QEMU include/block/aio.h, THREAD_POOL_MAX_THREADS_DEFAULT.
constexpr unsigned kPoolPerDisk = 64;

/// What a virtio-blk disk may have: QEMU dies of more queues at hot plug, and refuses another size.
/// Source: QEMU include/hw/virtio/virtio.h, VIRTIO_QUEUE_MAX; hw/block/virtio-blk.c, virtio_blk_device_realize.
constexpr unsigned kMostQueues = 1024;
constexpr unsigned kLargestQueue = 1024;
/// Below it the guest could put too few segments into a request (QEMU: the queue's size less 2): large requests would
/// be split, and cost throughput.
constexpr unsigned kSmallestPlannedQueue = 32;

/// What is known of how fast a disk's storage is.
struct DiskSpeed {
  std::optional<double> iops;        ///< The most requests that it does in a second.
  std::optional<double> latency_ms;  ///< One request's time while nothing else is asked of it.
  std::string source;                ///< Who says so: "plan.storage.nfs", "its <iotune>".
};

enum class PlanBus { virtio, scsi, other };

/// A disk that a guest has, or is to get.
struct PlanDisk {
  std::string target;  ///< "vdb"
  PlanBus bus = PlanBus::virtio;
  std::optional<AioMode> mode;  ///< nullopt: one of QEMU's own clients does the I/O, or QEMU's default (threads).
  bool network = false;         ///< One of QEMU's own clients does the I/O: no pool and no AIO context.
  DiskSpeed speed;
  bool attached = true;         ///< A running guest has it: its engine and its queues stay what they are.
  unsigned engine = kMainLoop;  ///< Which serves it, if it is attached.
  unsigned controller = 0;      ///< Of a SCSI disk.
  std::optional<unsigned> queues;
  std::optional<unsigned> queue_size;
};

/// An engine that a guest has, and how it is set. An absent value: not known, or QEMU's default.
struct PlanEngine {
  unsigned id = kMainLoop;
  std::optional<unsigned> pool_min;
  std::optional<unsigned> pool_max;
  std::optional<std::uint64_t> poll_max_ns;    ///< Only of iothreads.
  std::optional<std::uint64_t> aio_max_batch;  ///< 0: QEMU's own, 32.
};

/// A SCSI controller.
struct PlanController {
  unsigned index = 0;
  bool virtio_scsi = true;
  std::optional<unsigned> iothread;
  std::optional<unsigned> queues;
  std::optional<unsigned> cmd_per_lun;
  std::optional<unsigned> max_sectors;
};

/// A guest as it is.
struct PlanDomain {
  std::string name;
  bool running = true;
  unsigned vcpus = 1;
  std::vector<PlanDisk> disks;
  std::vector<PlanEngine> engines;  ///< The main loop may be missing: then it is QEMU's default.
  std::vector<PlanController> controllers;
  unsigned contexts = 0;  ///< AioContexts of Linux AIO that its process holds now; QEMU never gives one back.
};

/// What a guest has besides its disks, as the hypervisor knows it.
struct DomainEngines {
  unsigned vcpus = 1;
  std::vector<PlanEngine> engines;  ///< The main loop first, then the iothreads; empty: not read.
  std::vector<PlanController> controllers;
  bool shared_memory = false;  ///< Another process can map the guest's memory, as vhost-user needs it.
};

/// What can be set of an engine that runs.
enum class EngineProperty { thread_pool_min, thread_pool_max, poll_max_ns, aio_max_batch };

/// libvirt's name: "thread_pool_min".
std::string_view to_string(EngineProperty property);

/// The host that a plan is for.
struct PlanHost {
  unsigned cpus = 1;
  IoThreadFacts iothreads;
  std::optional<unsigned> contexts_left;  ///< AioContexts that nobody has or has reserved; nullopt: not known.
  bool iothreads_are_given = false;       ///< Use those that a guest has, add none.
  bool io_uring_usable = false;           ///< What falls back from native may take io_uring.
};

/// The operator's part: section `plan` of the configuration.
struct PlanSettings {
  unsigned max_iothreads = 4;       ///< Of one guest.
  unsigned max_threads = 1024;      ///< Of one engine's pool.
  std::uint64_t aio_max_batch = 0;  ///< 0: QEMU's own.
};

/// A disk in the plan.
struct PlannedDisk {
  std::string target;
  unsigned engine = kMainLoop;
  std::optional<AioMode> mode;
  unsigned depth = 0;                  ///< Requests in flight that do it any good.
  std::optional<unsigned> queues;      ///< nullopt: QEMU's default, one for each vCPU.
  std::optional<unsigned> queue_size;  ///< nullopt: QEMU's default, 256.
  /// Queues by iothread, where one disk may have several (libvirt 10.0, QEMU 9.0); else empty.
  struct Share {
    unsigned iothread = 0;
    std::vector<unsigned> queues;
  };
  std::vector<Share> mapping;
  std::vector<std::string> reasons;
};

/// An engine in the plan.
struct PlannedEngine {
  unsigned id = kMainLoop;
  bool is_new = false;
  std::vector<std::string> disks;  ///< Targets.
  unsigned threads_depth = 0;      ///< Requests that its pool has to take at once.
  unsigned native_depth = 0;       ///< Requests that its AIO context has to take at once.
  bool native = false;             ///< It needs an AioContext with Linux AIO.
  PlanEngine before;
  unsigned pool_min = 0;
  unsigned pool_max = kPoolPerDisk;
  std::optional<std::uint64_t> poll_max_ns;    ///< nullopt: as it is.
  std::optional<std::uint64_t> aio_max_batch;  ///< nullopt: as it is.
  std::vector<std::string> reasons;
};

struct PlannedController {
  unsigned index = 0;
  std::optional<unsigned> iothread;
  std::optional<unsigned> queues;
  std::optional<unsigned> cmd_per_lun;
  unsigned units_used = 0;
  unsigned units_most = 0;  ///< Units that disks can have on it.
  std::vector<std::string> reasons;
};

/// One difference between what is and the plan.
struct PlanChange {
  enum class Kind {
    add_iothread,
    pool_min,
    pool_max,
    poll_max_ns,
    aio_max_batch,
    disk_iothread,
    disk_queues,
    disk_queue_size,
    controller_iothread,
    controller_queues,
    controller_cmd_per_lun,
  };
  Kind kind = Kind::pool_max;
  unsigned engine = kMainLoop;  ///< Or the controller's index.
  std::string target;           ///< Of disks.
  std::optional<std::uint64_t> from;
  std::uint64_t to = 0;
  bool live = true;  ///< Can be done to the running guest; else it takes a restart (or taking the disk out and in).
  std::string because;
};

struct QueuePlan {
  std::vector<PlannedEngine> engines;  ///< The main loop first.
  std::vector<PlannedDisk> disks;      ///< In the order that they came in.
  std::vector<PlannedController> controllers;
  std::vector<PlanChange> changes;  ///< Live ones first, in the order that QEMU needs.
  unsigned contexts = 0;            ///< AioContexts of Linux AIO that the guest holds with it.
  std::vector<std::string> notes;

  const PlannedDisk* disk(std::string_view target) const;
  const PlannedEngine* engine(unsigned id) const;
};

/// What a change sets of an engine; nullopt for one that sets something else.
std::optional<EngineProperty> engine_property(PlanChange::Kind kind);

/// "main loop", "iothread 2".
std::string engine_name(unsigned id);

/// "thread_pool_max of iothread 2", "queue_size of vdb".
std::string describe(const PlanChange& change);

/// Requests in flight beyond which a disk gives no more: IOPS x latency x 1.25, at least 4. Where less is known: what
/// one disk alone has of QEMU's threads.
unsigned useful_depth(const DiskSpeed& speed);

/// AioContexts of Linux AIO that a guest holds whose native disks are served by `engines`. The first one makes QEMU's
/// main loop open a context, whoever serves the disk; each iothread adds its own.
/// Source: QEMU 7.2 block/file-posix.c, raw_open_common and raw_attach_aio_context; seen in /proc/PID/maps.
unsigned native_contexts(const std::vector<unsigned>& engines);

/// Plans one guest. Total: every guest has a plan.
QueuePlan plan_queues(const PlanDomain& domain, const PlanHost& host, const PlanSettings& settings);

/// Plans all guests of a host together, so that they stay within its contexts: those whose native disks do the most
/// come first. @return in the order of `domains`.
std::vector<QueuePlan> plan_host(const std::vector<PlanDomain>& domains, const PlanHost& host,
                                 const PlanSettings& settings);

/// AioContexts that the guests take if each disk gets the mode and engine that it asks for, as stock QEMU does it.
unsigned contexts_of_defaults(const std::vector<PlanDomain>& domains);

/// {"what": "thread_pool_max of main loop", "from": n|null, "to": n, "when": "live"|"restart", "because": ".."}
Json to_json(const PlanChange& change);

/// {"engines": [..], "disks": [..], "controllers": [..], "changes": [..], "aio_contexts": n, "notes": [..]}
Json to_json(const QueuePlan& plan);

}  // namespace aiolos
