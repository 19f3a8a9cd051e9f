// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/queue_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace aiolos {
namespace {

// Room above the knee: storage is not equally fast all the time.
constexpr double kHeadroom = 1.25;
constexpr unsigned kShallowest = 4;
// What a disk whose latency nobody knows is taken to need at the worst.
constexpr double kAssumedLatencyMs = 100;
// What one thread does, in round numbers: with more an iothread of stock QEMU is busy with submitting alone.
constexpr double kIopsPerEngine = 100'000;
// A queue is filled by one vCPU at a time; with less a second one buys nothing.
constexpr double kIopsPerQueue = 50'000;
// QEMU polls at most this long by default. Source: QEMU iothread.c, IOTHREAD_POLL_MAX_NS_DEFAULT.
constexpr std::uint64_t kPollMaxNs = 32'768;
// Storage that takes longer than this does not answer while QEMU polls.
constexpr double kPollableMs = 1.0;
// Placing the longest first is at worst 4/3 of the best there is (Graham 1969): nearer is no reason to move a disk.
constexpr double kBalanced = 4.0 / 3.0;
// virtio-scsi: QEMU's default, and the commands that fit into its queue. Source: QEMU hw/scsi/virtio-scsi.c.
constexpr unsigned kCmdPerLun = 128;
// Source: QEMU hw/scsi/virtio-scsi.c, VIRTIO_SCSI_MAX_LUN; hw/scsi/lsi53c895a.c, LSI_MAX_DEVS.
constexpr unsigned kVirtioScsiUnits = 16'384;
constexpr unsigned kNarrowUnits = 7;

bool on_pool(const PlanDisk& disk, std::optional<AioMode> mode) {
  return !disk.network && mode.value_or(AioMode::threads) == AioMode::threads;
}

unsigned power_of_two_from(unsigned value) {
  unsigned power = 1;
  while (power < value && power < kLargestQueue) power *= 2;
  return power;
}

unsigned ceiling(double value) { return static_cast<unsigned>(std::ceil(std::min(value, 1e9))); }

std::string how_deep(const DiskSpeed& speed) {
  if (!speed.iops)
    return fmt::format("how fast its storage is nobody has said: {} requests in flight, what QEMU gives one disk alone",
                       useful_depth(speed));
  return fmt::format("{:.0f} IOPS at {:g} ms{} ({}): {} requests in flight do it good", *speed.iops,
                     speed.latency_ms.value_or(kAssumedLatencyMs), speed.latency_ms ? "" : ", assumed", speed.source,
                     useful_depth(speed));
}

/// An engine while disks are placed on it.
struct Slot {
  unsigned id = kMainLoop;
  bool is_new = false;
  double load = 0;
  bool native = false;
};

/// Plans one guest, step by step.
class Planner {
 public:
  Planner(const PlanDomain& domain, const PlanHost& host, const PlanSettings& settings)
      : domain_(domain), host_(host), settings_(settings) {}

  QueuePlan plan() {
    weigh();
    open_slots();
    place_all();
    size_queues();
    size_engines();
    plan_controllers();
    count_contexts();
    return std::move(plan_);
  }

 private:
  bool is_fixed(const PlanDisk& disk) const { return domain_.running && disk.attached; }

  const PlanController* controller(unsigned index) const {
    for (const PlanController& each : domain_.controllers)
      if (each.index == index) return &each;
    return nullptr;
  }

  /// @param id of an engine that there is.
  Slot& slot(unsigned id) {
    return *std::find_if(slots_.begin(), slots_.end(), [id](const Slot& each) { return each.id == id; });
  }
  bool has_slot(unsigned id) const {
    return std::any_of(slots_.begin(), slots_.end(), [id](const Slot& each) { return each.id == id; });
  }

  /// A disk of which nothing is known weighs what the others do on average.
  void weigh() {
    double sum = 0;
    unsigned known = 0;
    for (const PlanDisk& disk : domain_.disks)
      if (disk.speed.iops) sum += *disk.speed.iops, ++known;
    const double usual = known > 0 ? sum / known : 1;
    for (const PlanDisk& disk : domain_.disks) {
      weights_.push_back(disk.speed.iops.value_or(usual));
      depths_.push_back(useful_depth(disk.speed));
    }
  }

  /// How many iothreads the guest should have, and why.
  unsigned wanted_iothreads(std::string& because) const {
    unsigned movable = 0;
    double iops = 0;
    unsigned depth = 0;
    for (std::size_t i = 0; i < domain_.disks.size(); ++i) {
      const PlanDisk& disk = domain_.disks[i];
      if (disk.bus == PlanBus::other || disk.network) continue;
      ++movable;
      iops += disk.speed.iops.value_or(0);
      depth += depths_[i];
    }
    if (movable < 2) return 0;
    const unsigned by_load = ceiling(iops / kIopsPerEngine);
    const unsigned by_events = ceiling((depth + kPoolPerDisk) / static_cast<double>(kAioEventsPerContext));
    const unsigned most = std::min({settings_.max_iothreads, std::max(1U, host_.cpus), movable});
    const unsigned wanted = std::min(most, std::max({1U, by_load, by_events}));
    because = fmt::format(
        "{} disks with {} requests in flight, and room for one more: an engine takes {} requests and "
        "about {:.0f} IOPS; this host has {} CPUs, plan.max_iothreads is {}",
        movable, depth, kAioEventsPerContext, kIopsPerEngine, host_.cpus, settings_.max_iothreads);
    return wanted;
  }

  void open_slots() {
    slots_.push_back({});
    for (const PlanEngine& engine : domain_.engines)
      if (engine.id != kMainLoop) slots_.push_back({engine.id, false, 0, false});
    std::string because;
    const unsigned wanted = host_.iothreads_are_given ? 0 : wanted_iothreads(because);
    for (unsigned id = 1; slots_.size() < wanted + std::size_t{1}; ++id) {
      if (has_slot(id)) continue;
      slots_.push_back({id, true, 0, false});
      plan_.changes.push_back({PlanChange::Kind::add_iothread, id, {}, std::nullopt, id, domain_.running, because});
    }
    std::sort(slots_.begin(), slots_.end(), [](const Slot& a, const Slot& b) { return a.id < b.id; });
  }

  void put(std::size_t index, unsigned engine, std::optional<AioMode> mode) {
    Slot& into = slot(has_slot(engine) ? engine : kMainLoop);
    into.load += weights_[index];
    into.native = into.native || (mode == AioMode::native && !domain_.disks[index].network);
    plan_.disks[index].engine = into.id;
    plan_.disks[index].mode = mode;
  }

  /// Contexts that native disks on the present slots need.
  unsigned contexts() const {
    std::vector<unsigned> engines;
    for (const Slot& each : slots_)
      if (each.native) engines.push_back(each.id);
    return native_contexts(engines);
  }

  /// Contexts that a native disk on `id` would add to what the guest has, holds already or is planned to.
  unsigned added_by(unsigned id) const {
    std::vector<unsigned> engines{id};
    for (const Slot& each : slots_)
      if (each.native && each.id != id) engines.push_back(each.id);
    const unsigned before = std::max(contexts(), domain_.contexts);
    const unsigned after = native_contexts(engines);
    return after > before ? after - before : 0;
  }

  bool fits(unsigned id) const {
    if (!host_.contexts_left) return true;
    const unsigned taken = std::max(contexts(), domain_.contexts) - domain_.contexts;
    return taken + added_by(id) <= *host_.contexts_left;
  }

  /// Where a disk may be put. SCSI disks are where their controller is, and only virtio disks can have an iothread.
  std::vector<unsigned> places(const PlanDisk& disk) const {
    if (disk.bus == PlanBus::scsi) {
      const PlanController* on = controller(disk.controller);
      const unsigned engine = on ? on->iothread.value_or(kMainLoop) : kMainLoop;
      return {has_slot(engine) ? engine : kMainLoop};
    }
    if (disk.bus == PlanBus::other || slots_.size() == 1) return {kMainLoop};
    std::vector<unsigned> ids;
    for (const Slot& each : slots_)
      if (each.id != kMainLoop) ids.push_back(each.id);
    return ids;
  }

  /// The least loaded of them; nullopt if the host has no AIO context for any.
  std::optional<unsigned> choose(const std::vector<unsigned>& ids, bool native) {
    std::optional<unsigned> best;
    for (const unsigned id : ids)
      if ((!native || fits(id)) && (!best || slot(id).load < slot(*best).load)) best = id;
    return best;
  }

  void place(std::size_t index) {
    const PlanDisk& disk = domain_.disks[index];
    std::vector<std::string>& reasons = plan_.disks[index].reasons;
    const bool native = disk.mode == AioMode::native && !disk.network;
    const std::vector<unsigned> ids = places(disk);
    if (const auto engine = choose(ids, native)) return put(index, *engine, disk.mode);
    if (disk.bus == PlanBus::virtio && fits(kMainLoop)) {
      reasons.emplace_back("on the main loop: the host has no AIO context left for an iothread (fs.aio-max-nr)");
      return put(index, kMainLoop, disk.mode);
    }
    const AioMode instead = host_.io_uring_usable ? AioMode::io_uring : AioMode::threads;
    reasons.push_back(
        fmt::format("{} in place of native: the host has no AIO context left (fs.aio-max-nr)", to_string(instead)));
    put(index, *choose(ids, false), instead);
  }

  void place_all() {
    plan_.disks.resize(domain_.disks.size());
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < domain_.disks.size(); ++i) {
      const PlanDisk& disk = domain_.disks[i];
      plan_.disks[i].target = disk.target;
      plan_.disks[i].depth = depths_[i];
      plan_.disks[i].reasons.push_back(how_deep(disk.speed));
      if (is_fixed(disk))
        put(i, disk.engine, disk.mode);
      else
        order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(),
                     [this](std::size_t a, std::size_t b) { return weights_[a] > weights_[b]; });
    for (const std::size_t index : order) place(index);
  }

  /// No deeper than the disk's knee: that costs no throughput and bounds what a drain waits for.
  void size_queues() {
    for (std::size_t i = 0; i < domain_.disks.size(); ++i) {
      const PlanDisk& disk = domain_.disks[i];
      PlannedDisk& planned = plan_.disks[i];
      planned.queues = disk.queues;
      planned.queue_size = disk.queue_size;
      if (disk.bus != PlanBus::virtio) continue;
      if (disk.speed.iops) {
        const unsigned queues =
            std::clamp(ceiling(*disk.speed.iops / kIopsPerQueue), 1U, std::clamp(domain_.vcpus, 1U, kMostQueues));
        planned.queues = queues;
        planned.queue_size = std::max(kSmallestPlannedQueue, power_of_two_from((planned.depth + queues - 1) / queues));
        planned.reasons.push_back(
            fmt::format("{} queue{} of {}: deeper than its knee gains nothing, and a drain has to "
                        "wait for all of it",
                        queues, queues == 1 ? "" : "s", *planned.queue_size));
      } else if (planned.queues && *planned.queues > std::min(domain_.vcpus, kMostQueues)) {
        planned.queues = std::clamp(domain_.vcpus, 1U, kMostQueues);
        planned.reasons.push_back(
            fmt::format("{} queues: one for each vCPU; QEMU takes at most {}", *planned.queues, kMostQueues));
      }
      if (!is_fixed(disk)) map_queues(disk, planned);
    }
  }

  /// Spreads a disk that is too fast for one iothread over several.
  void map_queues(const PlanDisk& disk, PlannedDisk& planned) {
    if (host_.iothreads.queue_mapping != true || planned.engine == kMainLoop || !disk.speed.iops) return;
    const unsigned wanted = std::min(ceiling(*disk.speed.iops / kIopsPerEngine), planned.queues.value_or(1));
    std::vector<unsigned> iothreads;
    for (const Slot& each : slots_)
      if (each.id != kMainLoop && (planned.mode != AioMode::native || each.native || fits(each.id)))
        iothreads.push_back(each.id);
    if (wanted < 2 || iothreads.size() < 2) return;
    iothreads.resize(std::min<std::size_t>(wanted, iothreads.size()));
    for (const unsigned id : iothreads) {
      planned.mapping.push_back({id, {}});
      if (planned.mode == AioMode::native) slot(id).native = true;
    }
    for (unsigned queue = 0; queue < *planned.queues; ++queue)
      planned.mapping[queue % planned.mapping.size()].queues.push_back(queue);
    planned.reasons.push_back(fmt::format("its queues are spread over {} iothreads: one does about {:.0f} IOPS",
                                          iothreads.size(), kIopsPerEngine));
  }

  PlanEngine before(unsigned id) const {
    for (const PlanEngine& engine : domain_.engines)
      if (engine.id == id) return engine;
    PlanEngine absent;
    absent.id = id;
    return absent;
  }

  void size_engines() {
    for (const Slot& each : slots_) {
      PlannedEngine engine;
      engine.id = each.id;
      engine.is_new = each.is_new;
      engine.native = each.native;
      engine.before = before(each.id);
      unsigned pooled = 0;
      std::optional<double> fastest_ms;
      bool all_known = true;
      for (std::size_t i = 0; i < domain_.disks.size(); ++i) {
        const PlannedDisk& disk = plan_.disks[i];
        if (disk.engine != each.id) continue;
        engine.disks.push_back(disk.target);
        if (on_pool(domain_.disks[i], disk.mode)) engine.threads_depth += disk.depth, ++pooled;
        if (disk.mode == AioMode::native && !domain_.disks[i].network) engine.native_depth += disk.depth;
        const auto latency = domain_.disks[i].speed.latency_ms;
        all_known = all_known && latency.has_value();
        if (latency) fastest_ms = std::min(*latency, fastest_ms.value_or(*latency));
      }
      size_pool(engine, pooled);
      size_polling(engine, all_known ? fastest_ms : std::nullopt);
      size_batch(engine);
      if (engine.native_depth > kAioEventsPerContext)
        engine.reasons.push_back(
            fmt::format("its native disks may have {} requests in flight and an AIO context takes "
                        "{}: the rest waits in QEMU",
                        engine.native_depth, kAioEventsPerContext));
      plan_.engines.push_back(std::move(engine));
    }
  }

  void size_pool(PlannedEngine& engine, unsigned pooled) {
    const unsigned present = engine.before.pool_max.value_or(kPoolPerDisk);
    engine.pool_max = std::max(kPoolPerDisk, engine.threads_depth);
    std::string because = fmt::format(
        "{} disk{} share{} this pool with {} requests in flight: with fewer threads one "
        "disk's requests wait for another's",
        pooled, pooled == 1 ? "" : "s", pooled == 1 ? "s" : "", engine.threads_depth);
    if (engine.pool_max > settings_.max_threads) {
      engine.pool_max = settings_.max_threads;
      because += fmt::format("; plan.max_threads allows {}", settings_.max_threads);
    }
    if (engine.threads_depth <= kPoolPerDisk && engine.pool_max == kPoolPerDisk)
      because = fmt::format("{} requests in flight fit into QEMU's own {} threads", engine.threads_depth, kPoolPerDisk);
    engine.pool_min = std::min(engine.before.pool_min.value_or(0), engine.pool_max);
    engine.reasons.push_back(because);
    if (engine.pool_max == present && engine.pool_min == engine.before.pool_min.value_or(0)) return;
    if (host_.iothreads.thread_pool == false) {
      plan_.notes.push_back(
          fmt::format("the pool of {} cannot be changed: that takes libvirt 8.5 and QEMU 7.1", engine_name(engine.id)));
      engine.pool_max = present;
      engine.pool_min = engine.before.pool_min.value_or(0);
      return;
    }
    const PlanChange maximum{
        PlanChange::Kind::pool_max, engine.id, {}, present, engine.pool_max, domain_.running, because};
    // QEMU refuses a minimum above the maximum at any time.
    if (engine.pool_max > present) plan_.changes.push_back(maximum);
    if (const unsigned least = engine.before.pool_min.value_or(0); engine.pool_min != least)
      plan_.changes.push_back({PlanChange::Kind::pool_min,
                               engine.id,
                               {},
                               least,
                               engine.pool_min,
                               domain_.running,
                               "a pool's minimum cannot pass its maximum"});
    if (engine.pool_max < present) plan_.changes.push_back(maximum);
  }

  void size_polling(PlannedEngine& engine, std::optional<double> fastest_ms) {
    if (engine.id == kMainLoop || !fastest_ms || engine.disks.empty()) return;
    const bool pays = *fastest_ms < kPollableMs;
    engine.poll_max_ns = pays ? kPollMaxNs : 0;
    std::string because = pays ? fmt::format("polling: its fastest storage answers in {:g} ms", *fastest_ms)
                               : fmt::format("no polling: its fastest storage takes {:g} ms, and QEMU polls for {} us",
                                             *fastest_ms, kPollMaxNs / 1000);
    engine.reasons.push_back(because);
    const std::uint64_t present = engine.before.poll_max_ns.value_or(kPollMaxNs);
    if (present != *engine.poll_max_ns)
      plan_.changes.push_back({PlanChange::Kind::poll_max_ns,
                               engine.id,
                               {},
                               present,
                               *engine.poll_max_ns,
                               domain_.running,
                               std::move(because)});
  }

  void size_batch(PlannedEngine& engine) {
    if (settings_.aio_max_batch == 0 || !engine.native) return;
    engine.aio_max_batch = settings_.aio_max_batch;
    const std::uint64_t present = engine.before.aio_max_batch.value_or(0);
    if (present != settings_.aio_max_batch)
      plan_.changes.push_back({PlanChange::Kind::aio_max_batch,
                               engine.id,
                               {},
                               present,
                               settings_.aio_max_batch,
                               domain_.running,
                               "plan.aio_max_batch says so"});
  }

  void plan_controllers() {
    for (const PlanController& present : domain_.controllers) {
      PlannedController planned;
      planned.index = present.index;
      planned.units_most = present.virtio_scsi ? kVirtioScsiUnits : kNarrowUnits;
      planned.iothread = present.iothread;
      planned.queues = present.queues;
      planned.cmd_per_lun = present.cmd_per_lun;
      unsigned deepest = 0;
      bool all_known = true;
      for (std::size_t i = 0; i < domain_.disks.size(); ++i) {
        const PlanDisk& disk = domain_.disks[i];
        if (disk.bus != PlanBus::scsi || disk.controller != present.index) continue;
        ++planned.units_used;
        deepest = std::max(deepest, depths_[i]);
        all_known = all_known && disk.speed.iops.has_value();
      }
      if (!present.virtio_scsi)
        planned.reasons.push_back(fmt::format("no virtio-scsi: it takes no iothread and {} disks", kNarrowUnits));
      else if (planned.units_used > 0)
        plan_virtio_scsi(present, planned, all_known ? std::optional(deepest) : std::nullopt);
      plan_.controllers.push_back(std::move(planned));
    }
  }

  void plan_virtio_scsi(const PlanController& present, PlannedController& planned, std::optional<unsigned> knee) {
    if (!present.iothread && slots_.size() > 1) {
      const auto least = std::min_element(slots_.begin() + 1, slots_.end(),
                                          [](const Slot& a, const Slot& b) { return a.load < b.load; });
      planned.iothread = least->id;
      planned.reasons.push_back(
          fmt::format("all {} disks of a controller share one engine: an iothread keeps them from "
                      "QEMU's main loop",
                      planned.units_used));
      plan_.changes.push_back({PlanChange::Kind::controller_iothread,
                               present.index,
                               {},
                               std::nullopt,
                               least->id,
                               false,
                               planned.reasons.back()});
    }
    if (present.queues && *present.queues > std::min(domain_.vcpus, kMostQueues)) {
      planned.queues = std::clamp(domain_.vcpus, 1U, kMostQueues);
      planned.reasons.push_back(fmt::format("{} queues: one for each vCPU", *planned.queues));
      plan_.changes.push_back({PlanChange::Kind::controller_queues,
                               present.index,
                               {},
                               present.queues,
                               *planned.queues,
                               false,
                               planned.reasons.back()});
    }
    if (!knee) return;
    planned.cmd_per_lun = std::min(*knee, kCmdPerLun);
    if (*planned.cmd_per_lun == present.cmd_per_lun.value_or(kCmdPerLun)) return;
    planned.reasons.push_back(fmt::format("its deepest disk gains nothing beyond {} requests in flight", *knee));
    plan_.changes.push_back({PlanChange::Kind::controller_cmd_per_lun,
                             present.index,
                             {},
                             present.cmd_per_lun.value_or(kCmdPerLun),
                             *planned.cmd_per_lun,
                             false,
                             planned.reasons.back()});
  }

  void count_contexts() { plan_.contexts = std::max(contexts(), domain_.running ? domain_.contexts : 0); }

  const PlanDomain& domain_;
  const PlanHost& host_;
  const PlanSettings& settings_;
  std::vector<double> weights_;
  std::vector<unsigned> depths_;
  std::vector<Slot> slots_;  // by id
  QueuePlan plan_;
};

double busiest(const QueuePlan& plan, const PlanDomain& domain, bool as_it_is) {
  std::vector<double> loads;
  for (std::size_t i = 0; i < domain.disks.size(); ++i) {
    const unsigned id = as_it_is ? domain.disks[i].engine : plan.disks[i].engine;
    if (loads.size() <= id) loads.resize(id + std::size_t{1});
    loads[id] += domain.disks[i].speed.iops.value_or(1);
  }
  return loads.empty() ? 0 : *std::max_element(loads.begin(), loads.end());
}

/// What only a restart can change: where attached disks are, and their queues.
void add_restart_changes(const PlanDomain& domain, const PlanHost& host, const PlanSettings& settings,
                         QueuePlan& plan) {
  PlanDomain stopped = domain;
  stopped.running = false;
  const QueuePlan ideal = plan_queues(stopped, host, settings);
  const bool lopsided = busiest(ideal, domain, true) > kBalanced * busiest(ideal, domain, false);
  for (std::size_t i = 0; i < domain.disks.size(); ++i) {
    const PlanDisk& disk = domain.disks[i];
    const PlannedDisk& wanted = ideal.disks[i];
    if (!disk.attached || disk.bus != PlanBus::virtio) continue;
    if (disk.engine != wanted.engine && wanted.engine != kMainLoop && (disk.engine == kMainLoop || lopsided))
      plan.changes.push_back({PlanChange::Kind::disk_iothread, disk.engine, disk.target, disk.engine, wanted.engine,
                              false,
                              disk.engine == kMainLoop ? "off QEMU's main loop, which has other work"
                                                       : "its iothread does more than its share"});
    const auto queue_change = [&](PlanChange::Kind kind, std::optional<unsigned> from, std::optional<unsigned> to) {
      if (to && from != to)
        plan.changes.push_back({kind, disk.engine, disk.target, from, *to, false, wanted.reasons.back()});
    };
    queue_change(PlanChange::Kind::disk_queues, disk.queues, wanted.queues);
    queue_change(PlanChange::Kind::disk_queue_size, disk.queue_size, wanted.queue_size);
  }
}

std::string_view kind_name(PlanChange::Kind kind) {
  if (const auto property = engine_property(kind)) return to_string(*property);
  switch (kind) {
    case PlanChange::Kind::add_iothread:
    case PlanChange::Kind::disk_iothread:
    case PlanChange::Kind::controller_iothread:
      return "iothread";
    case PlanChange::Kind::disk_queues:
    case PlanChange::Kind::controller_queues:
      return "queues";
    case PlanChange::Kind::disk_queue_size:
      return "queue_size";
    case PlanChange::Kind::controller_cmd_per_lun:
      return "cmd_per_lun";
    default:
      return {};
  }
}

template <typename T>
void put(Json& object, const char* key, const std::optional<T>& value) {
  if (value) object[key] = *value;
}

Json to_json(const PlannedEngine& engine) {
  Json before = Json::object();
  put(before, "thread_pool_min", engine.before.pool_min);
  put(before, "thread_pool_max", engine.before.pool_max);
  put(before, "poll_max_ns", engine.before.poll_max_ns);
  put(before, "aio_max_batch", engine.before.aio_max_batch);
  Json after = {{"thread_pool_min", engine.pool_min}, {"thread_pool_max", engine.pool_max}};
  put(after, "poll_max_ns", engine.poll_max_ns);
  put(after, "aio_max_batch", engine.aio_max_batch);
  return {{"engine", engine_name(engine.id)},
          {"iothread", engine.id},
          {"new", engine.is_new},
          {"disks", engine.disks},
          {"linux_aio", engine.native},
          {"requests_in_threads", engine.threads_depth},
          {"requests_native", engine.native_depth},
          {"before", std::move(before)},
          {"after", std::move(after)},
          {"reasons", engine.reasons}};
}

Json to_json(const PlannedDisk& disk) {
  Json object = {{"target", disk.target}, {"iothread", disk.engine}, {"depth", disk.depth}, {"reasons", disk.reasons}};
  object["mode"] = disk.mode ? Json(to_string(*disk.mode)) : Json(nullptr);
  put(object, "queues", disk.queues);
  put(object, "queue_size", disk.queue_size);
  for (const PlannedDisk::Share& share : disk.mapping)
    object["iothreads"].push_back({{"id", share.iothread}, {"queues", share.queues}});
  return object;
}

Json to_json(const PlannedController& controller) {
  Json object = {{"index", controller.index},
                 {"units_used", controller.units_used},
                 {"units_most", controller.units_most},
                 {"reasons", controller.reasons}};
  put(object, "iothread", controller.iothread);
  put(object, "queues", controller.queues);
  put(object, "cmd_per_lun", controller.cmd_per_lun);
  return object;
}

template <typename T>
Json list_to_json(const std::vector<T>& list) {
  Json array = Json::array();
  for (const T& each : list) array.push_back(to_json(each));
  return array;
}

}  // namespace

const PlannedDisk* QueuePlan::disk(std::string_view target) const {
  const auto found = std::find_if(disks.begin(), disks.end(), [&](const auto& each) { return each.target == target; });
  return found == disks.end() ? nullptr : &*found;
}

const PlannedEngine* QueuePlan::engine(unsigned id) const {
  const auto found = std::find_if(engines.begin(), engines.end(), [&](const auto& each) { return each.id == id; });
  return found == engines.end() ? nullptr : &*found;
}

std::string_view to_string(EngineProperty property) {
  switch (property) {
    case EngineProperty::thread_pool_min:
      return "thread_pool_min";
    case EngineProperty::thread_pool_max:
      return "thread_pool_max";
    case EngineProperty::poll_max_ns:
      return "poll_max_ns";
    case EngineProperty::aio_max_batch:
      return "aio_max_batch";
  }
  return {};
}

std::optional<EngineProperty> engine_property(PlanChange::Kind kind) {
  switch (kind) {
    case PlanChange::Kind::pool_min:
      return EngineProperty::thread_pool_min;
    case PlanChange::Kind::pool_max:
      return EngineProperty::thread_pool_max;
    case PlanChange::Kind::poll_max_ns:
      return EngineProperty::poll_max_ns;
    case PlanChange::Kind::aio_max_batch:
      return EngineProperty::aio_max_batch;
    default:
      return std::nullopt;
  }
}

std::string engine_name(unsigned id) { return id == kMainLoop ? "main loop" : fmt::format("iothread {}", id); }

std::string describe(const PlanChange& change) {
  switch (change.kind) {
    case PlanChange::Kind::add_iothread:
      return fmt::format("iothread {}", change.engine);
    case PlanChange::Kind::controller_iothread:
    case PlanChange::Kind::controller_queues:
    case PlanChange::Kind::controller_cmd_per_lun:
      return fmt::format("{} of SCSI controller {}", kind_name(change.kind), change.engine);
    default:
      break;
  }
  return fmt::format("{} of {}", kind_name(change.kind),
                     change.target.empty() ? engine_name(change.engine) : change.target);
}

unsigned useful_depth(const DiskSpeed& speed) {
  if (!speed.iops) return kPoolPerDisk;
  const double knee = *speed.iops * speed.latency_ms.value_or(kAssumedLatencyMs) / 1000;
  const unsigned depth = std::max(kShallowest, ceiling(knee * kHeadroom));
  // An assumed latency must not make of a slow disk a deep one.
  return speed.latency_ms ? std::min(depth, kLargestQueue) : std::min(depth, kPoolPerDisk);
}

unsigned native_contexts(const std::vector<unsigned>& engines) {
  const auto on_iothreads = std::count_if(engines.begin(), engines.end(), [](unsigned id) { return id != kMainLoop; });
  return engines.empty() ? 0 : 1 + static_cast<unsigned>(on_iothreads);
}

QueuePlan plan_queues(const PlanDomain& domain, const PlanHost& host, const PlanSettings& settings) {
  QueuePlan plan = Planner(domain, host, settings).plan();
  if (domain.running) add_restart_changes(domain, host, settings, plan);
  std::stable_partition(plan.changes.begin(), plan.changes.end(), [](const PlanChange& change) { return change.live; });
  return plan;
}

std::vector<QueuePlan> plan_host(const std::vector<PlanDomain>& domains, const PlanHost& host,
                                 const PlanSettings& settings) {
  std::vector<double> native_load(domains.size());
  for (std::size_t i = 0; i < domains.size(); ++i)
    for (const PlanDisk& disk : domains[i].disks)
      if (disk.mode == AioMode::native && !disk.network) native_load[i] += disk.speed.iops.value_or(1);
  std::vector<std::size_t> order(domains.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return native_load[a] > native_load[b]; });
  std::vector<QueuePlan> plans(domains.size());
  PlanHost room = host;
  for (const std::size_t index : order) {
    plans[index] = plan_queues(domains[index], room, settings);
    if (!room.contexts_left) continue;
    const unsigned more = plans[index].contexts - std::min(plans[index].contexts, domains[index].contexts);
    *room.contexts_left -= std::min(more, *room.contexts_left);
  }
  return plans;
}

unsigned contexts_of_defaults(const std::vector<PlanDomain>& domains) {
  unsigned contexts = 0;
  for (const PlanDomain& domain : domains) {
    std::vector<unsigned> engines;
    for (const PlanDisk& disk : domain.disks)
      if (disk.mode == AioMode::native && !disk.network &&
          std::find(engines.begin(), engines.end(), disk.engine) == engines.end())
        engines.push_back(disk.engine);
    contexts += std::max(native_contexts(engines), domain.contexts);
  }
  return contexts;
}

Json to_json(const PlanChange& change) {
  return {{"what", describe(change)},
          {"from", change.from ? Json(*change.from) : Json(nullptr)},
          {"to", change.to},
          {"when", change.live ? "live" : "restart"},
          {"because", change.because}};
}

Json to_json(const QueuePlan& plan) {
  return {{"engines", list_to_json(plan.engines)},
          {"disks", list_to_json(plan.disks)},
          {"controllers", list_to_json(plan.controllers)},
          {"changes", list_to_json(plan.changes)},
          {"aio_contexts", plan.contexts},
          {"notes", plan.notes}};
}

}  // namespace aiolos
