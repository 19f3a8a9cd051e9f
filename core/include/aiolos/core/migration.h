// SPDX-License-Identifier: Apache-2.0
// Live migration as the flows see it: what an operator may set, what libvirt tells while it runs, and the interface to
// it that host/ implements.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/json.h"
#include "aiolos/core/result.h"

namespace aiolos {

/// What is set of a migration, from the configuration's `migration` section and the command line. What is absent stays
/// libvirt's or QEMU's own default. Source: libvirt-domain.h, virDomainMigrateFlags and VIR_MIGRATE_PARAM_*.
struct MigrationSettings {
  std::optional<std::uint64_t>
      downtime_limit_ms;  ///< The most that QEMU plans to stand still; virDomainMigrateSetMaxDowntime.
  /// The limit is reached in so many steps, as Nova's live_migration_downtime_steps; 1: at once.
  unsigned downtime_steps = 1;
  std::chrono::seconds downtime_step_delay{0};   ///< Between two of them.
  std::optional<std::uint64_t> bandwidth_mib_s;  ///< MiB/s.
  unsigned connections = 1;                      ///< More: VIR_MIGRATE_PARALLEL (multifd) with so many.
  std::vector<std::string> compression;          ///< "xbzrle", "mt", "zlib", "zstd"; libvirt says which it knows.
  bool auto_converge = false;
  std::optional<unsigned> auto_converge_initial;    ///< Percent.
  std::optional<unsigned> auto_converge_increment;  ///< Percent.
  bool post_copy = false;                           ///< Allowed; begun by start_post_copy().
  bool tls = false;
  std::string tls_destination;  ///< The name in the destination's certificate, if it is not its host's.
  bool zero_copy = false;
  bool persistent = true;  ///< The destination defines a guest that was defined on the source.
  bool unsafe = false;     ///< VIR_MIGRATE_UNSAFE: disks that libvirt does not know to be shared.
  std::string uri;         ///< Where the data go: "tcp://10.0.0.2"; empty: libvirt asks the destination.
};

/// One migration for libvirt to do, peer to peer: it goes on, or fails as a whole, without the process that asked.
struct MigrationOrder {
  std::string domain;          ///< UUID.
  std::string destination;     ///< The destination's libvirt, as the source's daemon reaches it.
  std::string xml;             ///< The guest's XML there.
  std::string persistent_xml;  ///< Of its definition there; empty: as it is.
  MigrationSettings settings;
};

/// What libvirt knows of a migration that runs. Source: virDomainGetJobStats.
struct MigrationProgress {
  std::chrono::milliseconds elapsed{0};
  std::uint64_t remaining_bytes = 0;  ///< Of memory.
  std::uint64_t total_bytes = 0;
  std::uint64_t bandwidth = 0;               ///< Bytes a second.
  std::uint64_t dirty_rate = 0;              ///< Bytes a second.
  std::uint64_t iterations = 0;              ///< Passes over the memory.
  std::optional<std::uint64_t> downtime_ms;  ///< What QEMU expects; once it is over: what it was.
};

/// A migration that came to its end.
struct MigrationResult {
  std::chrono::milliseconds total{0};
  std::optional<std::uint64_t> downtime_ms;
  std::uint64_t iterations = 0;
};

Json to_json(const MigrationProgress& progress);
Json to_json(const MigrationResult& result);

/// Migrations of this host's guests through libvirt. Safe from several threads: one is in migrate() while another
/// watches and steers.
class Migrations {
 public:
  virtual ~Migrations() = default;

  /// The XML of a running domain as another host can take it (VIR_DOMAIN_XML_MIGRATABLE).
  virtual Result<std::string> migratable_xml(const std::string& domain) = 0;
  /// Its persistent definition in the same form; nullopt if it has none.
  virtual Result<std::optional<std::string>> persistent_xml(const std::string& domain) = 0;

  /// Migrates, and returns when it is over. After a success the guest runs on the destination, and is not defined here
  /// any more unless settings.persistent is off: then its definition stays here, and nobody else has one. After an
  /// error it runs here, unless the error is ErrorKind::retry: then it is not known where.
  virtual Result<MigrationResult> migrate(const MigrationOrder& order) = 0;

  /// nullopt while no migration of it runs.
  virtual Result<std::optional<MigrationProgress>> progress(const std::string& domain) = 0;
  /// What QEMU may plan to stand still from now on. @param limit from 1 ms.
  virtual Result<void> set_downtime_limit(const std::string& domain, std::chrono::milliseconds limit) = 0;
  /// @param mib_s from 1.
  virtual Result<void> set_bandwidth(const std::string& domain, std::uint64_t mib_s) = 0;
  /// Keeps a running migration from switching over: QEMU goes on copying, but only 10 pages a second.
  /// set_downtime_limit() and set_bandwidth(), both of them, let it go; it switches over when what is left fits the
  /// limit.
  ///
  /// Call it while some MiB are left, and look more often as they get fewer. QEMU switches over, whatever the limit is,
  /// as soon as a pass finds nothing left: a limit of 1 ms alone holds a guest that writes much, and an idle one (3
  /// pages a second here) is gone in its second pass. Held, that one stays for 25 s for each MiB that was left, and by
  /// a bandwidth of 1 MiB/s, libvirt's least, for one second. Memory that is all zeros costs nothing to send: what is
  /// left may fall by 40 MiB within 20 ms, and by 136 within 300. Measured with QEMU 7.2 and an idle guest of 384 MiB:
  /// held for 25 s with 8 to 93 MiB left, then over 0.5 to 0.9 s after it was let go, with a downtime of 55 to 329 ms
  /// under a limit of 300 ms.
  virtual Result<void> hold(const std::string& domain) = 0;
  /// From now on pages are fetched after the guest has moved; the settings must have allowed it.
  virtual Result<void> start_post_copy(const std::string& domain) = 0;
  /// Ends it; the guest goes on here. None running is success.
  virtual Result<void> abort(const std::string& domain) = 0;
};

}  // namespace aiolos
