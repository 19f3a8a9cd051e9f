// SPDX-License-Identifier: Apache-2.0
#include "settings.h"

#include <string_view>

namespace aiolos::rbd {
namespace {

constexpr std::int64_t kLongest = 300;             // librados' own client_mount_timeout
constexpr std::chrono::seconds kUsualPatience{5};  // a cluster that works answers within a tenth of a second

/// A member that is an absolute path, or empty where that has a meaning.
Result<std::string> path_of(const sdk::Value& value, bool may_be_empty) {
  AIOLOS_TRY(const std::string_view path, value.string());
  if (path.starts_with('/') || (path.empty() && may_be_empty)) return std::string(path);
  return value.error("'" + std::string(path) + "' is no absolute path", "name it from the root on");
}

}  // namespace

Result<Client> client_of(const sdk::Value& configuration) {
  const sdk::Value value = configuration.at("client");
  AIOLOS_TRY(const std::string_view client, value.string());
  if (client == "qemu") return Client::qemu;
  if (client == "kernel") return Client::kernel;
  return value.error("'" + std::string(client) + "' is no RBD client",
                     "use qemu (the guest's QEMU opens the image) or kernel (this host maps it to a block device)");
}

std::chrono::seconds Settings::patience() const {
  return connect_timeout.count() == 0 ? kUsualPatience : connect_timeout;
}

Result<Settings> settings_of(const sdk::Value& configuration) {
  Settings settings;
  const sdk::Value timeout = configuration.at("connect_timeout");
  AIOLOS_TRY(const std::int64_t seconds, timeout.integer());
  if (seconds > kLongest)
    return timeout.error(std::to_string(seconds) + " s is longer than librados itself waits for a monitor",
                         "use 1 to 300 s, or 0 for librados' own");
  settings.connect_timeout = std::chrono::seconds(seconds);
  AIOLOS_TRY(settings.ceph_conf, path_of(configuration.at("ceph_conf"), /*may_be_empty=*/true));
  AIOLOS_TRY(settings.conf_dir, path_of(configuration.at("conf_dir"), /*may_be_empty=*/false));
  return settings;
}

}  // namespace aiolos::rbd
