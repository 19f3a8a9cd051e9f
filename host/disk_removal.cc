// SPDX-License-Identifier: Apache-2.0
// Waits for a guest to release a disk.
#include "disk_removal.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "domain_xml.h"
#include "libvirt_error.h"
#include "signal_block.h"

namespace aiolos {
namespace {

using SteadyClock = std::chrono::steady_clock;

// How often the XML is read where an event was missed: a connection that broke, a guest that was shut off.
constexpr std::chrono::milliseconds kLookAgain{500};
constexpr std::chrono::milliseconds kSettle{1'000};

/// What the event thread tells the waiting one. Both own it, since a callback may run while it is being deregistered.
struct Signal {
  std::mutex mutex;
  std::condition_variable changed;
  std::string alias;
  bool removed = false;
  bool refused = false;
};

using SharedSignal = std::shared_ptr<Signal>;

void note(void* opaque, const char* alias, bool Signal::*what) {
  Signal& signal = **static_cast<SharedSignal*>(opaque);
  const std::lock_guard lock(signal.mutex);
  if (signal.alias != alias) return;
  signal.*what = true;
  signal.changed.notify_all();
}

void on_removed(virConnectPtr, virDomainPtr, const char* alias, void* opaque) { note(opaque, alias, &Signal::removed); }
void on_refused(virConnectPtr, virDomainPtr, const char* alias, void* opaque) { note(opaque, alias, &Signal::refused); }
void release(void* opaque) { delete static_cast<SharedSignal*>(opaque); }

/// Registers for both events of one device while it lives.
class RemovalWatch {
 public:
  RemovalWatch(const LibvirtConnection::Open& libvirt, virDomainPtr domain, std::string alias)
      : libvirt_(libvirt), signal_(std::make_shared<Signal>()) {
    signal_->alias = std::move(alias);
    removed_ = subscribe(domain, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_removed));
    refused_ = subscribe(domain, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, VIR_DOMAIN_EVENT_CALLBACK(on_refused));
  }
  RemovalWatch(const RemovalWatch&) = delete;
  RemovalWatch& operator=(const RemovalWatch&) = delete;
  ~RemovalWatch() {
    for (const int id : {removed_, refused_})
      if (id >= 0) libvirt_.api->virConnectDomainEventDeregisterAny(libvirt_.connection, id);
  }

  /// Waits until an event came or `deadline`. A driver without these events (test:) just waits.
  void wait(SteadyClock::time_point deadline) {
    std::unique_lock lock(signal_->mutex);
    signal_->changed.wait_until(lock, deadline, [&] { return signal_->removed || signal_->refused; });
  }

  /// libvirt takes the disk out of its XML a moment before it closes QEMU's nodes, and says "removed" after that. For a
  /// guest that ended, and with it all, there is no event: then this waits in vain, not for long.
  void settle() {
    std::unique_lock lock(signal_->mutex);
    signal_->changed.wait_for(lock, kSettle, [&] { return signal_->removed; });
  }

  /// Whether the guest refused since this was last asked.
  bool take_refusal() {
    const std::lock_guard lock(signal_->mutex);
    return std::exchange(signal_->refused, false);
  }

 private:
  int subscribe(virDomainPtr domain, int event, virConnectDomainEventGenericCallback callback) {
    auto* opaque = new SharedSignal(signal_);
    const int id =
        libvirt_.api->virConnectDomainEventRegisterAny(libvirt_.connection, domain, event, callback, opaque, release);
    if (id < 0) delete opaque;
    return id;
  }

  const LibvirtConnection::Open& libvirt_;
  SharedSignal signal_;
  int removed_ = -1;
  int refused_ = -1;
};

/// Refusals that no waiting changes.
bool is_final(int code) {
  switch (code) {
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_OPERATION_UNSUPPORTED:
    case VIR_ERR_OPERATION_DENIED:
    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_ACCESS_DENIED:
    case VIR_ERR_XML_ERROR:
    case VIR_ERR_XML_DETAIL:
    case VIR_ERR_INVALID_ARG:
      return true;
    default:
      return false;
  }
}

/// Whether the guest is certainly not running any more; not so if libvirt can't tell.
bool has_ended(const LibvirtApi& api, virDomainPtr domain) {
  const int active = api.virDomainIsActive(domain);
  return active == 0 || (active < 0 && last_libvirt_code(api) == VIR_ERR_NO_DOMAIN);
}

/// The disk in the live XML; nothing too if the guest is not running any more. What can't be known is an error.
Result<std::optional<DiskIdentity>> live_disk(const LibvirtApi& api, virDomainPtr domain, const std::string& target) {
  if (has_ended(api, domain)) return std::optional<DiskIdentity>{};
  const Result<std::string> xml = xml_of(api, domain, 0);
  if (xml) return find_disk(*xml, target);
  if (has_ended(api, domain)) return std::optional<DiskIdentity>{};  // just now
  return tl::unexpected(xml.error());
}

/// libvirt's words to a request that failed; nullopt if it was accepted. Signals wait until it is answered.
struct Complaint {
  int code;
  Error error;
};
std::optional<Complaint> request_detach(const LibvirtApi& api, virDomainPtr domain, const std::string& disk_xml,
                                        const std::string& what) {
  const SignalBlock until_libvirt_is_done;
  if (api.virDomainDetachDeviceFlags(domain, disk_xml.c_str(), VIR_DOMAIN_AFFECT_LIVE) == 0) return std::nullopt;
  const int code = last_libvirt_code(api);
  return Complaint{code, last_libvirt_error(api, what)};
}

}  // namespace

Result<std::string> xml_of(const LibvirtApi& api, virDomainPtr domain, unsigned flags) {
  const std::string what = fmt::format("read the XML of guest '{}'", api.virDomainGetName(domain));
  const std::unique_ptr<char, void (*)(void*)> xml(api.virDomainGetXMLDesc(domain, flags), std::free);
  if (xml == nullptr) return tl::unexpected(last_libvirt_error(api, what));
  return std::string(xml.get());
}

Result<void> remove_live_disk(const LibvirtConnection::Open& libvirt, virDomainPtr domain, const std::string& disk_xml,
                              const std::string& target, std::chrono::milliseconds timeout,
                              std::chrono::milliseconds again) {
  const LibvirtApi& api = *libvirt.api;
  const std::string name = api.virDomainGetName(domain);
  const Result<std::optional<DiskIdentity>> disk = live_disk(api, domain, target);
  if (!disk) return tl::unexpected(disk.error());
  if (!*disk) return {};

  RemovalWatch watch(libvirt, domain, (*disk)->alias);
  const auto deadline = SteadyClock::now() + timeout;
  auto next_request = SteadyClock::now();
  std::string said = "it gave no answer";
  while (true) {
    std::optional<Complaint> complaint;
    if (SteadyClock::now() >= next_request) {
      next_request = SteadyClock::now() + again;
      complaint = request_detach(api, domain, disk_xml, fmt::format("detach disk '{}' from guest '{}'", target, name));
    }
    // Most complaints are not final: a request that is still pending in QEMU, a job that is running. The XML has the
    // last word.
    const Result<std::optional<DiskIdentity>> now = live_disk(api, domain, target);
    if (!now) return tl::unexpected(complaint ? complaint->error : now.error());
    if (!*now) {
      watch.settle();
      return {};
    }
    if (complaint && is_final(complaint->code)) return tl::unexpected(complaint->error);
    if (complaint) said = complaint->error.message;
    if (SteadyClock::now() >= deadline) break;
    watch.wait(std::min({deadline, next_request, SteadyClock::now() + kLookAgain}));
    if (watch.take_refusal()) said = "the guest refused to release it";
  }
  return fail(
      ErrorKind::retry,
      fmt::format("guest '{}' did not release disk '{}' within {} ms: {}", name, target, timeout.count(), said),
      "the request stays pending: see that the guest's system has booted and does not use the disk, then detach again");
}

}  // namespace aiolos
