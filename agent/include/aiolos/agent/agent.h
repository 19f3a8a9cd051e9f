// SPDX-License-Identifier: Apache-2.0
// The C++ API: the flows that the `aiolos` command runs. aiolos.h has the same for other languages.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/agent/config.h"
#include "aiolos/agent/migrate.h"
#include "aiolos/core/aio_policy.h"
#include "aiolos/core/attachment.h"
#include "aiolos/core/drain_outlook.h"
#include "aiolos/core/facts.h"
#include "aiolos/core/guest_agent.h"
#include "aiolos/core/interfaces.h"
#include "aiolos/core/json_document.h"
#include "aiolos/core/migration.h"
#include "aiolos/core/queue_plan.h"
#include "aiolos/core/stock_drain.h"

namespace aiolos {

/// The version of this library, "0.1.0".
AIOLOS_API std::string_view library_version();

enum class LogLevel { debug, info, warning, error };
using LogSink = std::function<void(LogLevel, std::string_view message)>;

/// This machine, as the flows use it. Each part is made when it is first needed: computing an XML opens no connection.
class Machine {
 public:
  virtual ~Machine() = default;
  virtual Clock& clock() = 0;
  virtual CommandRunner& commands() = 0;
  virtual BlockDevices& block_devices() = 0;
  virtual MountTable& mounts() = 0;
  virtual HostProbe& host_probe() = 0;
  virtual Hypervisor& hypervisor() = 0;
  virtual SecretStore& secrets() = 0;
  virtual DataPlane& data_plane() = 0;
  virtual Migrations& migrations() = 0;
  virtual DiskStatistics& disk_statistics() = 0;
  virtual GuestAgent& guest_agent() = 0;
};

/// The real one.
AIOLOS_API std::unique_ptr<Machine> real_machine(const Config& config);

/// A decision with all that led to it and the disk that follows from it.
struct Explanation {
  AioDecision decision;
  std::optional<StorageFacts> storage;  ///< nullopt: not probed, because the source is no path of this host.
  HostFacts host;
  Attachment attachment;
  std::string xml;
  std::vector<std::string> notes;     ///< For people: what else they should know.
  std::optional<DrainOutlook> drain;  ///< At a live migration; only explain says it.
};

/// {"aio": {...}, "facts": {"storage": .., "host": ..}, "xml": ".."}
AIOLOS_API Json to_json(const Explanation& explanation);

/// One plugin found, loaded or not.
struct DriverListing {
  std::string name;
  std::string version;
  std::string summary;
  std::vector<std::string> types;
  std::vector<std::string> capabilities;
  std::string thread_model;
  std::string file;
  std::string configuration_key;  ///< Its section of the configuration; empty if it has none.
  Json configuration_defaults;    ///< The keys of that section, each with its default.
  std::optional<Error> rejected;  ///< Why it was not loaded; then only `file` is set besides.
};

/// [{"name", "version", "summary", "types", "capabilities", "thread_model", "file", "configuration": {KEY: {..}}} |
/// {"file", "rejected": {..}}]
AIOLOS_API Json to_json(const std::vector<DriverListing>& drivers);

/// One volume that the journal holds.
struct AttachmentListing {
  std::string hypervisor;  ///< Connection URI.
  std::string domain;
  std::string domain_uuid;
  std::string target;  ///< "vdb"
  std::string volume_type;
  std::string serial;
  std::string state;                    ///< "opened", "connected", "attached" or "detached": how far it has come.
  std::string since;                    ///< When its attach began: ISO 8601, UTC.
  std::vector<std::string> unfinished;  ///< Steps of which it is not known how they ended: "attach", "detach", ...
  std::vector<std::string> unfinished_effects;  ///< What drivers began in them on this host: "nfs: mount ... at ...".
  std::vector<std::string> holds;               ///< What it shares with other volumes: "nfs: mount /mnt/..".
};

/// [{"hypervisor", "domain", "domain_uuid", "target", "volume_type", "serial", "state", "since", "unfinished": [..],
/// "unfinished_effects": [..], "holds": [..]}]
AIOLOS_API Json to_json(const std::vector<AttachmentListing>& attachments);

/// What became of one volume of the journal in a reconcile.
struct ReconcileEntry {
  enum class Outcome {
    kept,      ///< The guest has the disk, as the journal says.
    finished,  ///< What was interrupted has been done.
    undone,    ///< The volume was disconnected: no guest has it.
    left,      ///< It could not be settled: see `error`.
  };
  std::string hypervisor;
  std::string domain;
  std::string domain_uuid;
  std::string target;
  std::string serial;
  Outcome outcome = Outcome::left;
  std::string reason;
  std::optional<Error> error;
};

AIOLOS_API std::string_view to_string(ReconcileEntry::Outcome outcome);

/// [{"hypervisor", "domain", "domain_uuid", "target", "serial", "outcome", "reason", "error"?}]
AIOLOS_API Json to_json(const std::vector<ReconcileEntry>& entries);

/// AioContexts that a volume has been promised and its guest's QEMU has not taken yet.
struct ReservedContexts {
  std::string domain;
  std::string domain_uuid;
  std::string target;
  unsigned contexts = 0;
  std::string since;  ///< ISO 8601, UTC.
};

/// Who has this host's Linux AIO.
struct AioBudget {
  struct Domain {
    std::string name;
    std::string uuid;
    int pid = 0;
    ProcessAio aio;
  };
  std::optional<std::uint64_t> aio_nr;      ///< sysctl fs.aio-nr, events.
  std::optional<std::uint64_t> aio_max_nr;  ///< sysctl fs.aio-max-nr, events.
  std::vector<Domain> domains;              ///< Of this hypervisor, running on this host.
  std::vector<ReservedContexts> reserved;

  /// Contexts that nobody has and nobody was promised; nullopt if the sysctls are not known.
  AIOLOS_API std::optional<std::uint64_t> contexts_left() const;
};

/// {"domains": [{"name", "uuid", "pid", "contexts", "events", "io_urings"}], "reserved": [{"domain", "uuid", "target",
/// "contexts", "events", "since"}], "contexts_left": n|null}
AIOLOS_API Json to_json(const AioBudget& budget);

/// A guest's queue plan, what of it was done, and what its QEMU really has.
struct PlanReport {
  std::string domain;
  std::string domain_uuid;
  bool running = false;
  QueuePlan plan;
  std::optional<ProcessAio> real;        ///< nullopt: its QEMU is not a process of this host.
  unsigned wanted_contexts = 0;          ///< AioContexts that its native disks ask for, by its XML.
  std::vector<std::string> differences;  ///< Where what is real is not what its XML says.
  std::vector<PlanChange> applied;       ///< In this order.
};

/// {"domain", "uuid", "running", "plan": {..}, "real": {..}|null, "differences": [..], "applied": [..]}
AIOLOS_API Json to_json(const PlanReport& report);

/// Fails if any volume was left, with what to do about the first.
AIOLOS_API Result<void> all_settled(const std::vector<ReconcileEntry>& entries);

/// {"error": {"kind", "message", "next", "where"?}}
AIOLOS_API Json to_json(const Error& error);

/// Makes the XML of many disks, one after the other, with the same memory for all. For one thread at a time; let each
/// thread have its own. libvirt's secrets are seen as they were when they were first needed.
class DiskXmlBatch {
 public:
  virtual ~DiskXmlBatch() = default;
  /// Appends the `<disk>`, as Agent::disk_xml gives it, as a JSON string. After an error `out` is as it was.
  virtual Result<void> append_json(const JsonNode& connection_info, const JsonNode& disk_info, std::string& out) = 0;
};

/// The flows. All methods may be called from several threads at once; work on the same target waits for its turn,
/// between processes too. connection_info and disk_info are Nova's and Cinder's (docs/formats.md).
class AIOLOS_API Agent {
 public:
  struct Options {
    Config config;
    LogSink log;                       ///< Empty: nothing is logged.
    std::unique_ptr<Machine> machine;  ///< Empty: the real one.
  };

  /// Loads the plugins. ErrorKind::configuration if a plugin folder or a section of the configuration can't be used.
  static Result<std::unique_ptr<Agent>> open(Options options);
  virtual ~Agent() = default;

  /// Every plugin that was found.
  virtual std::vector<DriverListing> drivers() = 0;

  /// Kernel, libvirt, QEMU, io_uring and the AIO budget of this host.
  virtual Result<HostFacts> host() = 0;

  /// What each running guest holds of the host's Linux AIO, and what is reserved by attaches that have not come so far.
  virtual Result<AioBudget> aio_budget() = 0;

  /// The `<disk>` of a volume that is connected already, or whose place can be computed. Touches nothing.
  virtual Result<std::string> disk_xml(const Json& connection_info, const Json& disk_info) = 0;

  /// For many of them, from documents that are only read. Borrows this agent.
  virtual std::unique_ptr<DiskXmlBatch> disk_xml_batch() = 0;

  /// The decision for a volume as it stands on this host. Probes, but changes nothing.
  virtual Result<Explanation> explain(const Json& connection_info, const Json& disk_info) = 0;

  /// Connects the volume and attaches it to a running guest. Doing so again gives the same answer. A failure leaves
  /// nothing connected and nothing attached.
  /// @param domain name or UUID. @param dry_run decides and checks everything, changes nothing.
  virtual Result<Explanation> attach(const std::string& domain, const Json& connection_info, const Json& disk_info,
                                     bool dry_run) = 0;

  /// Takes the disk from the guest and disconnects the volume. Done already is success.
  /// @param target "vdb". @param force also a disk that Aiolos did not attach, and data that can't be flushed.
  virtual Result<void> detach(const std::string& domain, const std::string& target, bool force) = 0;

  /// Lets the guest see a volume's new size. @param bytes a multiple of 512. @return the size it has now, in bytes.
  virtual Result<std::uint64_t> extend(const std::string& domain, const std::string& target, std::uint64_t bytes) = 0;

  /// Replaces the limits of an attached disk, on the running guest and for the guest's next start.
  /// @param qos_specs as connection_info's data.qos_specs; a key that is not there is no limit any more.
  virtual Result<void> set_qos(const std::string& domain, const std::string& target, const Json& qos_specs) = 0;

  /// A guest's queue plan: its AIO engines and queues as they are and as its disks need them. Looks only, but asks
  /// QEMU, which taints the domain.
  /// @param apply also changes what can be changed while the guest runs, in the order that QEMU needs, and plans anew.
  /// What was done before a failure stays: each change is good by itself.
  virtual Result<PlanReport> plan(const std::string& domain, bool apply) = 0;

  /// What the journal holds, oldest first: every volume that may still be connected or attached, of all hypervisors.
  /// Asks nobody else.
  virtual Result<std::vector<AttachmentListing>> attachments() = 0;

  /// Brings every volume of the journal to its end, whatever a crash, a reboot or somebody else left: an attach whose
  /// disk the guest has is finished, any other is undone, an interrupted detach is finished, and what a guest holds is
  /// kept. What other processes work on right now is left to them. One volume's error does not keep the others.
  virtual Result<std::vector<ReconcileEntry>> reconcile() = 0;

  /// Moves a running guest with the volumes that Aiolos attached to it to another host: they are connected there first,
  /// libvirt migrates, then they are disconnected here. A failure leaves the guest here with them, and nothing there;
  /// one of kind retry may also mean that it is not known where the guest is, and says so. Returns when it is over.
  /// @param peer the destination, borrowed.
  virtual Result<MigrationReport> migrate(const MigrationRequest& request, MigrationPeer& peer,
                                          const MigrationWatch& watch) = 0;

  /// The destination's side of one migration to this host. Borrows this agent.
  virtual std::unique_ptr<MigrationPeer> arrival() = 0;
};

}  // namespace aiolos
