// SPDX-License-Identifier: Apache-2.0
// The outside, as core, drivers and flows see it. host/ implements these on the real machine; tests mock them.
// All are safe to call from several threads at once unless a method says otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/facts.h"
#include "aiolos/core/queue_plan.h"
#include "aiolos/core/result.h"

namespace aiolos {

/// Time for deadlines and journal entries.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Monotonic.
  virtual std::chrono::steady_clock::time_point now() const = 0;
  /// Wall clock, for records that people read.
  virtual std::chrono::system_clock::time_point wall() const = 0;
  virtual void sleep_until(std::chrono::steady_clock::time_point deadline) = 0;
};

/// A secret value. Cannot be printed, logged, compared or converted by accident; wiped when it goes.
class Secret {
 public:
  explicit Secret(std::string value) : value_(std::move(value)) {}
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret();

  /// The bytes, for handing to a process's standard input or to libvirt.
  std::string_view reveal() const { return value_; }

 private:
  std::string value_;
};

struct Command {
  std::vector<std::string> argv;              ///< argv[0] is looked up in a fixed PATH.
  std::string input;                          ///< Standard input; the only way for a secret.
  std::chrono::milliseconds timeout{30'000};  ///< Then the process group is killed.
};

struct CommandResult {
  int status = 0;  ///< Exit status; 128 + N if signal N ended it.
  std::string output;
  std::string errors;
  std::chrono::milliseconds took{0};
};

/// Runs commands: no shell, LC_ALL=C, own process group, bounded time and output.
class CommandRunner {
 public:
  virtual ~CommandRunner() = default;
  /// @return the result whatever its exit status. ErrorKind::configuration if the program does not exist (naming the
  /// package to install where known), ErrorKind::retry if it overran its time.
  virtual Result<CommandResult> run(const Command& command) = 0;
};

struct Mount {
  std::string source;
  std::string target;
  std::string fstype;
  std::string options;
};

/// Locks between all processes and threads of this host.
class HostLocks {
 public:
  /// A lock that is held until this goes.
  class Held {
   public:
    virtual ~Held() = default;
  };
  virtual ~HostLocks() = default;
  /// @param key any text. @return ErrorKind::retry if another holds it for longer than `timeout`.
  virtual Result<std::unique_ptr<Held>> acquire(std::string_view key, std::chrono::milliseconds timeout) = 0;
};

/// The journal of one volume while one of its driver's verbs runs. What these return from is on disk. For one thread.
class VolumeJournal {
 public:
  virtual ~VolumeJournal() = default;
  /// Before a side effect on this host. @param what for people. @return its id.
  virtual Result<std::int64_t> begin_effect(std::string_view what) = 0;
  /// After it.
  virtual Result<void> end_effect(std::int64_t effect) = 0;
  /// The volume uses `resource`, which it shares with others; again is once.
  virtual Result<void> hold(std::string_view resource) = 0;
  /// It does no longer; not held is success.
  virtual Result<void> release(std::string_view resource) = 0;
  struct Holders {
    bool held = false;       ///< By this volume.
    std::size_t others = 0;  ///< How many other volumes of this host hold it.
  };
  virtual Result<Holders> holders(std::string_view resource) = 0;
};

/// The host's mount table.
class MountTable {
 public:
  virtual ~MountTable() = default;
  /// All mounts of this process's namespace, in mount order. Source: /proc/self/mountinfo.
  virtual Result<std::vector<Mount>> list() = 0;
  /// The mount that holds `path`, by longest prefix; never touches the file system below it.
  virtual Result<Mount> holding(const std::string& path) = 0;
};

/// Block devices and images on this host. Only reads.
class BlockDevices {
 public:
  virtual ~BlockDevices() = default;
  /// Probes an image and its backing chain, or a block device.
  /// @param path   absolute. @param format "raw", "qcow2", ... as the attachment has it; never guessed from content.
  /// @return facts, outermost layer first. ErrorKind::storage if it does not exist or can't be read,
  /// ErrorKind::bad_input if the content is not of `format`.
  virtual Result<StorageFacts> probe(const std::string& path, const std::string& format) = 0;
};

/// Finds secrets that libvirt keeps. QEMU gets their values from libvirt; here they are only read to try them before a
/// guest depends on them.
class SecretStore {
 public:
  virtual ~SecretStore() = default;
  /// The UUID of the secret with this usage, if any.
  /// @param usage_type "volume", "ceph", "iscsi", ... @param usage_id e.g. the volume's id.
  virtual Result<std::optional<std::string>> find(std::string_view usage_type, std::string_view usage_id) = 0;
  /// The value of the secret with this UUID, as bytes. ErrorKind::configuration if there is no such secret, it has no
  /// value, or libvirt does not give it out (private='yes').
  virtual Result<Secret> value(std::string_view uuid) = 0;
  /// The UUIDs of all secrets with a usage of this type, by their usage's id.
  virtual Result<std::map<std::string, std::string, std::less<>>> list(std::string_view usage_type) = 0;
};

/// A running or defined guest, by name or UUID.
struct DomainState {
  std::string name;
  std::string uuid;
  bool running = false;
  bool persistent = false;
};

/// Why a disk was not attached, and what is left of the attempt.
struct AttachFailure {
  Error error;
  /// Nothing is left: neither the live XML, nor the persistent definition, nor QEMU has anything of the disk; or
  /// nothing was begun (no such domain, not running, no connection). Only then may its volume be disconnected. False
  /// also where that can't be known: the connection was lost, libvirt did not answer, taking the disk back failed; and
  /// if the target is taken, for that may be the same disk.
  bool gone = false;
};

/// The hypervisor: libvirt. Every call opens or reuses one connection; each may take as long as libvirt does unless a
/// deadline is given.
class Hypervisor {
 public:
  virtual ~Hypervisor() = default;

  /// Versions and abilities; fills what only the hypervisor knows (libvirt, qemu, qemu_has_io_uring).
  virtual Result<HostFacts> facts() = 0;

  /// ErrorKind::bad_input if there is no such domain.
  virtual Result<DomainState> find_domain(const std::string& domain) = 0;

  /// The live XML of a running domain, the persistent one of another.
  virtual Result<std::string> domain_xml(const std::string& domain) = 0;

  /// Process id of a running domain's QEMU; nullopt where it can't be known.
  virtual Result<std::optional<int>> domain_pid(const std::string& domain) = 0;

  /// Attaches a disk to the running domain, and to its persistent definition if it has one. A failure takes back what
  /// it did as far as it can, and says whether that is certain. Leftovers of other attaches that were cut off, which
  /// stand in the way of any disk on that guest, are removed if nothing uses them, and libvirt is asked again.
  virtual tl::expected<void, AttachFailure> attach_disk(const std::string& domain, const std::string& disk_xml) = 0;

  /// Makes sure that QEMU of a running domain holds nothing of a disk that the live XML does not show: what a process
  /// leaves behind that ends (SIGKILL) or loses its connection between libvirt's commands to QEMU. Call it before a
  /// volume is disconnected whose attaching was begun and whose disk the live XML does not show.
  /// @param disk_xml as it was, or would have been, given to attach_disk. @return success if nothing is held (any
  /// more), or if the domain is not running. A device that holds it is unplugged, for which the guest has some seconds.
  /// ErrorKind::bad_input if there is no such domain, or if the live XML does show the disk (that is for detach_disk);
  /// ErrorKind::retry naming the image if QEMU holds it still, or the disk if the live XML shows it now (a daemon goes
  /// on with the attach of a client that was killed); otherwise whatever kept QEMU from being asked. After any failure
  /// the volume must stay connected.
  virtual Result<void> release_leftovers(const std::string& domain, const std::string& disk_xml) = 0;

  /// Detaches the disk and waits until the guest has released it (libvirt's device-removed event), asking again as
  /// guests need. Success if there is no such disk.
  /// @param disk_xml the disk as the live XML has it. @return ErrorKind::retry if the guest did not release it in time.
  virtual Result<void> detach_disk(const std::string& domain, const std::string& disk_xml, const std::string& target,
                                   std::chrono::milliseconds timeout) = 0;

  /// Tells QEMU the disk's new size. @param bytes a multiple of 512.
  virtual Result<void> resize_disk(const std::string& domain, const std::string& target, std::uint64_t bytes) = 0;

  /// Replaces all throttling limits of a running domain's disk, and those of its persistent definition if it has one.
  /// @param limits by the names of libvirt's <iotune>, in their units; 0 is no limit, and so is a name that is not
  /// given.
  /// @param group throttle group whose disks of the domain share the limits; empty leaves the disk in the group it is
  /// in, which libvirt can change but not take away.
  virtual Result<void> set_iotune(const std::string& domain, const std::string& target,
                                  const std::map<std::string, std::uint64_t>& limits, const std::string& group) = 0;

  /// Every domain that runs.
  virtual Result<std::vector<DomainState>> running_domains() = 0;

  /// vCPUs, engines and SCSI controllers of a domain, as its XML has them.
  /// @param ask_qemu of a running domain also what only QEMU knows: what was set live, polling, batches, the main
  /// loop's pool. It marks the domain as tainted ("custom-monitor"), which operators may see.
  virtual Result<DomainEngines> domain_engines(const std::string& domain, bool ask_qemu) = 0;

  /// Adds an iothread to a running domain, and to its persistent definition if it has one. ErrorKind::bad_input if it
  /// has one of that number. @param id from 1.
  virtual Result<void> add_iothread(const std::string& domain, unsigned id) = 0;

  /// Sets one property of an engine of a running domain; pools of iothreads also in its persistent definition, if that
  /// has the iothread. What only QEMU can do is asked of it, which taints the domain: batches, and all of the main
  /// loop.
  /// @param engine kMainLoop or an iothread. @param value threads, ns or requests. QEMU refuses a minimum above the
  /// maximum at any time: raise the maximum first.
  virtual Result<void> set_engine(const std::string& domain, unsigned engine, EngineProperty property,
                                  std::uint64_t value) = 0;

  /// QEMU's command line for a domain's XML; for tests of what a disk becomes.
  virtual Result<std::string> native_arguments(const std::string& domain_xml) = 0;
};

/// A disk for aiolos-engine to serve.
struct DataPlaneDisk {
  std::string name;    ///< Unique on the host.
  std::string path;    ///< A raw file or a block device.
  std::string socket;  ///< Where QEMU connects.
  std::string group;   ///< The guest, whose disks stop together.
  std::string serial;
  AioMode aio = AioMode::threads;
  bool read_only = false;
  bool direct = true;   ///< O_DIRECT.
  unsigned queues = 1;  ///< Rings that it offers.
};

/// What drains of a disk take, as aiolos-engine knows it.
struct DiskDrain {
  std::string disk;                       ///< DataPlaneDisk::name.
  std::chrono::microseconds forecast{0};  ///< Now.
  std::chrono::microseconds bound{0};     ///< At most, while the guest migrates; 0: there is no bound.
  bool stopped = false;                   ///< Its guest has been stopped, or is being.
  std::uint64_t count = 0;                ///< Drains so far.
  std::chrono::microseconds last{0};      ///< What the last one took.
};

/// The host's aiolos-engine. Every call has a bound: ErrorKind::retry names the daemon's socket if it does not answer.
class DataPlane {
 public:
  virtual ~DataPlane() = default;
  /// Serves a disk, and again after a restart of the daemon. A disk of that name that is served already, which an
  /// earlier call may have left, is taken away first, unless it is the same. @return its size in bytes.
  virtual Result<std::uint64_t> serve(const DataPlaneDisk& disk) = 0;
  /// Serves it no more, once nothing of it is in flight; unknown is success.
  virtual Result<void> withdraw(const std::string& name) = 0;
  /// Looks at the disk's size again and tells its guest. @return bytes.
  virtual Result<std::uint64_t> resize(const std::string& name) = 0;
  /// What drains of a guest's disks take; empty if it serves none of them.
  virtual Result<std::vector<DiskDrain>> drains(const std::string& group) = 0;
  /// Whether the guest is about to be stopped: then its disks take less. Takes effect with the guest's first disk that
  /// migrates; a guest that it does not know is success.
  virtual Result<void> switchover(const std::string& group, bool near) = 0;
};

/// What this host's kernel says: versions, sysctls, io_uring. Only reads.
class HostProbe {
 public:
  virtual ~HostProbe() = default;
  virtual Result<HostFacts> facts() = 0;

  /// What a process of this host has of AIO. @param argument what its command line must hold, for the number may be
  /// another process's by now. @return nullopt if there is no such process.
  virtual std::optional<ProcessAio> process_aio(int pid, std::string_view argument) = 0;
};

}  // namespace aiolos
