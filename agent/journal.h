// SPDX-License-Identifier: Apache-2.0
// The journal: every side effect on the host is written down before it happens and again when it is done, so that a
// crash at any point can be cleaned up. SQLite in WAL mode with full sync: what `begin_step` returned from is on disk.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/agent/migrate.h"
#include "aiolos/core/interfaces.h"
#include "aiolos/core/json.h"

namespace aiolos {

/// A side effect of a flow. The spelling in the database is `to_string`'s.
enum class Step { connect, serve, attach, detach, withdraw, disconnect, extend, resize, limit };

std::string_view to_string(Step step);

/// How far a volume has come. It moves with the steps: see Journal::finish_step.
enum class AttachmentState { opened, connected, attached, detached, closed };

std::string_view to_string(AttachmentState state);

/// One volume on one guest, as the journal knows it.
struct AttachmentRecord {
  std::int64_t id = 0;
  std::string hypervisor;  ///< Connection URI: only that hypervisor can say that the guest is gone.
  std::string domain_uuid;
  std::string domain_name;
  std::string target;  ///< "vdb"
  std::string volume_type;
  std::string serial;
  Json connection_info;  ///< Without secrets: see redact().
  Json disk_info;
  Json attachment;       ///< What the driver's connect published; null before.
  std::string disk_xml;  ///< The disk as it was, or was about to be, attached; empty before.
  AttachmentState state = AttachmentState::opened;
  std::string created;  ///< When, as ISO 8601 in UTC.
};

/// AioContexts that a volume's guest needs once the volume is attached, claimed before QEMU is asked.
struct AioReservation {
  std::int64_t attachment = 0;
  std::string domain_name;
  std::string domain_uuid;
  std::string target;
  std::optional<int> pid;  ///< Of the guest's QEMU; nullopt where it is not known.
  unsigned contexts = 0;   ///< That the guest has with it, all in all.
  std::string since;       ///< ISO 8601, UTC.
};

/// A disk that its guest may have fewer requests for than before.
struct KeptQueue {
  std::int64_t id = 0;
  std::string domain_uuid;
  std::string domain_name;
  LoweredQueue queue;
};

/// What stands in a redacted connection_info in the place of a secret.
inline constexpr std::string_view kRedacted = "***";

/// `connection_info` with the values of its secrets (passwords, keys) replaced, fit for disk and log.
Json redact(const Json& connection_info);

/// Thread-safe within a process and between processes. Errors are ErrorKind::configuration (the folder or database
/// can't be used) or ErrorKind::retry (locked by another process for too long).
class Journal {
 public:
  /// Opens or creates DIR/journal.sqlite, only readable by its owner. @param dir is made if it does not exist.
  /// @param clock borrowed.
  static Result<std::unique_ptr<Journal>> open(const std::string& dir, Clock& clock);
  ~Journal();

  /// Records a new volume on a guest, in state opened. @return its id.
  Result<std::int64_t> open_attachment(const AttachmentRecord& record);

  /// Writes down the disk that is about to be attached.
  Result<void> keep_disk_xml(std::int64_t attachment, std::string_view xml);

  /// Writes down that `step` is about to happen. @return the step's id.
  Result<std::int64_t> begin_step(std::int64_t attachment, Step step);
  /// Writes down that it happened, and the state that follows; a volume that is closed holds nothing any more. @param
  /// result what to remember of it (connect: the driver's attachment).
  Result<void> finish_step(std::int64_t step, AttachmentState state, const Json& result = nullptr);
  /// Writes down that it failed and left nothing behind; the state stays.
  Result<void> fail_step(std::int64_t step, const Error& error);

  /// Steps that were begun and neither finished nor failed, oldest first: what they did is not known.
  Result<std::vector<Step>> unfinished_steps(std::int64_t attachment);

  /// What a driver writes of this volume while `step` runs. Borrows this journal. @param step from begin_step.
  std::unique_ptr<VolumeJournal> volume_journal(std::int64_t attachment, std::int64_t step);
  /// Side effects of drivers that were begun and not ended, in steps that did not succeed, oldest first.
  Result<std::vector<std::string>> unfinished_effects(std::int64_t attachment);
  /// What the volume holds of what volumes share: "nfs: mount of /srv/a".
  Result<std::vector<std::string>> held_resources(std::int64_t attachment);

  /// Claims AioContexts for a volume, in place of what it claimed before; it is given back when the volume is closed.
  Result<void> reserve_aio(std::int64_t attachment, std::optional<int> pid, unsigned contexts);
  /// What open volumes have claimed, oldest first.
  Result<std::vector<AioReservation>> aio_reservations();

  /// Writes down, before a guest's agent is asked to, that disks of a guest get fewer requests. A disk that is lowered
  /// already keeps what it had before that.
  Result<void> keep_lowered(std::string_view hypervisor, std::string_view domain_uuid, std::string_view domain_name,
                            const std::vector<LoweredQueue>& lowered);
  /// Of all guests of a hypervisor, oldest first.
  Result<std::vector<KeptQueue>> lowered_queues(std::string_view hypervisor);
  /// They are as they were. @param id KeptQueue::id.
  Result<void> forget_lowered(std::int64_t id);

  /// Writes down of all steps whose end is not known that they need no more looking after.
  Result<void> abandon_steps(std::int64_t attachment);

  /// Ends a record of which nothing is left on the host; it holds nothing any more.
  Result<void> close(std::int64_t attachment);

  /// The newest record of a target that is not closed; with `closed_too` also a closed one, if there is no other.
  Result<std::optional<AttachmentRecord>> find(std::string_view hypervisor, std::string_view domain_uuid,
                                               std::string_view target, bool closed_too = false);
  /// All records that are not closed, oldest first.
  Result<std::vector<AttachmentRecord>> open_attachments();

 private:
  class Impl;
  class VolumeEntry;
  explicit Journal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace aiolos
