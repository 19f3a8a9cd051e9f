// SPDX-License-Identifier: Apache-2.0
// Guests and their disks, by libvirt.
#include "aiolos/host/hypervisor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <set>

#include "aiolos/core/json.h"
#include "disk_attachment.h"
#include "disk_removal.h"
#include "domain_engines.h"
#include "domain_xml.h"
#include "leftovers.h"
#include "libvirt_connection.h"
#include "libvirt_error.h"
#include "one_processor.h"
#include "signal_block.h"
#include "small_file.h"
#include "typed_parameters.h"

namespace aiolos {
namespace {

using std::chrono::milliseconds;

// Each request takes the next number for its nodes, so that a counter that is behind several of QEMU's nodes is past
// them after as many: one interrupted attach leaves one number, two with a backing file.
constexpr int kAttempts = 4;

/// The names of all domains; running ones first. Empty if they can't be listed.
std::vector<std::string> domain_names(const LibvirtConnection::Open& libvirt) {
  virDomainPtr* list = nullptr;
  const int count = libvirt.api->virConnectListAllDomains(libvirt.connection, &list, 0);
  std::vector<std::string> running;
  std::vector<std::string> others;
  for (int i = 0; i < count; ++i) {
    const DomainHandle domain(list[i], DomainRelease{libvirt.api});
    const char* name = libvirt.api->virDomainGetName(domain.get());
    (libvirt.api->virDomainIsActive(domain.get()) == 1 ? running : others).emplace_back(name != nullptr ? name : "");
  }
  if (count >= 0) std::free(list);
  running.insert(running.end(), others.begin(), others.end());
  return running;
}

Error no_such_domain(const LibvirtConnection::Open& libvirt, const std::string& uri, const std::string& wanted) {
  constexpr std::size_t kShown = 10;
  std::vector<std::string> names = domain_names(libvirt);
  Error error{ErrorKind::bad_input, fmt::format("no domain '{}' at {}", wanted, uri), {}, {}};
  if (const std::optional<std::string> close = nearest(wanted, names)) {
    error.next = fmt::format("did you mean '{}'?", *close);
  } else if (names.empty()) {
    error.next = "no domain is defined there: start the guest, or name another hypervisor with --uri";
  } else {
    const bool more = names.size() > kShown;
    if (more) names.resize(kShown);
    error.next = fmt::format("name one of these: {}{}", fmt::join(names, ", "), more ? ", ..." : "");
  }
  return error;
}

/// Where libvirt keeps the pid files of the guests of this URI; empty if they are on another host or not known.
std::string pid_folder(const LibvirtConnection& connection) {
  if (connection.root()) return *connection.root() + "/run/qemu";
  const std::string& uri = connection.options().uri;
  if (uri.starts_with("qemu:///system")) return "/run/libvirt/qemu";
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (uri.starts_with("qemu:///session") && runtime != nullptr) return std::string(runtime) + "/libvirt/qemu/run";
  return {};
}

class LibvirtHypervisor final : public Hypervisor {
 public:
  explicit LibvirtHypervisor(std::shared_ptr<LibvirtConnection> connection) : connection_(std::move(connection)) {}

  Result<HostFacts> facts() override {
    const Result<LibvirtConnection::Open> libvirt = connection_->open();
    if (!libvirt) return tl::unexpected(libvirt.error());
    const LibvirtApi& api = *libvirt->api;
    const OneProcessor capabilities_stay_cached(connection_->root().has_value());
    HostFacts facts;
    unsigned long value = 0;  // libvirt's own type and numbering, which core's Version shares
    if (api.virConnectGetLibVersion(libvirt->connection, &value) != 0)
      return tl::unexpected(last_libvirt_error(api, "ask for libvirt's version"));
    facts.libvirt = value;
    if (api.virConnectGetVersion(libvirt->connection, &value) != 0)
      return tl::unexpected(last_libvirt_error(api, "ask for the hypervisor's version"));
    facts.qemu = value;
    facts.qemu_has_io_uring = has_io_uring(*libvirt);
    return facts;
  }

  Result<DomainState> find_domain(const std::string& domain) override {
    const Result<Found> found = find(domain);
    if (!found) return tl::unexpected(found.error());
    const LibvirtApi& api = *found->libvirt.api;
    DomainState state;
    std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
    const char* name = api.virDomainGetName(found->domain.get());
    const int active = api.virDomainIsActive(found->domain.get());
    const int persistent = api.virDomainIsPersistent(found->domain.get());
    if (name == nullptr || active < 0 || persistent < 0 ||
        api.virDomainGetUUIDString(found->domain.get(), uuid.data()) != 0)
      return tl::unexpected(last_libvirt_error(api, "read the state of guest '" + domain + "'"));
    return DomainState{name, uuid.data(), active == 1, persistent == 1};
  }

  Result<std::vector<DomainState>> running_domains() override {
    const Result<LibvirtConnection::Open> libvirt = connection_->open();
    if (!libvirt) return tl::unexpected(libvirt.error());
    const LibvirtApi& api = *libvirt->api;
    virDomainPtr* list = nullptr;
    const int count = api.virConnectListAllDomains(libvirt->connection, &list, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    if (count < 0) return tl::unexpected(last_libvirt_error(api, "list the running guests"));
    std::vector<DomainState> running;
    for (int i = 0; i < count; ++i) {
      const DomainHandle domain(list[i], DomainRelease{&api});
      std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
      const char* name = api.virDomainGetName(domain.get());
      if (name != nullptr && api.virDomainGetUUIDString(domain.get(), uuid.data()) == 0)
        running.push_back({name, uuid.data(), true, api.virDomainIsPersistent(domain.get()) == 1});
    }
    std::free(list);
    return running;
  }

  Result<std::string> domain_xml(const std::string& domain) override {
    const Result<Found> found = find(domain);
    if (!found) return tl::unexpected(found.error());
    return xml_of(*found->libvirt.api, found->domain.get(), 0);
  }

  Result<std::optional<int>> domain_pid(const std::string& domain) override {
    const Result<DomainState> state = find_domain(domain);
    if (!state) return tl::unexpected(state.error());
    const std::string folder = pid_folder(*connection_);
    if (!state->running || folder.empty()) return std::optional<int>{};
    const std::optional<std::string> text = read_small_file(folder + "/" + state->name + ".pid");
    int pid = 0;
    if (!text || std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc())
      return std::optional<int>{};
    // The number may belong to another process by now: QEMU's command line has the guest's UUID.
    const std::optional<std::string> arguments = read_small_file(fmt::format("/proc/{}/cmdline", pid));
    if (!arguments || arguments->find(state->uuid) == std::string::npos) return std::optional<int>{};
    return std::optional<int>(pid);
  }

  tl::expected<void, AttachFailure> attach_disk(const std::string& domain, const std::string& disk_xml) override {
    const std::optional<DiskIdentity> wanted = disk_identity(disk_xml);
    if (!wanted)
      return nothing_begun({ErrorKind::bug,
                            "a document without <disk> and its <target dev=...> was to be attached",
                            "report this: Aiolos made that document",
                            {}});
    Result<Found> found = find_running(domain);
    if (!found) return nothing_begun(found.error());
    if (const auto free = check_target_free(*found, domain, *wanted); !free) return free;

    for (int attempt = 1;; ++attempt) {
      const auto asked = request_attach(found->libvirt, found->domain.get(), found->persistent, disk_xml, *wanted);
      if (asked) return {};
      AttachFailure failure{asked.error().error, false};
      // Looked up again, for the connection may be what failed.
      found = find(domain);
      if (!found) {
        failure.gone = found.error().kind == ErrorKind::bad_input;  // a transient guest that has ended
        return tl::unexpected(std::move(failure));
      }
      const Aftermath after =
          settle_failed_attach(found->libvirt, found->domain.get(), found->persistent, disk_xml, asked.error().code,
                               connection_->options().detach_again, failure.error);
      failure.gone = after.gone;
      if (!after.gone || !after.again || attempt == kAttempts) return tl::unexpected(std::move(failure));
    }
  }

  Result<void> release_leftovers(const std::string& domain, const std::string& disk_xml) override {
    const std::optional<DiskIdentity> wanted = disk_identity(disk_xml);
    const std::optional<DiskImage> image = disk_image(disk_xml);
    if (!wanted || !image)
      return fail(ErrorKind::bug,
                  "leftovers of a document without <disk>, <source> and <target dev=...> were asked for",
                  "report this: Aiolos made that document");
    const Result<Found> found = find(domain);
    if (!found) return tl::unexpected(found.error());
    if (found->libvirt.api->virDomainIsActive(found->domain.get()) == 0) return {};
    const auto shown = [&]() -> Result<bool> {
      const Result<std::string> xml = xml_of(*found->libvirt.api, found->domain.get(), 0);
      if (!xml) return tl::unexpected(xml.error());
      const auto disk = find_disk(*xml, wanted->target);
      return disk && disk->source == wanted->source;
    };
    const Result<bool> before = shown();
    if (!before) return tl::unexpected(before.error());
    if (*before)
      return fail(ErrorKind::bad_input, fmt::format("guest '{}' has disk '{}' in its XML", domain, wanted->target),
                  "detach it");
    if (auto removed = remove_leftovers(found->libvirt, found->domain.get(), *image,
                                        connection_->options().release_timeout, connection_->options().detach_again);
        !removed)
      return removed;
    // A daemon goes on with the attach of a client that was killed. Asking QEMU has waited for that job.
    const Result<bool> after = shown();
    if (!after) return tl::unexpected(after.error());
    if (!*after) return {};
    return fail(ErrorKind::retry,
                fmt::format("guest '{}' was given disk '{}' meanwhile, by an attach whose caller was killed", domain,
                            wanted->target),
                "try again: now the guest has it");
  }

  Result<void> detach_disk(const std::string& domain, const std::string& disk_xml, const std::string& target,
                           milliseconds timeout) override {
    const Result<Found> found = find(domain);
    if (!found) return tl::unexpected(found.error());
    // Live first: a guest that keeps its disk keeps it in its definition too, and stays as it was.
    if (const Result<void> removed = remove_live_disk(found->libvirt, found->domain.get(), disk_xml, target, timeout,
                                                      connection_->options().detach_again);
        !removed)
      return removed;
    return remove_persistent_disk(found->libvirt, found->domain.get(), disk_xml, target);
  }

  Result<void> resize_disk(const std::string& domain, const std::string& target, std::uint64_t bytes) override {
    if (bytes == 0 || bytes % 512 != 0)
      return fail(ErrorKind::bad_input, fmt::format("size {} is not a positive multiple of 512 bytes", bytes),
                  "give the size in bytes, in whole sectors");
    const Result<Found> found = find_with_disk(domain, target);
    if (!found) return tl::unexpected(found.error());
    const LibvirtApi& api = *found->libvirt.api;
    const SignalBlock until_libvirt_is_done;
    if (api.virDomainBlockResize(found->domain.get(), target.c_str(), bytes, VIR_DOMAIN_BLOCK_RESIZE_BYTES) != 0)
      return tl::unexpected(
          last_libvirt_error(api, fmt::format("resize disk '{}' of guest '{}' to {} bytes", target, domain, bytes)));
    return {};
  }

  Result<void> set_iotune(const std::string& domain, const std::string& target,
                          const std::map<std::string, std::uint64_t>& limits, const std::string& group) override {
    const Result<Found> found = find_with_disk(domain, target);
    if (!found) return tl::unexpected(found.error());
    const LibvirtApi& api = *found->libvirt.api;
    TypedParameters parameters(api);
    bool complete = group.empty() || parameters.add(VIR_DOMAIN_BLOCK_IOTUNE_GROUP_NAME, group);
    for (const auto& [name, value] : limits) complete = complete && parameters.add(name, value);
    const unsigned flags =
        VIR_DOMAIN_AFFECT_LIVE | (found->persistent ? static_cast<unsigned>(VIR_DOMAIN_AFFECT_CONFIG) : 0u);
    const SignalBlock until_libvirt_is_done;
    if (!complete || api.virDomainSetBlockIoTune(found->domain.get(), target.c_str(), parameters.data(),
                                                 parameters.size(), flags) != 0)
      return tl::unexpected(
          last_libvirt_error(api, fmt::format("set the limits of disk '{}' of guest '{}'", target, domain)));
    return {};
  }

  Result<DomainEngines> domain_engines(const std::string& domain, bool ask_qemu) override {
    const Result<Found> found = find(domain);
    if (!found) return tl::unexpected(found.error());
    return read_domain_engines(found->libvirt, found->domain.get(), ask_qemu);
  }

  Result<void> add_iothread(const std::string& domain, unsigned id) override {
    const Result<Found> found = find_running(domain);
    if (!found) return tl::unexpected(found.error());
    return add_domain_iothread(found->libvirt, found->domain.get(), found->persistent, id);
  }

  Result<void> set_engine(const std::string& domain, unsigned engine, EngineProperty property,
                          std::uint64_t value) override {
    const Result<Found> found = find_running(domain);
    if (!found) return tl::unexpected(found.error());
    return set_domain_engine(found->libvirt, found->domain.get(), found->persistent, engine, property, value);
  }

  Result<std::string> native_arguments(const std::string& domain_xml) override {
    const Result<LibvirtConnection::Open> libvirt = connection_->open();
    if (!libvirt) return tl::unexpected(libvirt.error());
    const OneProcessor capabilities_stay_cached(connection_->root().has_value());
    return native(*libvirt, domain_xml);
  }

 private:
  /// A domain and the connection that it came from.
  struct Found {
    LibvirtConnection::Open libvirt;
    DomainHandle domain;
    bool persistent = false;
  };

  /// A running domain that has this disk.
  Result<Found> find_with_disk(const std::string& domain, const std::string& target) {
    Result<Found> found = find_running(domain);
    if (!found) return found;
    const Result<Presence> now = presence(found->libvirt, found->domain.get(), /*persistent=*/false, target);
    if (!now) return tl::unexpected(now.error());
    if (now->live) return found;
    return fail(ErrorKind::bad_input, fmt::format("guest '{}' has no disk '{}'", domain, target),
                "see its disks: virsh domblklist " + domain);
  }

  Result<Found> find(const std::string& domain) {
    const Result<LibvirtConnection::Open> libvirt = connection_->open();
    if (!libvirt) return tl::unexpected(libvirt.error());
    const LibvirtApi& api = *libvirt->api;
    virDomainPtr pointer = api.virDomainLookupByName(libvirt->connection, domain.c_str());
    if (pointer == nullptr && last_libvirt_code(api) == VIR_ERR_NO_DOMAIN && domain.size() >= 32)
      pointer = api.virDomainLookupByUUIDString(libvirt->connection, domain.c_str());
    if (pointer == nullptr) {
      const int code = last_libvirt_code(api);
      if (code == VIR_ERR_NO_DOMAIN || code == VIR_ERR_INVALID_ARG)
        return tl::unexpected(no_such_domain(*libvirt, connection_->options().uri, domain));
      return tl::unexpected(last_libvirt_error(api, "look up guest '" + domain + "'"));
    }
    Found found{*libvirt, DomainHandle(pointer, DomainRelease{libvirt->api}), false};
    if (connection_->root())
      if (const auto taken_over = wait_until_taken_over(api, pointer); !taken_over)
        return tl::unexpected(taken_over.error());
    found.persistent = api.virDomainIsPersistent(pointer) == 1;
    return found;
  }

  /// The process that opens an embedded root takes its guests over in the background. Until that is done libvirt shows
  /// them as the last process left them, with a disk that the guest has released since. A question that needs QEMU
  /// waits for it, since only one job at a time works on a guest; reading the XML does not. Once for each guest is
  /// enough: as long as this process lives nobody else changes them.
  Result<void> wait_until_taken_over(const LibvirtApi& api, virDomainPtr domain) {
    std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
    (void)api.virDomainGetUUIDString(domain, uuid.data());
    if (const std::scoped_lock lock(taken_over_mutex_); taken_over_.contains(uuid.data())) return {};
    const std::string what = fmt::format("take over guest '{}'", api.virDomainGetName(domain));
    virDomainMemoryStatStruct any{};
    // What it says does not matter, nor that a guest which is shut off says nothing; only that its turn has come.
    if (api.virDomainMemoryStats(domain, &any, 1, 0) < 0 && last_libvirt_code(api) == VIR_ERR_OPERATION_TIMEOUT)
      return tl::unexpected(last_libvirt_error(api, what));
    const std::scoped_lock lock(taken_over_mutex_);
    taken_over_.insert(uuid.data());
    return {};
  }

  Result<Found> find_running(const std::string& domain) {
    Result<Found> found = find(domain);
    if (found && found->libvirt.api->virDomainIsActive(found->domain.get()) != 1)
      return fail(ErrorKind::bad_input, "guest '" + domain + "' is not running",
                  "start it first: virsh start " + domain);
    return found;
  }

  static tl::unexpected<AttachFailure> nothing_begun(Error error) {
    return tl::unexpected(AttachFailure{std::move(error), true});
  }

  static tl::expected<void, AttachFailure> check_target_free(const Found& found, const std::string& domain,
                                                             const DiskIdentity& wanted) {
    const Result<Presence> before = presence(found.libvirt, found.domain.get(), found.persistent, wanted.target);
    if (!before) return nothing_begun(before.error());
    if (!before->live && !before->persistent) return {};
    // It may be the very disk that was to be attached.
    return tl::unexpected(AttachFailure{{ErrorKind::bad_input,
                                         fmt::format("guest '{}' has a disk '{}' already{}", domain, wanted.target,
                                                     before->live ? "" : " in its persistent definition"),
                                         "choose another target, or detach that disk first",
                                         {}},
                                        false});
  }

  static Result<std::string> native(const LibvirtConnection::Open& libvirt, const std::string& domain_xml) {
    const std::unique_ptr<char, void (*)(void*)> arguments(
        libvirt.api->virConnectDomainXMLToNative(libvirt.connection, "qemu-argv", domain_xml.c_str(), 0), std::free);
    if (arguments == nullptr)
      return tl::unexpected(last_libvirt_error(*libvirt.api, "turn the domain's XML into QEMU's arguments"));
    return std::string(arguments.get());
  }

  /// Whether this QEMU takes io='io_uring'. libvirt knows it from QEMU's own QMP schema (the value exists only in a
  /// QEMU built with liburing) and checks it when it makes a command line, so it is asked to make one. That starts no
  /// process, works for a remote host, and answers for the binary that would run the guest. A control with io='threads'
  /// tells a QEMU without io_uring from a question that failed for another reason.
  std::optional<bool> has_io_uring(const LibvirtConnection::Open& libvirt) const {
    const std::string& type = connection_->options().virt_type;
    if (native(libvirt, domain_with_disk(type, "io_uring"))) return true;
    if (last_libvirt_code(*libvirt.api) != VIR_ERR_CONFIG_UNSUPPORTED) return std::nullopt;
    if (native(libvirt, domain_with_disk(type, "threads"))) return false;
    return std::nullopt;
  }

  std::shared_ptr<LibvirtConnection> connection_;
  std::mutex taken_over_mutex_;
  std::set<std::string> taken_over_;  ///< UUIDs.
};

}  // namespace

std::unique_ptr<Hypervisor> make_hypervisor(std::shared_ptr<LibvirtConnection> connection) {
  return std::make_unique<LibvirtHypervisor>(std::move(connection));
}

}  // namespace aiolos
