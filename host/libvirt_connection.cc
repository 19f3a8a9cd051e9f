// SPDX-License-Identifier: Apache-2.0
// One libvirt connection that opens when it is needed; and libvirt's secrets on it.
#include "libvirt_connection.h"

#include <array>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "embed_root.h"
#include "libvirt_error.h"
#include "one_processor.h"
#include "signal_block.h"

namespace aiolos {
namespace {

/// Keeps the embedded driver's log lines off our standard error: warnings and errors go to a file of its folder.
std::string log_outputs(const std::optional<std::string>& root) {
  if (!root) return {};
  // Outputs are separated by spaces, so a folder with one can't be named: then errors only.
  return root->find_first_of(" \t") == std::string::npos ? "3:file:" + *root + "/log/libvirt.log" : "4:stderr";
}

// A daemon that does not answer for 5 x (5 + 1) s is given up, and with it the calls that wait for it. libvirt's own
// default (keepalive_interval, keepalive_count in libvirt.conf), which without this call counts only for tools.
constexpr int kKeepAliveInterval = 5;
constexpr unsigned kKeepAliveCount = 5;

struct UsageRow {
  std::string_view name;
  int type;
};

// Source: libvirt/libvirt-secret.h, virSecretUsageType; the names are those of <usage type='...'>.
constexpr std::array kUsages{
    UsageRow{"none", VIR_SECRET_USAGE_TYPE_NONE}, UsageRow{"volume", VIR_SECRET_USAGE_TYPE_VOLUME},
    UsageRow{"ceph", VIR_SECRET_USAGE_TYPE_CEPH}, UsageRow{"iscsi", VIR_SECRET_USAGE_TYPE_ISCSI},
    UsageRow{"tls", VIR_SECRET_USAGE_TYPE_TLS},   UsageRow{"vtpm", VIR_SECRET_USAGE_TYPE_VTPM},
};

class LibvirtSecretStore final : public SecretStore {
 public:
  explicit LibvirtSecretStore(std::shared_ptr<LibvirtConnection> connection) : connection_(std::move(connection)) {}

  Result<std::optional<std::string>> find(std::string_view usage_type, std::string_view usage_id) override {
    const Result<int> type = usage_number(usage_type);
    if (!type) return tl::unexpected(type.error());
    const Result<LibvirtConnection::Open> open = connection_->open();
    if (!open) return tl::unexpected(open.error());
    const LibvirtApi& api = *open->api;

    const std::string id(usage_id);
    virSecretPtr secret = api.virSecretLookupByUsage(open->secrets, *type, id.c_str());
    if (secret == nullptr) {
      const int code = last_libvirt_code(api);
      if (code == VIR_ERR_NO_SECRET || code == VIR_ERR_NO_SUPPORT) return std::optional<std::string>{};
      return tl::unexpected(
          last_libvirt_error(api, "look up the secret of " + std::string(usage_type) + " '" + id + "'"));
    }
    const SecretHandle handle(secret, api.virSecretFree);
    return uuid_of(api, secret);
  }

  Result<std::map<std::string, std::string, std::less<>>> list(std::string_view usage_type) override {
    const Result<int> type = usage_number(usage_type);
    if (!type) return tl::unexpected(type.error());
    const Result<LibvirtConnection::Open> open = connection_->open();
    if (!open) return tl::unexpected(open.error());
    const LibvirtApi& api = *open->api;

    std::map<std::string, std::string, std::less<>> uuids;
    virSecretPtr* secrets = nullptr;
    const int count = api.virConnectListAllSecrets(open->secrets, &secrets, 0);
    if (count < 0) {
      if (last_libvirt_code(api) == VIR_ERR_NO_SUPPORT) return uuids;
      return tl::unexpected(last_libvirt_error(api, "list the secrets"));
    }
    const std::unique_ptr<virSecretPtr, void (*)(void*)> array(secrets, std::free);
    std::vector<SecretHandle> handles;
    handles.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) handles.emplace_back(secrets[i], api.virSecretFree);
    for (const SecretHandle& secret : handles) {
      if (api.virSecretGetUsageType(secret.get()) != *type) continue;
      const char* const id = api.virSecretGetUsageID(secret.get());
      auto uuid = uuid_of(api, secret.get());
      if (!uuid) return tl::unexpected(std::move(uuid).error());
      if (id != nullptr) uuids.emplace(id, *std::move(uuid));
    }
    return uuids;
  }

  Result<Secret> value(std::string_view uuid) override {
    const Result<LibvirtConnection::Open> open = connection_->open();
    if (!open) return tl::unexpected(open.error());
    const LibvirtApi& api = *open->api;

    const std::string id(uuid);
    const auto unusable = [&](std::string next) {
      Error error = last_libvirt_error(api, "read the secret " + id);
      error.kind = ErrorKind::configuration;
      error.next = std::move(next);
      return tl::unexpected(std::move(error));
    };
    virSecretPtr secret = api.virSecretLookupByUUIDString(open->secrets, id.c_str());
    if (secret == nullptr)
      return unusable("define it in libvirt (virsh secret-define) and give it its value (virsh secret-set-value)");
    const SecretHandle handle(secret, api.virSecretFree);
    std::size_t size = 0;
    unsigned char* const bytes = api.virSecretGetValue(secret, &size, 0);
    if (bytes == nullptr)
      return unusable("give it its value with virsh secret-set-value; a secret with private='yes' cannot be read");
    Secret value(std::string(reinterpret_cast<const char*>(bytes), size));
    ::explicit_bzero(bytes, size);
    std::free(bytes);
    return value;
  }

 private:
  using SecretHandle = std::unique_ptr<virSecret, decltype(LibvirtApi::virSecretFree)>;

  static Result<int> usage_number(std::string_view usage_type) {
    for (const UsageRow& row : kUsages)
      if (row.name == usage_type) return row.type;
    return fail(ErrorKind::bad_input, "'" + std::string(usage_type) + "' is no usage type of a libvirt secret",
                "one of: none, volume, ceph, iscsi, tls, vtpm");
  }

  static Result<std::string> uuid_of(const LibvirtApi& api, virSecretPtr secret) {
    std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
    if (api.virSecretGetUUIDString(secret, uuid.data()) != 0)
      return tl::unexpected(last_libvirt_error(api, "read the UUID of a secret"));
    return std::string(uuid.data());
  }

  std::shared_ptr<LibvirtConnection> connection_;
};

}  // namespace

LibvirtConnection::LibvirtConnection(LibvirtOptions options)
    : options_(std::move(options)), root_(embed_root(options_.uri)) {}

LibvirtConnection::~LibvirtConnection() {
  for (virConnectPtr connection : {connection_, embedded_secrets_})
    if (connection != nullptr) api_->virConnectClose(connection);
  for (virConnectPtr connection : broken_) api_->virConnectClose(connection);
}

Result<LibvirtConnection::Open> LibvirtConnection::open() {
  const std::lock_guard lock(mutex_);
  if (connection_ != nullptr && api_->virConnectIsAlive(connection_) != 1) {
    broken_.push_back(connection_);
    connection_ = nullptr;
  }
  if (connection_ == nullptr) {
    // Before libvirt is loaded: its log goes to a file in that folder.
    if (root_)
      if (const Result<void> taken = take_embed_root(*root_, options_.lock_timeout); !taken)
        return tl::unexpected(taken.error());
    const Result<const LibvirtApi*> api = libvirt_api(log_outputs(root_));
    if (!api) return tl::unexpected(api.error());
    api_ = *api;
    if (const Result<void> connected = connect(*api_); !connected) return tl::unexpected(connected.error());
  }
  return Open{api_, connection_, embedded_secrets_ != nullptr ? embedded_secrets_ : connection_};
}

Result<void> LibvirtConnection::connect(const LibvirtApi& api) {
  std::optional<SignalBlock> signals_stay_with_the_caller;
  if (root_) signals_stay_with_the_caller.emplace();  // a daemon that does not answer can be given up with Ctrl-C
  const OneProcessor capabilities_stay_cached(root_.has_value());
  // The embedded QEMU driver finds secrets only in an embedded secret driver of the same folder that was opened before
  // it. Where that is not installed, everything but secrets works.
  if (root_ && embedded_secrets_ == nullptr)
    embedded_secrets_ = api.virConnectOpen(("secret" + options_.uri.substr(options_.uri.find(':'))).c_str());
  connection_ = api.virConnectOpen(options_.uri.c_str());
  if (connection_ == nullptr) {
    Error error = last_libvirt_error(api, "connect to '" + options_.uri + "'");
    if (root_ && error.kind == ErrorKind::hypervisor)
      error.next =
          "see '" + *root_ +
          "/log/libvirt.log'; one process can use one embedded folder in its life, so a second one needs a new "
          "process";
    return tl::unexpected(std::move(error));
  }
  // The embedded and the test driver have no daemon, and say so.
  if (!root_) (void)api.virConnectSetKeepAlive(connection_, kKeepAliveInterval, kKeepAliveCount);
  return {};
}

std::shared_ptr<LibvirtConnection> make_libvirt_connection(LibvirtOptions options) {
  return std::make_shared<LibvirtConnection>(std::move(options));
}

std::unique_ptr<SecretStore> make_secret_store(std::shared_ptr<LibvirtConnection> connection) {
  return std::make_unique<LibvirtSecretStore>(std::move(connection));
}

}  // namespace aiolos
