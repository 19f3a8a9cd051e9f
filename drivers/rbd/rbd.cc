// SPDX-License-Identifier: Apache-2.0
// Ceph RBD volumes, reached by QEMU's own client: monitors, image name and cephx authentication.
//
// Source: Nova 26, virt/libvirt/volume/net.py. Nothing is connected on this host, so there is no connect; extending is
// QEMU's part, which resizes the image through the same client.
#include "aiolos/plugin.hpp"

namespace {

using namespace aiolos;

Result<std::string_view> secret_type_of(const sdk::Value& value) {
  AIOLOS_TRY(const std::string_view type, value.string());
  if (type != "ceph")
    return value.error("'" + std::string(type) + "' is no type of a secret for RBD", "give ceph, the only one");
  return type;
}

/// The configuration's own credentials, which Nova calls rbd_user and rbd_secret_uuid.
/// @param secret_type `data.secret_type`, which the connection_info has to give all the same.
Result<SourceAuth> configured_auth(const sdk::Volume& volume, std::string_view secret_type) {
  AIOLOS_TRY(const std::string_view user, volume.configuration().at("user").string_or(""));
  AIOLOS_TRY(const std::string_view secret_uuid, volume.configuration().at("secret_uuid").string_or(""));
  if (secret_uuid.empty())
    return sdk::fail(ErrorKind::bad_input, "auth_enabled is true, but there is no secret_uuid",
                     "add /data/secret_uuid, or set rbd.user and rbd.secret_uuid in the configuration",
                     "/data/secret_uuid");
  if (user.empty())
    return sdk::fail(ErrorKind::configuration, "rbd.secret_uuid is set in the configuration, but rbd.user is not",
                     "set rbd.user to the Ceph user that the secret belongs to");
  return SourceAuth{std::string(user), std::string(secret_type), std::string(secret_uuid)};
}

/// `<auth>`: the connection_info's credentials go before the configuration's, and user and secret come from the same
/// place. Without auth_enabled the configuration's are used if it has a secret. nullopt: no authentication.
Result<std::optional<SourceAuth>> auth_of(const sdk::Volume& volume) {
  const sdk::Value data = volume.data();
  AIOLOS_TRY(const bool enabled, data.at("auth_enabled").boolean_or(false));
  if (!enabled) {
    AIOLOS_TRY(const std::string_view fallback, volume.configuration().at("secret_uuid").string_or(""));
    if (fallback.empty()) return std::nullopt;
  }
  AIOLOS_TRY(const std::string_view secret_type, secret_type_of(data.at("secret_type")));
  const sdk::Value secret_uuid = data.at("secret_uuid");
  if (!enabled || !secret_uuid) return configured_auth(volume, secret_type);
  AIOLOS_TRY(const std::string_view uuid, secret_uuid.string());
  AIOLOS_TRY(const std::string_view user, data.at("auth_username").string());
  return SourceAuth{std::string(user), std::string(secret_type), std::string(uuid)};
}

/// Absent is an empty list; anything else that is no list is a mistake and must not become one.
Result<void> check_list(const sdk::Value& value) {
  if (value && value.type() != AIOLOS_ARRAY) return value.mismatch("an array");
  return {};
}

class RbdDriver : public sdk::NetworkVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "rbd",
      .version = "1.0",
      .summary = "Ceph RBD images, by QEMU's own client",
      .types = {"rbd"},
      .configuration_key = "rbd",
      .configuration_defaults = R"({"user": "", "secret_uuid": ""})",
      .capabilities = AIOLOS_CAN_MULTIATTACH,
      .thread_model = sdk::ThreadModel::parallel,
  };

  /// As Nova's, except that the image's name is required: libvirt refuses a source without.
  Result<Attachment> describe(const sdk::Volume& volume) const override {
    const sdk::Value data = volume.data();
    AIOLOS_CHECK(data.at("name").string());
    AIOLOS_CHECK(check_list(data.at("hosts")));
    AIOLOS_CHECK(check_list(data.at("ports")));
    AIOLOS_TRY(Attachment attachment, NetworkVolumeDriver::describe(volume));
    AIOLOS_TRY(attachment.source.auth, auth_of(volume));
    return attachment;
  }

  /// QEMU resizes the image itself, through librbd; this host has nothing to look again at.
  Result<std::uint64_t> extend(sdk::Call&, const sdk::Volume&, const Attachment&, std::uint64_t bytes) override {
    return bytes;
  }
};

}  // namespace

AIOLOS_PLUGIN(RbdDriver)
