// SPDX-License-Identifier: Apache-2.0
// Attach, detach, extend, plan and reconcile: each goes one way, from connection_info to the guest, and writes every
// side effect to the journal before it happens. What went before a failure is undone, but a volume is only disconnected
// when it is certain that no guest has it.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "aiolos/agent/agent.h"
#include "aiolos/agent/migrate.h"
#include "decider.h"
#include "guest_disks.h"
#include "journal.h"

namespace aiolos {

class GuestQueues;

/// Whether the disk at a record's target may be the record's. While an attach or detach is unfinished it may as well be
/// somebody else's: then only the very image is.
bool may_be_of(const AttachmentRecord& record, const disk::DiskConfig& live);

/// How long a migration waits for a reconcile to be done with its guest.
constexpr std::chrono::seconds kMigrationLockTimeout{10};

/// Refuses a hypervisor that can neither send a guest nor take one in. @param uri its connection.
Result<void> check_can_migrate(const std::string& uri);

/// Borrows all it is given. Safe from several threads; work on one target waits for its turn.
class AttachmentFlows {
 public:
  /// @param hypervisor_uri what the machine's hypervisor is connected to: part of a record's identity.
  AttachmentFlows(const Config& config, std::string hypervisor_uri, Machine& machine, const Registry& registry,
                  const Decider& decider, HostLocks& locks, const LogSink& log);

  // See Agent for all of them.
  Result<Explanation> attach(const std::string& domain, const Json& connection_info, const Json& disk_info,
                             bool dry_run);
  Result<void> detach(const std::string& domain, const std::string& target, bool force);
  Result<std::uint64_t> extend(const std::string& domain, const std::string& target, std::uint64_t bytes);
  Result<void> set_qos(const std::string& domain, const std::string& target, const Json& qos_specs);
  Result<PlanReport> plan(const std::string& domain, bool apply);
  Result<AioBudget> aio_budget();
  Result<std::vector<AttachmentListing>> attachments();
  Result<std::vector<ReconcileEntry>> reconcile();
  Result<MigrationReport> migrate(const MigrationRequest& request, MigrationPeer& peer, const MigrationWatch& watch);
  std::unique_ptr<MigrationPeer> arrival();

 private:
  /// A volume that is connected and written down.
  struct Connected {
    std::int64_t id = 0;
    Attachment attachment;
  };
  /// Why an attach failed, and whether the guest certainly has nothing of the disk.
  using AttachResult = tl::expected<Explanation, AttachFailure>;

  /// Whether there is a journal at all: looking makes none.
  bool has_journal() const;
  Result<Journal*> journal();
  using Lock = std::unique_ptr<HostLocks::Held>;
  /// Null where the driver needs none.
  Result<Lock> lock_target(Driver& driver, const Json& connection_info);
  Result<Lock> lock_disk(const std::string& domain_uuid, const std::string& target);
  /// Who has it settles that guest's volumes by itself. ErrorKind::retry if another has it.
  Result<Lock> lock_migration(const std::string& domain_uuid,
                              std::chrono::milliseconds timeout = kMigrationLockTimeout);
  static std::string disk_lock_key(const std::string& domain_uuid, const std::string& target);
  Result<GuestDisks> guest_disks(const std::string& domain);
  Result<DomainState> running_domain(const std::string& domain);
  Result<std::optional<AttachmentRecord>> find_record(const std::string& domain_uuid, const std::string& target,
                                                      bool closed_too = false);

  Result<Connected> connect(const Volume& volume, const DomainState& domain, const Json& disk_info);
  Error undo_connect(std::int64_t id, const Volume& volume, Error error);
  Result<void> disconnect(std::int64_t id, Driver& driver, const Json& connection_info, const Attachment* attachment,
                          bool force);
  /// The same where the caller has the target's lock.
  Result<void> disconnect_locked(std::int64_t id, Driver& driver, const Json& connection_info,
                                 const Attachment* attachment, bool force);
  /// A decision for one guest, and what aiolos-engine is to serve for it.
  struct Decided {
    Explanation explanation;
    std::optional<DataPlaneDisk> served;
  };
  /// @param id of the volume's record; nullopt for a rehearsal.
  Result<Decided> decide(const Volume& volume, const Attachment& attachment, const DomainState& domain,
                         const GuestDisks& guest, std::optional<std::int64_t> id);
  Result<void> check_path_free(const Volume& volume, const DomainState& domain, const Attachment& attachment);
  Result<void> serve(std::int64_t id, const DataPlaneDisk& disk);
  /// Of a disk that its guest has no more. @param force goes on if the engine cannot be asked.
  Result<void> withdraw(const AttachmentRecord& record, bool force);
  AttachResult attach_connected(const Volume& volume, const DomainState& domain, const Connected& connected,
                                const GuestDisks& guest);
  Error undo_attach(const Volume& volume, const DomainState& domain, const Connected& connected, AttachFailure failure);
  Result<Explanation> rehearse_attach(const Volume& volume, const DomainState& domain, const GuestDisks& guest);
  /// The answer for a target that the journal holds already; nullopt once it is free for a new attach.
  Result<std::optional<Explanation>> settle_earlier(const Volume& volume, const DomainState& domain,
                                                    const Json& disk_info, const GuestDisks& guest);
  Result<Explanation> answer_again(const Volume& volume, const AttachmentRecord& record, const GuestDisks& guest);
  /// Fails with ErrorKind::retry while a detach is under way of which the guest has not said how it ends.
  Result<void> check_not_leaving(const AttachmentRecord& record);
  /// Finishes what a crash interrupted: the disk is there, and only the journal did not hear of it.
  Result<void> adopt(const AttachmentRecord& record);

  Result<void> verify_record(const AttachmentRecord& record);
  Result<void> detach_disk(const AttachmentRecord& record, const disk::DiskConfig& disk);
  /// Disconnects a volume whose disk the guest does not show, once QEMU holds nothing of it.
  Result<void> disconnect_record(const AttachmentRecord& record, bool leftovers_possible, bool force);
  Result<void> detach_from_gone(const std::string& name, const std::string& target, bool force, const Error& gone);
  // What becomes of one volume in reconcile(), and why.
  using Settled = Result<std::pair<ReconcileEntry::Outcome, std::string>>;
  Settled settle(const AttachmentRecord& listed);
  /// The same where the caller has the lock of the guest's migration.
  Settled settle_disk(const AttachmentRecord& listed);
  /// reconcile() of one guest, by who has the lock of its migration.
  Result<std::vector<ReconcileEntry>> settle_guest(const std::string& domain_uuid);
  using Settle = Settled (AttachmentFlows::*)(const AttachmentRecord&);
  std::vector<ReconcileEntry> settle_all(const std::vector<AttachmentRecord>& records, Settle bring_to_end);
  /// Open records of one guest of this hypervisor, oldest first.
  Result<std::vector<AttachmentRecord>> records_of(const std::string& domain_uuid);
  /// Reservations that were made while the guest was on another host get its process, which can be looked at now.
  Result<void> name_process(const std::string& domain_uuid);
  Settled settle_attached(const AttachmentRecord& record, const disk::DiskConfig& disk);
  Settled keep(const AttachmentRecord& record, std::string reason);
  Settled undo(const AttachmentRecord& record, bool leftovers_possible, std::string reason);

  /// Which disks the guest's agent may lower for a migration, and to what; asks it what they have. @param notes why
  /// others are not.
  std::vector<LoweredQueue> queues_to_lower(const DomainState& domain, const std::vector<AttachmentRecord>& records,
                                            std::vector<std::string>& notes);
  /// Before they are lowered, on both hosts.
  Result<void> keep_lowered(const std::string& domain_uuid, const std::string& domain_name,
                            const std::vector<LoweredQueue>& lowered);
  void lower_queues(const std::string& domain_uuid, const std::vector<LoweredQueue>& lowered,
                    std::vector<std::string>& notes);
  /// What the journal has of a guest: puts it back if the guest is here, and forgets it.
  Result<std::vector<ReconcileEntry>> put_back_queues(const std::string& domain_uuid);
  void put_back_queues(const std::string& domain_uuid, std::vector<std::string>& notes);
  static Result<void> put_back_queue(GuestQueues& queues, const LoweredQueue& lowered);
  /// The same of all guests that nobody moves.
  Result<std::vector<ReconcileEntry>> settle_queues();

  /// A disk that Aiolos attached to a running guest, which nobody else changes meanwhile.
  struct AttachedDisk {
    Lock lock;
    AttachmentRecord record;
  };
  Result<AttachedDisk> lock_attached(const std::string& name, const std::string& target);

  class NewDisk;
  class EngineDisk;
  class Arrival;
  class Departure;
  /// AioContexts of this host that open volumes have claimed and their guests have not taken yet.
  Result<std::vector<ReservedContexts>> outstanding_reservations();

  /// A guest as the queue plan sees it.
  struct PlannedGuest {
    PlanDomain domain;
    std::optional<int> pid;
    std::optional<ProcessAio> real;
    std::vector<std::string> served;  ///< Targets of disks whose I/O aiolos-engine does.
  };
  /// @param ask_qemu as Hypervisor::domain_engines.
  Result<PlannedGuest> planned_guest(const DomainState& domain, bool ask_qemu);
  Result<PlanHost> plan_host_facts();
  /// @param reserved events of fs.aio-max-nr that others have claimed.
  static PlanHost plan_host_of(const HostFacts& facts, std::uint64_t reserved);
  Result<PlanReport> plan_once(const DomainState& domain);
  /// The types of a guest's volumes by target, as far as the journal knows them.
  Result<std::map<std::string, std::string>> volume_types(const std::string& domain_uuid);
  struct Pool {
    unsigned wanted = 0;
    unsigned has = kPoolPerDisk;  ///< By the XML, else QEMU's own.
  };
  using Pools = std::map<unsigned, Pool>;
  /// The pools that a guest's engines need, by engine, from what its XML says; nothing where attach and detach are not
  /// to plan.
  Result<Pools> planned_pools(const DomainState& domain);
  /// The same, whether or not attach and detach plan.
  Result<Pools> wanted_pools(const DomainState& domain);
  /// Whether the guest needs pools that QEMU would not give it by itself.
  Result<bool> needs_larger_pools(const DomainState& domain);
  /// For the time of a migration: raises the pools that are too small for what is in flight, which a drain would wait
  /// for one after another. A failure costs no migration; notes say what was done. @return what put_back_pools takes.
  std::vector<PlanChange> raise_pools(const DomainState& domain, std::vector<std::string>& notes);
  /// One that somebody else has set to another size meanwhile is left.
  void put_back_pools(const DomainState& domain, const std::vector<PlanChange>& raised,
                      std::vector<std::string>& notes);
  /// After an attach: raises the pools that are too small for the disks that share them. A failure costs no attach;
  /// notes say what was done and what was not.
  void grow_pools(const DomainState& domain, std::vector<std::string>& notes);
  /// After a detach: gives back what a pool was raised to for the disk that went. One that somebody else has set to
  /// another size is left. @param before what planned_pools gave while the guest still had the disk.
  void shrink_pools(const DomainState& domain, const Pools& before);
  /// Makes those of the changes of a new plan that `wanted` picks. @param done gets what was done, after an error too.
  Result<void> replan(const DomainState& domain, const std::function<bool(const PlanChange&, const QueuePlan&)>& wanted,
                      std::vector<PlanChange>& done);
  Result<void> apply_change(const std::string& domain_uuid, const PlanChange& change);
  /// QEMU is asked for its pools, which taints the guest, only where they are not.
  static bool are_enough(const Pools& pools);

  Error unknown_disk(const DomainState& domain, const std::string& target, const GuestDisks& guest);
  Result<std::uint64_t> extend_storage(const AttachmentRecord& record, std::uint64_t bytes);
  /// Refuses a volume that another guest has, unless it may be shared.
  Result<void> check_not_elsewhere(const Volume& volume, const DomainState& domain);
  Result<void> resize_disk(const AttachmentRecord& record, std::uint64_t bytes);

  const Config& config_;
  const std::string hypervisor_uri_;
  Machine& machine_;
  const Registry& registry_;
  const Decider& decider_;
  HostLocks& locks_;
  const LogSink& log_;
  std::mutex journal_mutex_;
  std::unique_ptr<Journal> journal_;
};

}  // namespace aiolos
