// SPDX-License-Identifier: Apache-2.0
// The AIO policy: from what a storage type permits, what was probed and what the host can do, to one mode with its
// reasons. Pure functions of plain data.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/facts.h"
#include "aiolos/core/json.h"
#include "aiolos/core/measured_profile.h"
#include "aiolos/core/vocabulary.h"

namespace aiolos {

/// A mode that was not chosen, and why: shown to operators.
struct Rejection {
  AioMode mode = AioMode::threads;
  std::string because;

  bool operator==(const Rejection&) const = default;
};

/// What a driver's `aio_mode` says of its storage. It knows the storage; cache modes, the host's versions and its
/// budget are the policy's business.
struct AioAdvice {
  bool effective = true;                             ///< false: an in-QEMU client does the I/O; `io=` has no effect.
  std::vector<AioMode> permitted{AioMode::threads};  ///< Modes that cannot harm on this storage.
  std::optional<AioMode> preferred;                  ///< One of `permitted`, where the storage has a preference.
  std::vector<std::string> reasons;                  ///< Why that preference.
  std::vector<Rejection> rejected;                   ///< Modes not permitted, and why.

  bool permits(AioMode mode) const;
};

Json to_json(const AioAdvice& advice);

/// As plugins publish it. An error names the JSON pointer that was wrong; `preferred` must be one of `permitted`.
Result<AioAdvice> aio_advice_from_json(const Json& value);

/// Advice for storage on which only allocation decides: `native` where writing allocates nothing (Allocation::full),
/// `io_uring` and `threads` everywhere. What every driver of files and local block devices uses.
/// @param facts   nullptr or empty if nothing was probed: then native is not permitted.
/// @param storage what to call it in a reason: "the image", "the NFS file".
AioAdvice advise_by_allocation(const StorageFacts* facts, std::string_view storage);

/// Advice for a block device whose array or target allocates, out of this host's sight (iSCSI, Fibre Channel): `native`
/// unless the probe found a thin layer of this host in between.
AioAdvice advise_remote_block(const StorageFacts* facts, std::string_view storage);

/// Advice for an in-QEMU network client (rbd, nbd, ...).
AioAdvice advise_network_client(std::string_view protocol);

enum class AioProfile {
  automatic,  ///< "auto": by facts.
  nova,       ///< "nova": what Nova's drivers do, bit for bit.
  measured,   ///< "measured": the fastest of what is safe by facts, where it was measured; else as automatic.
};

/// The operator's part of the decision.
struct AioSettings {
  AioProfile profile = AioProfile::automatic;
  AioMode prefer = AioMode::native;  ///< native or io_uring.
  unsigned measured_max_age = 180;   ///< Days after which a measurement is doubted; 0: never.
};

/// A host whose io_uring must not be used, as data. Ranges are half open: [from, to).
struct KnownBadIoUring {
  Version kernel_from = 0;
  Version kernel_to = 0;  ///< 0: no upper end.
  Version qemu_from = 0;
  Version qemu_to = 0;  ///< 0: no upper end.
  std::string_view what;
  std::string_view source;
  std::string_view expires;  ///< ISO date after which the row is to be looked at again.
};

/// The rows the policy uses by default.
const std::vector<KnownBadIoUring>& known_bad_io_uring();

/// Events of fs.aio-max-nr that one AioContext of QEMU takes when a disk uses `native` in it.
/// Source: QEMU block/linux-aio.c, MAX_EVENTS.
constexpr std::uint64_t kAioEventsPerContext = 1024;

/// Everything that a decision depends on.
struct AioQuestion {
  AioAdvice advice;
  std::optional<AioMode> nova_driver_io;  ///< What Nova's driver sets for this storage (profile nova).
  StorageFacts storage;                   ///< Empty chain: not probed.
  HostFacts host;
  SourceKind source = SourceKind::block;
  std::optional<CacheMode> cache;
  bool discard_unmap = false;        ///< discard=unmap
  bool detect_zeroes_unmap = false;  ///< detect_zeroes=unmap
  AioSettings settings;
  std::optional<MeasuredProfile> measured;  ///< Of this class of storage (profile measured).
  std::string unmeasured;                   ///< Why there is none.
  std::chrono::sys_days today{};            ///< For the age of what was measured.
  /// AioContexts that this disk would be the first native disk of: 1 for a guest without one, 0 if the guest's main
  /// loop has one already.
  unsigned new_contexts = 1;
  std::uint64_t reserved_events = 0;  ///< Of fs.aio-max-nr, claimed by other attaches and not taken by QEMU yet.
};

/// The decision, with all that led to it.
struct AioDecision {
  std::optional<AioMode> mode;  ///< nullopt: emit no `io=` at all.
  std::vector<std::string> reasons;
  std::vector<Rejection> rejected;
  std::vector<std::string> warnings;  ///< What an operator should see to; the mode is right as far as is known.
};

/// {"mode": ..|null, "reasons": [..], "rejected": [{"mode","because"}]}
Json to_json(const AioDecision& decision);

/// Decides. Total: every question has an answer. Rules in docs/aio-policy.md.
AioDecision decide_aio(const AioQuestion& question);

/// The mode of decide_aio, where nobody asks why.
std::optional<AioMode> decide_aio_mode(const AioQuestion& question);

/// The mode that profile nova decides for, where nobody asks why: the driver's own, or threads instead of native where
/// the cache mode has no O_DIRECT.
/// Source: Nova 26, virt/libvirt/driver.py, LibvirtDriver._set_cache_mode (a missing cache mode passes there).
std::optional<AioMode> mode_as_nova(std::optional<AioMode> nova_driver_io, std::optional<CacheMode> cache);

/// Whether this host can use io_uring at all, by rule 5 without the operator's wish. What is not known does not hold.
bool io_uring_usable(const HostFacts& host);

/// decide_aio with another table of bad hosts; for tests.
AioDecision decide_aio(const AioQuestion& question, const std::vector<KnownBadIoUring>& known_bad);

}  // namespace aiolos
