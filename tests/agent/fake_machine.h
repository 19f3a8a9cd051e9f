// SPDX-License-Identifier: Apache-2.0
// A machine in memory: one guest, one image, and a record of everything that was done, in order.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "aiolos/agent/agent.h"
#include "aiolos/core/base64.h"

namespace aiolos::test {

/// How the fake guest's migrations go.
struct MigrationPlan {
  unsigned ticks = 0;                        ///< How often its progress is looked at before it is over.
  std::optional<std::uint64_t> downtime_ms;  ///< That it needs: under a lower limit it goes on and on.
  std::optional<Error> fails;                ///< How it ends. After ErrorKind::retry the guest has left all the same.
  std::function<void(unsigned tick)> on_tick = [](unsigned) {};
  bool others = false;  ///< Somebody else migrates the guest.
  std::function<void(const MigrationOrder&)> arrives = [](const MigrationOrder&) {};  ///< The guest is there now.
};

struct World {
  std::vector<std::string> events;  ///< "connect", "attach vdb", ...
  std::function<void(const std::string&)> on_event = [](const std::string&) {};
  std::map<std::string, std::string> disks;  ///< XML by target.
  bool running = true;
  bool gone = false;  ///< The guest does not exist any more.
  std::optional<Error> attach_fails;
  bool failed_attach_is_gone = true;
  std::function<void()> after_attach = [] {};
  std::optional<Error> leftovers_stay;
  std::function<void()> while_releasing = [] {};
  std::optional<Error> detach_fails;
  std::optional<Error> resize_fails;
  std::optional<Error> probe_fails;
  std::optional<Error> hypervisor_fails;
  Allocation allocation = Allocation::full;
  bool o_direct = true;
  HostFacts host;
  std::chrono::system_clock::time_point wall{};
  DomainEngines engines;                     ///< As the XML has them.
  std::map<std::string, std::uint64_t> set;  ///< What was set of engines: by "0 thread_pool_max".
  std::optional<Error> set_engine_fails;
  unsigned set_engine_works = 0;  ///< So often before it fails.
  std::optional<ProcessAio> process;
  std::map<std::string, std::string> secrets;   ///< UUID by volume id.
  std::map<std::string, DataPlaneDisk> served;  ///< What the engine serves, by name.
  std::optional<Error> data_plane_fails;
  DiskDrain drain;  ///< Of every disk that the engine serves.
  /// What each request takes on the disks that QEMU serves; nullopt: libvirt counts none of them.
  std::optional<std::chrono::milliseconds> latency;
  std::optional<std::map<std::string, std::string>> guest_files;  ///< That its agent sees; nullopt: it has none.
  std::chrono::seconds agent_takes{0};                            ///< For each answer.
  bool statistics_fail = false;
  std::string agent_refuses;  ///< A command.
  MigrationPlan migration;
  std::string xml_head;                   ///< Of the guest's migratable XML, before its devices.
  std::optional<std::string> definition;  ///< The guest's persistent one.

  World() {
    host.kernel = version(6, 1);
    host.libvirt = version(9, 0);
    host.qemu = version(7, 2, 22);
    host.qemu_has_io_uring = true;
    host.io_uring_works = true;
    host.aio_nr = 0;
    host.aio_max_nr = 65536;
    host.cpus = 2;
    engines.engines.emplace_back();  // the main loop
  }
  /// Safe from several threads, as migrations are.
  void happened(const std::string& event) {
    const std::lock_guard lock(mutex);
    on_event(event);
    events.push_back(event);
  }
  std::recursive_mutex mutex;  ///< An event may have others happen.
};

/// Time that passes only when somebody sleeps.
class FakeClock : public Clock {
 public:
  explicit FakeClock(std::chrono::system_clock::time_point wall = {}) : wall_(wall) {}
  std::chrono::steady_clock::time_point now() const override { return now_; }
  std::chrono::system_clock::time_point wall() const override { return wall_; }
  void sleep_until(std::chrono::steady_clock::time_point deadline) override { now_ = std::max(now_, deadline); }

 private:
  std::chrono::steady_clock::time_point now_{};
  const std::chrono::system_clock::time_point wall_;
};

class FakeHostProbe : public HostProbe {
 public:
  explicit FakeHostProbe(World& world) : world_(world) {}
  Result<HostFacts> facts() override {
    HostFacts kernel = world_.host;
    kernel.libvirt.reset();
    kernel.qemu.reset();
    kernel.qemu_has_io_uring.reset();
    return kernel;
  }
  std::optional<ProcessAio> process_aio(int, std::string_view) override { return world_.process; }

 private:
  World& world_;
};

/// An engine that serves whatever it is told to.
class FakeDataPlane : public DataPlane {
 public:
  explicit FakeDataPlane(World& world) : world_(world) {}
  Result<std::uint64_t> serve(const DataPlaneDisk& disk) override {
    world_.happened("serve " + disk.path);
    if (world_.data_plane_fails) return tl::unexpected(*world_.data_plane_fails);
    world_.served[disk.name] = disk;
    return std::uint64_t{1} << 30;
  }
  Result<void> withdraw(const std::string& name) override {
    world_.happened("withdraw");
    if (world_.data_plane_fails) return tl::unexpected(*world_.data_plane_fails);
    world_.served.erase(name);
    return {};
  }
  Result<std::uint64_t> resize(const std::string& name) override {
    world_.happened("resize " + world_.served.at(name).path);
    return std::uint64_t{1} << 30;
  }
  Result<std::vector<DiskDrain>> drains(const std::string& group) override {
    if (world_.data_plane_fails) return tl::unexpected(*world_.data_plane_fails);
    std::vector<DiskDrain> found;
    for (const auto& [name, disk] : world_.served) {
      if (disk.group != group) continue;
      found.push_back(world_.drain);
      found.back().disk = name;
    }
    return found;
  }
  Result<void> switchover(const std::string&, bool near) override {
    world_.happened(near ? "switchover is near" : "switchover is not near");
    return {};
  }

 private:
  World& world_;
};

/// An agent with the guest's files, if there is one.
class FakeGuestAgent : public GuestAgent {
 public:
  FakeGuestAgent(World& world, Clock& clock) : world_(world), clock_(clock) {}

  Result<Json> ask(const std::string&, const std::string& command, const Json& arguments,
                   std::chrono::seconds) override {
    if (!world_.guest_files) return fail(ErrorKind::retry, "the guest has no agent", "run one");
    auto& files = *world_.guest_files;
    clock_.sleep_until(clock_.now() + world_.agent_takes);
    if (command == world_.agent_refuses) return fail(ErrorKind::refused, "the agent refuses " + command, "ask it why");
    if (command == "guest-get-disks") return disks();
    if (command == "guest-file-open") {
      open_ = arguments.at("path");
      return files.contains(open_) ? Result<Json>(Json(7)) : fail(ErrorKind::refused, "no such file: " + open_, "none");
    }
    if (command == "guest-file-read") return Json{{"count", 1}, {"buf-b64", base64_encode(files.at(open_) + "\n")}};
    if (command == "guest-file-write") {
      files[open_] = base64_decode(arguments.at("buf-b64").get<std::string>()).value();
      world_.happened(fmt::format("guest: {} = {}", open_, files[open_]));
    }
    return Json::object();
  }

 private:
  /// As the agent has them: partitions and drives as well.
  Json disks() const {
    Json list = {{{"name", "/dev/sr0"}, {"partition", false}}};
    for (const auto& [path, content] : *world_.guest_files)
      if (path.ends_with("/serial")) {
        const std::string name = path.substr(11, path.size() - 18);
        list.push_back({{"name", "/dev/" + name}, {"partition", false}});
        list.push_back({{"name", "/dev/" + name + "1"}, {"partition", true}});
      }
    return list;
  }

  World& world_;
  Clock& clock_;
  std::string open_;
};

/// Each disk that QEMU serves answers ten requests between two looks.
class FakeDiskStatistics : public DiskStatistics {
 public:
  explicit FakeDiskStatistics(World& world) : world_(world) {}
  Result<GuestCounters> look(const std::string&, bool ask_qemu) override {
    if (ask_qemu) world_.happened("ask QEMU what is in flight");
    if (world_.statistics_fail) return fail(ErrorKind::retry, "libvirt is busy", "again");
    GuestCounters seen;
    if (!world_.latency) return seen;
    reads_.requests += 10;
    reads_.time += 10 * *world_.latency;
    for (const auto& [target, disk] : world_.disks)
      if (disk.find("vhostuser") == std::string::npos) seen.disks.push_back({target, reads_, {}, {}, {}});
    return seen;
  }

 private:
  World& world_;
  RequestCount reads_;
};

/// Migrates the guest away while another thread looks on: each look at its progress is a tick.
class FakeMigrations : public Migrations {
 public:
  explicit FakeMigrations(World& world) : world_(world) {}

  Result<std::string> migratable_xml(const std::string&) override {
    std::string xml = "<domain>" + world_.xml_head + "<devices>";
    for (const auto& [target, disk] : world_.disks) xml += disk;
    return xml + "</devices></domain>";
  }
  Result<std::optional<std::string>> persistent_xml(const std::string&) override { return world_.definition; }

  Result<MigrationResult> migrate(const MigrationOrder& order) override {
    world_.happened("migrate to " + order.destination);
    std::unique_lock lock(mutex_);
    order_ = order;
    running_ = true;
    tick_ = 0;
    aborted_ = post_copy_ = held_ = false;
    limit_ms_ = order.settings.downtime_limit_ms;
    // The bound is for a test whose flow does not look.
    const bool over = changed_.wait_for(lock, std::chrono::seconds(20), [&] { return is_over(); });
    running_ = false;
    changed_.notify_all();
    if (!over) return fail(ErrorKind::bug, "nobody looked at the migration", "call progress()");
    if (aborted_) return fail(ErrorKind::hypervisor, "operation aborted: migration out: canceled by client", "again");
    const auto failure = world_.migration.fails;
    if (!failure || failure->kind == ErrorKind::retry) {
      world_.gone = true;
      world_.migration.arrives(order);
    }
    if (failure) return tl::unexpected(*failure);
    world_.happened("migrated");
    return MigrationResult{std::chrono::milliseconds(100 * tick_), world_.migration.downtime_ms, tick_};
  }

  Result<std::optional<MigrationProgress>> progress(const std::string&) override {
    std::unique_lock lock(mutex_);
    // The clock goes on with each look, and would be far ahead of a thread that has not got a processor yet.
    if (running_ && is_over()) changed_.wait_for(lock, std::chrono::seconds(20), [&] { return !running_; });
    if (!running_ && world_.migration.others) return MigrationProgress{};
    if (!running_) return std::nullopt;
    const unsigned tick = ++tick_;
    MigrationProgress now;
    now.elapsed = std::chrono::milliseconds(100 * tick);
    now.total_bytes = std::uint64_t{1} << 30;
    const unsigned all = std::max(world_.migration.ticks, 1u);
    now.remaining_bytes = now.total_bytes / all * (all - std::min(tick, all));
    now.bandwidth = now.total_bytes / all * 10;
    now.iterations = 1;
    now.downtime_ms = world_.migration.downtime_ms;
    changed_.notify_all();
    lock.unlock();  // what happens at a tick may steer it
    world_.migration.on_tick(tick);
    return now;
  }

  Result<void> set_downtime_limit(const std::string&, std::chrono::milliseconds limit) override {
    world_.happened(fmt::format("downtime limit {} ms", limit.count()));
    return steer([&] {
      limit_ms_ = static_cast<std::uint64_t>(limit.count());
      held_ = false;
    });
  }
  Result<void> set_bandwidth(const std::string&, std::uint64_t mib_s) override {
    world_.happened(fmt::format("bandwidth {} MiB/s", mib_s));
    return steer([] {});
  }
  Result<void> hold(const std::string&) override {
    world_.happened("hold");
    return steer([&] { held_ = true; });
  }
  Result<void> start_post_copy(const std::string&) override {
    world_.happened("post-copy");
    return steer([&] { post_copy_ = true; });
  }
  Result<void> abort(const std::string&) override {
    world_.happened("abort");
    return steer([&] { aborted_ = true; });
  }

  /// The last one.
  const MigrationOrder& order() const { return order_; }

 private:
  template <typename Change>
  Result<void> steer(Change change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
    return {};
  }
  bool is_over() const {
    const auto needs = world_.migration.downtime_ms;
    const bool fits = !needs || !limit_ms_ || *limit_ms_ >= *needs;
    return aborted_ || post_copy_ || (tick_ >= world_.migration.ticks && fits && !held_);
  }

  World& world_;
  std::mutex mutex_;
  std::condition_variable changed_;
  MigrationOrder order_;
  bool running_ = false;
  bool aborted_ = false;
  bool post_copy_ = false;
  bool held_ = false;
  unsigned tick_ = 0;
  std::optional<std::uint64_t> limit_ms_;
};

class FakeMachine : public Machine,
                    public CommandRunner,
                    public BlockDevices,
                    public MountTable,
                    public Hypervisor,
                    public SecretStore {
 public:
  explicit FakeMachine(World& world)
      : world_(world), probe_(world), data_plane_(world), statistics_(world), migrations_(world) {}

  Clock& clock() override { return clock_; }
  CommandRunner& commands() override { return *this; }
  BlockDevices& block_devices() override { return *this; }
  MountTable& mounts() override { return *this; }
  HostProbe& host_probe() override { return probe_; }
  Hypervisor& hypervisor() override { return *this; }
  SecretStore& secrets() override { return *this; }
  DataPlane& data_plane() override { return data_plane_; }
  FakeMigrations& migrations() override { return migrations_; }
  DiskStatistics& disk_statistics() override { return statistics_; }
  GuestAgent& guest_agent() override { return agent_; }

  Result<CommandResult> run(const Command& command) override {
    world_.happened(command.argv.front());
    return CommandResult{};
  }
  Result<StorageFacts> probe(const std::string& path, const std::string& format) override {
    if (world_.probe_fails) return tl::unexpected(*world_.probe_fails);
    LayerFacts layer;
    layer.path = path;
    layer.format = format;
    layer.allocation = world_.allocation;
    layer.o_direct = world_.o_direct;
    return StorageFacts{{layer}};
  }
  Result<std::vector<Mount>> list() override { return std::vector<Mount>{}; }
  Result<Mount> holding(const std::string&) override { return Mount{}; }
  Result<HostFacts> facts() override {
    if (world_.hypervisor_fails) return tl::unexpected(*world_.hypervisor_fails);
    return world_.host;
  }

  Result<DomainState> find_domain(const std::string& domain) override {
    if (world_.gone || (domain != "guest" && domain != "uuid-1"))
      return fail(ErrorKind::bad_input, "no domain '" + domain + "'", "none");
    return DomainState{"guest", "uuid-1", world_.running, world_.definition.has_value()};
  }
  Result<std::string> domain_xml(const std::string&) override {
    std::string xml = "<domain><devices>";
    for (const auto& [target, disk] : world_.disks) xml += disk;
    return xml + "</devices></domain>";
  }
  Result<std::optional<int>> domain_pid(const std::string&) override {
    return world_.process ? std::optional<int>(1) : std::nullopt;
  }
  Result<std::vector<DomainState>> running_domains() override {
    return std::vector<DomainState>{{"guest", "uuid-1", true, false}};
  }
  Result<DomainEngines> domain_engines(const std::string&, bool ask_qemu) override {
    if (ask_qemu) world_.happened("ask QEMU");
    DomainEngines engines = world_.engines;
    for (PlanEngine& engine : engines.engines) {
      const auto value = [&](EngineProperty property) -> std::optional<std::uint64_t> {
        const auto found = world_.set.find(fmt::format("{} {}", engine.id, to_string(property)));
        return found == world_.set.end() ? std::nullopt : std::optional(found->second);
      };
      if (const auto poll = value(EngineProperty::poll_max_ns)) engine.poll_max_ns = *poll;
      if (const auto most = value(EngineProperty::thread_pool_max)) engine.pool_max = static_cast<unsigned>(*most);
      if (const auto least = value(EngineProperty::thread_pool_min)) engine.pool_min = static_cast<unsigned>(*least);
    }
    return engines;
  }
  Result<void> add_iothread(const std::string&, unsigned id) override {
    world_.happened(fmt::format("add iothread {}", id));
    world_.engines.engines.push_back({id, {}, {}, {}, {}});
    return {};
  }
  Result<void> set_engine(const std::string&, unsigned engine, EngineProperty property, std::uint64_t value) override {
    world_.happened(fmt::format("set {} of {} to {}", to_string(property), engine, value));
    if (world_.set_engine_fails) {
      if (world_.set_engine_works == 0) return tl::unexpected(*world_.set_engine_fails);
      --world_.set_engine_works;
    }
    world_.set[fmt::format("{} {}", engine, to_string(property))] = value;
    return {};
  }
  tl::expected<void, AttachFailure> attach_disk(const std::string&, const std::string& disk_xml) override {
    const auto dev = disk_xml.find("dev='vd");
    const std::string target = disk_xml.substr(dev + 5, 3);
    world_.happened("attach " + target);
    if (world_.attach_fails) return tl::unexpected(AttachFailure{*world_.attach_fails, world_.failed_attach_is_gone});
    world_.disks[target] = disk_xml;
    world_.after_attach();
    return {};
  }
  Result<void> release_leftovers(const std::string&, const std::string&) override {
    world_.happened("release leftovers");
    world_.while_releasing();
    if (world_.leftovers_stay) return tl::unexpected(*world_.leftovers_stay);
    return {};
  }
  Result<void> detach_disk(const std::string&, const std::string&, const std::string& target,
                           std::chrono::milliseconds) override {
    world_.happened("detach " + target);
    if (world_.detach_fails) return tl::unexpected(*world_.detach_fails);
    world_.disks.erase(target);
    return {};
  }
  Result<void> resize_disk(const std::string&, const std::string& target, std::uint64_t bytes) override {
    world_.happened(fmt::format("resize {} {}", target, bytes));
    if (world_.resize_fails) return tl::unexpected(*world_.resize_fails);
    return {};
  }
  Result<void> set_iotune(const std::string&, const std::string& target,
                          const std::map<std::string, std::uint64_t>& limits, const std::string& group) override {
    std::string set;
    for (const auto& [name, value] : limits)
      if (value != 0) set += fmt::format(" {}={}", name, value);
    world_.happened(fmt::format("limit {}{}{}", target, set, group.empty() ? "" : " in " + group));
    return {};
  }
  Result<std::string> native_arguments(const std::string&) override { return std::string(); }

  Result<std::optional<std::string>> find(std::string_view usage_type, std::string_view usage_id) override {
    if (usage_type != "volume") return std::nullopt;
    const auto found = world_.secrets.find(std::string(usage_id));
    return found == world_.secrets.end() ? std::nullopt : std::optional(found->second);
  }
  Result<Secret> value(std::string_view uuid) override {
    return fail(ErrorKind::configuration, "no secret " + std::string(uuid), "define it");
  }
  Result<std::map<std::string, std::string, std::less<>>> list(std::string_view usage_type) override {
    world_.happened("list secrets");
    if (usage_type != "volume") return std::map<std::string, std::string, std::less<>>{};
    return std::map<std::string, std::string, std::less<>>(world_.secrets.begin(), world_.secrets.end());
  }

 private:
  World& world_;
  FakeHostProbe probe_;
  FakeDataPlane data_plane_;
  FakeDiskStatistics statistics_;
  FakeGuestAgent agent_{world_, clock_};
  FakeMigrations migrations_;
  FakeClock clock_{world_.wall};
};

}  // namespace aiolos::test
