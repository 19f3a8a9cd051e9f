// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/migrations.h"

#include <fmt/format.h>

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <utility>

#include "libvirt_connection.h"
#include "libvirt_error.h"
#include "migration_job.h"
#include "qemu_monitor.h"
#include "signal_block.h"
#include "typed_parameters.h"

namespace aiolos {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

// The event with a job's numbers is sent before the call that ran the job returns, but comes on another thread.
constexpr milliseconds kEvent{2'000};
// libvirt has told its caller that it failed before it has let the guest go on.
constexpr milliseconds kResume{5'000};
constexpr milliseconds kLookAgain{50};

// What a held migration copies at: one page in each of the windows of 100 ms that QEMU counts in. Less is not possible:
// a page always gets through, and what comes to 0 in a window is no limit. libvirt's own least is 1 MiB/s. Source: QEMU
// migration/migration.c, XFER_LIMIT_RATIO and migration_iteration_run.
constexpr std::uint64_t kHeldBandwidth = 10 * 4096;
constexpr milliseconds kHeldDowntime{1};

/// What the event thread tells the one in migrate(). Both own it: a callback may run while it is being deregistered.
struct Completion {
  std::mutex mutex;
  std::condition_variable came;
  std::optional<JobFields> fields;
};
using SharedCompletion = std::shared_ptr<Completion>;

void on_completed(virConnectPtr, virDomainPtr, virTypedParameterPtr parameters, int count, void* opaque) {
  Completion& completion = **static_cast<SharedCompletion*>(opaque);
  const std::lock_guard lock(completion.mutex);
  completion.fields = job_fields(parameters, count);
  completion.came.notify_all();
}

void release(void* opaque) { delete static_cast<SharedCompletion*>(opaque); }

/// Waits for a domain's job to be over. Statistics of one that is over could be asked for as well, but not of a guest
/// that is not defined here and has left.
class CompletionWatch {
 public:
  CompletionWatch(const LibvirtConnection::Open& libvirt, virDomainPtr domain)
      : libvirt_(libvirt), completion_(std::make_shared<Completion>()) {
    auto* opaque = new SharedCompletion(completion_);
    id_ = libvirt_.api->virConnectDomainEventRegisterAny(libvirt_.connection, domain, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
                                                         VIR_DOMAIN_EVENT_CALLBACK(on_completed), opaque, release);
    if (id_ < 0) delete opaque;
  }
  CompletionWatch(const CompletionWatch&) = delete;
  CompletionWatch& operator=(const CompletionWatch&) = delete;
  ~CompletionWatch() {
    if (id_ >= 0) libvirt_.api->virConnectDomainEventDeregisterAny(libvirt_.connection, id_);
  }

  std::optional<JobFields> wait() {
    if (id_ < 0) return std::nullopt;
    std::unique_lock lock(completion_->mutex);
    completion_->came.wait_for(lock, kEvent, [&] { return completion_->fields.has_value(); });
    return completion_->fields;
  }

 private:
  const LibvirtConnection::Open& libvirt_;
  SharedCompletion completion_;
  int id_ = -1;
};

/// A domain and the connection that it came from.
struct Found {
  LibvirtConnection::Open libvirt;
  DomainHandle domain;  ///< Empty: there is none.

  const LibvirtApi& api() const { return *libvirt.api; }
};

/// The first limit of a migration that reaches `settings.downtime_limit_ms` in steps.
std::optional<std::uint64_t> first_downtime_limit(const MigrationSettings& settings) {
  if (!settings.downtime_limit_ms) return std::nullopt;
  const std::uint64_t steps = std::max(settings.downtime_steps, 1u);
  return std::max<std::uint64_t>((*settings.downtime_limit_ms + steps - 1) / steps, 1);
}

/// Sets the downtime limit before a migration, and takes it back unless that has succeeded.
class DowntimeLimit {
 public:
  DowntimeLimit(const LibvirtApi& api, virDomainPtr domain) : api_(api), domain_(domain) {}
  DowntimeLimit(const DowntimeLimit&) = delete;
  DowntimeLimit& operator=(const DowntimeLimit&) = delete;
  ~DowntimeLimit() {
    if (before_ != 0) (void)api_.virDomainMigrateSetMaxDowntime(domain_, before_, 0);
  }

  bool set(std::uint64_t limit_ms) {
    unsigned long long before = 0;
    if (api_.virDomainMigrateGetMaxDowntime(domain_, &before, 0) != 0) return false;
    if (api_.virDomainMigrateSetMaxDowntime(domain_, limit_ms, 0) != 0) return false;
    before_ = before;
    return true;
  }
  void keep() { before_ = 0; }

 private:
  const LibvirtApi& api_;
  virDomainPtr domain_;
  unsigned long long before_ = 0;  ///< ms; 0: nothing to take back.
};

/// Where a guest is after libvirt has said that its migration failed.
enum class Whereabouts { here, unknown };

Whereabouts whereabouts(const Found& found) {
  const auto until = SteadyClock::now() + kResume;
  while (true) {
    int state = VIR_DOMAIN_NOSTATE;
    int reason = 0;
    if (found.api().virDomainGetState(found.domain.get(), &state, &reason, 0) != 0) return Whereabouts::unknown;
    if (state == VIR_DOMAIN_PAUSED) {
      if (reason == VIR_DOMAIN_PAUSED_POSTCOPY || reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)
        return Whereabouts::unknown;
      if (reason != VIR_DOMAIN_PAUSED_MIGRATION) return Whereabouts::here;
      if (SteadyClock::now() > until) return Whereabouts::unknown;
      std::this_thread::sleep_for(kLookAgain);
      continue;
    }
    return state == VIR_DOMAIN_RUNNING || state == VIR_DOMAIN_BLOCKED ? Whereabouts::here : Whereabouts::unknown;
  }
}

/// Where nothing was begun, the guest is where it was.
Error nothing_begun(Error error) {
  if (error.kind == ErrorKind::retry) error.kind = ErrorKind::hypervisor;
  return error;
}

class LibvirtMigrations final : public Migrations {
 public:
  explicit LibvirtMigrations(std::shared_ptr<LibvirtConnection> connection) : connection_(std::move(connection)) {}

  Result<std::string> migratable_xml(const std::string& domain) override {
    const Result<Found> found = find(domain);
    if (!found) return tl::unexpected(found.error());
    return xml_of(*found, VIR_DOMAIN_XML_MIGRATABLE | VIR_DOMAIN_XML_SECURE, domain);
  }

  Result<std::optional<std::string>> persistent_xml(const std::string& domain) override {
    const Result<Found> found = find(domain);
    if (!found) return tl::unexpected(found.error());
    const int persistent = found->api().virDomainIsPersistent(found->domain.get());
    if (persistent < 0)
      return tl::unexpected(last_libvirt_error(found->api(), fmt::format("see whether guest '{}' is defined", domain)));
    if (persistent == 0) return std::nullopt;
    return xml_of(*found, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_MIGRATABLE | VIR_DOMAIN_XML_SECURE, domain)
        .map([](std::string xml) { return std::optional(std::move(xml)); });
  }

  Result<MigrationResult> migrate(const MigrationOrder& order) override {
    if (connection_->root())
      return fail(ErrorKind::refused,
                  fmt::format("guests of '{}' cannot be migrated: libvirt's embedded driver has no migration",
                              connection_->options().uri),
                  "run the guests under libvirt's daemon: libvirt.uri: qemu:///system");
    // A connection of its own. The thread that waits for an answer reads for all who share its connection; up to
    // libvirt 10.0 another one that wants to send wakes it by a signal that is lost when the first is about to sleep.
    // Then both sleep until the next keep-alive message: 5 s in which nobody watches, met here in one migration of two.
    LibvirtConnection own(connection_->options());
    const Result<Found> found = find(own, order.domain);
    if (!found) return tl::unexpected(nothing_begun(found.error()));
    const Result<unsigned> flags = flags_for(order, *found);
    if (!flags) return tl::unexpected(nothing_begun(flags.error()));
    return perform(order, *found, *flags);
  }

  Result<std::optional<MigrationProgress>> progress(const std::string& domain) override {
    const Result<Found> found = look_up(*connection_, domain);
    if (!found) return tl::unexpected(found.error());
    if (!found->domain) return std::nullopt;
    const LibvirtApi& api = found->api();
    int type = VIR_DOMAIN_JOB_NONE;
    virTypedParameterPtr parameters = nullptr;
    int count = 0;
    if (api.virDomainGetJobStats(found->domain.get(), &type, &parameters, &count, 0) != 0) {
      if (is_gone(api)) return std::nullopt;
      return tl::unexpected(last_libvirt_error(api, fmt::format("see how the migration of '{}' goes", domain)));
    }
    const JobFields fields = job_fields(parameters, count);
    api.virTypedParamsFree(parameters, count);
    const auto operation = fields.find(VIR_DOMAIN_JOB_OPERATION);
    const bool runs = type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED;
    if (!runs || (operation != fields.end() && operation->second != VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT))
      return std::nullopt;
    return progress_of(fields);
  }

  Result<void> set_downtime_limit(const std::string& domain, milliseconds limit) override {
    return steer(domain, fmt::format("set the downtime limit of guest '{}' to {} ms", domain, limit.count()),
                 [&](const Found& found) {
                   return found.api().virDomainMigrateSetMaxDowntime(found.domain.get(),
                                                                     static_cast<unsigned long long>(limit.count()), 0);
                 });
  }

  Result<void> set_bandwidth(const std::string& domain, std::uint64_t mib_s) override {
    return steer(
        domain, fmt::format("set the migration bandwidth of guest '{}' to {} MiB/s", domain, mib_s),
        [&](const Found& found) { return found.api().virDomainMigrateSetMaxSpeed(found.domain.get(), mib_s, 0); });
  }

  Result<void> hold(const std::string& domain) override {
    if (auto limited = set_downtime_limit(domain, kHeldDowntime); !limited) return limited;
    const Result<Found> found = find(domain);
    if (!found) return tl::unexpected(found.error());
    const Result<QemuMonitor> qemu = QemuMonitor::open(found->api(), found->domain.get());
    if (!qemu) return tl::unexpected(qemu.error());
    return qemu->run("migrate-set-parameters", {{"max-bandwidth", kHeldBandwidth}}).map([](const Json&) {});
  }

  Result<void> start_post_copy(const std::string& domain) override {
    return steer(domain, fmt::format("start post-copy of guest '{}'", domain),
                 [&](const Found& found) { return found.api().virDomainMigrateStartPostCopy(found.domain.get(), 0); });
  }

  Result<void> abort(const std::string& domain) override {
    const auto running = progress(domain);
    if (!running) return tl::unexpected(running.error());
    if (!*running) return {};
    const Result<void> aborted =
        steer(domain, fmt::format("end the migration of guest '{}'", domain),
              [&](const Found& found) { return found.api().virDomainAbortJob(found.domain.get()); });
    if (aborted) return {};
    const auto still = progress(domain);  // it may have come to its end meanwhile
    if (still && !*still) return {};
    return aborted;
  }

 private:
  static bool is_gone(const LibvirtApi& api) {
    const int code = last_libvirt_code(api);
    return code == VIR_ERR_NO_DOMAIN || code == VIR_ERR_OPERATION_INVALID;
  }

  /// Also where there is no such domain.
  static Result<Found> look_up(LibvirtConnection& connection, const std::string& domain) {
    const Result<LibvirtConnection::Open> libvirt = connection.open();
    if (!libvirt) return tl::unexpected(libvirt.error());
    virDomainPtr pointer = libvirt->api->virDomainLookupByUUIDString(libvirt->connection, domain.c_str());
    if (pointer == nullptr && last_libvirt_code(*libvirt->api) != VIR_ERR_NO_DOMAIN)
      return tl::unexpected(last_libvirt_error(*libvirt->api, fmt::format("look up guest '{}'", domain)));
    return Found{*libvirt, DomainHandle(pointer, DomainRelease{libvirt->api})};
  }

  Result<Found> find(const std::string& domain) const { return find(*connection_, domain); }

  static Result<Found> find(LibvirtConnection& connection, const std::string& domain) {
    Result<Found> found = look_up(connection, domain);
    if (found && !found->domain)
      return fail(ErrorKind::bad_input, fmt::format("no guest '{}' at {}", domain, connection.options().uri),
                  "see where it runs: virsh list --all");
    return found;
  }

  static Result<std::string> xml_of(const Found& found, unsigned flags, const std::string& domain) {
    const std::unique_ptr<char, void (*)(void*)> xml(found.api().virDomainGetXMLDesc(found.domain.get(), flags),
                                                     std::free);
    if (xml == nullptr)
      return tl::unexpected(last_libvirt_error(found.api(), fmt::format("read the XML of guest '{}'", domain)));
    return std::string(xml.get());
  }

  template <typename Call>
  Result<void> steer(const std::string& domain, const std::string& what, Call call) {
    const Result<Found> found = find(domain);
    if (!found) return tl::unexpected(found.error());
    if (call(*found) != 0) return tl::unexpected(last_libvirt_error(found->api(), what));
    return {};
  }

  static Result<unsigned> flags_for(const MigrationOrder& order, const Found& found) {
    unsigned long libvirt = 0;  // libvirt's own type
    const int persistent = found.api().virDomainIsPersistent(found.domain.get());
    if (persistent < 0 || found.api().virConnectGetLibVersion(found.libvirt.connection, &libvirt) != 0)
      return tl::unexpected(last_libvirt_error(found.api(), fmt::format("prepare to migrate '{}'", order.domain)));
    return migration_flags(order.settings, persistent == 1, libvirt);
  }

  static Result<MigrationResult> perform(const MigrationOrder& order, const Found& found, unsigned flags) {
    const LibvirtApi& api = found.api();
    const std::string what = fmt::format("migrate guest '{}' to {}", order.domain, order.destination);
    TypedParameters parameters(api);
    if (!add_migration_parameters(order, flags, parameters))
      return tl::unexpected(nothing_begun(last_libvirt_error(api, what)));
    DowntimeLimit limit(api, found.domain.get());
    if (const auto first = first_downtime_limit(order.settings); first && !limit.set(*first))
      return tl::unexpected(nothing_begun(last_libvirt_error(api, what)));

    CompletionWatch completion(found.libvirt, found.domain.get());
    const auto begun = SteadyClock::now();
    if (api.virDomainMigrateToURI3(found.domain.get(), order.destination.c_str(), parameters.data(),
                                   static_cast<unsigned>(parameters.size()), flags) != 0)
      return tl::unexpected(why_failed(found, what));
    limit.keep();
    if (const auto fields = completion.wait()) return result_of(*fields);
    MigrationResult result;  // of a guest that has moved all the same
    result.total = std::chrono::duration_cast<milliseconds>(SteadyClock::now() - begun);
    return result;
  }

  static Error why_failed(const Found& found, const std::string& what) {
    const LibvirtApi& api = found.api();
    const virError* last = api.virGetLastError();
    const std::string text = last != nullptr && last->message != nullptr ? last->message : "no reason given";
    Error error =
        migration_error(last != nullptr ? last->code : VIR_ERR_OK, last != nullptr ? last->domain : 0, text, what);
    if (api.virConnectIsAlive(found.libvirt.connection) == 1 && whereabouts(found) == Whereabouts::here) return error;
    error.kind = ErrorKind::retry;
    error.message += "; it is not known on which host the guest is";
    error.next = "see on both hosts where it runs (virsh list --all) before anything is done with its disks";
    return error;
  }

  std::shared_ptr<LibvirtConnection> connection_;
};

}  // namespace

std::unique_ptr<Migrations> make_migrations(std::shared_ptr<LibvirtConnection> connection) {
  return std::make_unique<LibvirtMigrations>(std::move(connection));
}

}  // namespace aiolos
