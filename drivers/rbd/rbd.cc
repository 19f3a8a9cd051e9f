// SPDX-License-Identifier: Apache-2.0
// Ceph RBD volumes: by QEMU's own client, or mapped to a block device by the kernel's (rbd.client).
//
// Source: Nova 26, virt/libvirt/volume/net.py. A guest stands still while QEMU opens a disk, so connect asks the
// cluster first: a monitor that is down, a wrong key or a missing image is an error within seconds, and the guest is
// not touched.
#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>

#include "aiolos/plugin.hpp"
#include "ceph_conf.h"
#include "image.h"
#include "krbd.h"
#include "question.h"
#include "settings.h"

namespace {

using namespace aiolos;
using rbd::Client;
using rbd::Image;
using rbd::Settings;

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

Result<void> check_size(const Image& image, std::uint64_t present, std::uint64_t bytes) {
  if (bytes >= present) return {};
  return sdk::fail(ErrorKind::refused,
                   "the image " + image.path() + " has " + std::to_string(present) + " bytes; making it " +
                       std::to_string(bytes) + " would cut off the guest's data",
                   "ask for at least the present size");
}

/// Bytes of a mapped image's device.
Result<std::uint64_t> device_size(sdk::Call& call, const Attachment& attachment) {
  AIOLOS_TRY(const StorageFacts facts, call.probe(attachment.source.path, attachment.format));
  if (!facts.chain.empty() && facts.chain.front().virtual_size) return *facts.chain.front().virtual_size;
  return sdk::fail(ErrorKind::storage, "the size of " + attachment.source.path + " cannot be told",
                   "see `rbd device list` for what is mapped");
}

class RbdDriver : public sdk::NetworkVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "rbd",
      .version = "1.0",
      .summary = "Ceph RBD images, by QEMU's own client or the kernel's",
      .types = {"rbd"},
      .configuration_key = "rbd",
      .configuration_defaults = R"({"user": "", "secret_uuid": "", "client": "qemu", "connect_timeout": 5,
                                    "ceph_conf": "", "conf_dir": "/var/lib/aiolos/rbd"})",
      .capabilities = AIOLOS_CAN_MULTIATTACH,
      .thread_model = sdk::ThreadModel::per_target,
  };

  /// A setting that cannot be is told before any volume is touched.
  Result<void> init(sdk::Call& call) override {
    AIOLOS_CHECK(rbd::client_of(call.configuration()));
    AIOLOS_CHECK(rbd::settings_of(call.configuration()));
    return {};
  }

  /// The kernel's device has a number only when it is mapped; until then it is what udev will call it.
  Result<Attachment> describe(const sdk::Volume& volume) const override {
    AIOLOS_TRY(Attachment attachment, describe_network(volume));
    AIOLOS_TRY(const Client client, rbd::client_of(volume.configuration()));
    if (client == Client::qemu) return attachment;
    Attachment device;
    device.source.kind = SourceKind::block;
    device.source.path = "/dev/rbd/" + attachment.source.name.value_or("");
    return device;
  }

  Result<std::string> target(const sdk::Volume& volume) const override {
    const sdk::Value value = volume.data().at("name");
    AIOLOS_TRY(const std::string_view name, value.string());
    if (name.empty()) return value.error("the image has no name", "give it as pool/image");
    return std::string(name);
  }

  Result<Attachment> connect(sdk::Call& call, const sdk::Volume& volume) override {
    AIOLOS_TRY(const Client client, rbd::client_of(call.configuration()));
    AIOLOS_TRY(const Settings settings, rbd::settings_of(call.configuration()));
    AIOLOS_TRY(Attachment attachment, describe_network(volume));
    AIOLOS_TRY(const Image image, rbd::image_of(attachment.source));
    AIOLOS_CHECK(rbd::ask_size(call, image, settings));
    if (client == Client::kernel) return rbd::map_image(call, image, settings);
    if (settings.connect_timeout.count() == 0) return attachment;
    AIOLOS_TRY(attachment.source.config_file, publish_conf(call, image, settings));
    return attachment;
  }

  /// Whatever rbd.client says now: it may have been another when the volume was connected.
  Result<void> disconnect(sdk::Call& call, const sdk::Volume& volume, const Attachment* attachment,
                          bool force) override {
    AIOLOS_TRY(const Settings settings, rbd::settings_of(call.configuration()));
    AIOLOS_CHECK(rbd::withdraw_confs(call, conf_folder(attachment, settings)));
    const bool may_be_mapped = attachment == nullptr || attachment->source.kind == SourceKind::block;
    if (!may_be_mapped) return {};
    // Credentials are not needed, and may have been taken out of the configuration since.
    const auto image = NetworkVolumeDriver::describe(volume).and_then(
        [](const Attachment& described) { return rbd::image_of(described.source); });
    return image ? rbd::unmap_image(call, *image, attachment, force)
                 : Result<void>();  // what names none has none mapped
  }

  Result<void> verify(sdk::Call&, const sdk::Volume&, const Attachment& attachment) override {
    return attachment.source.kind == SourceKind::block ? rbd::verify_mapping(attachment) : Result<void>();
  }

  Result<std::uint64_t> extend(sdk::Call& call, const sdk::Volume& volume, const Attachment& attachment,
                               std::uint64_t bytes) override {
    AIOLOS_TRY(const Image image, image_of(volume));
    return attachment.source.kind == SourceKind::block ? extend_device(call, image, attachment, bytes)
                                                       : extend_image(call, image, bytes);
  }

  Result<AioAdvice> aio_mode(const Attachment& attachment, const StorageFacts* facts) const override {
    if (attachment.source.kind == SourceKind::block) return advise_remote_block(facts, "the mapped RBD image");
    return NetworkVolumeDriver::aio_mode(attachment, facts);
  }

 private:
  /// As Nova's, except that the image's name is required: libvirt refuses a source without.
  Result<Attachment> describe_network(const sdk::Volume& volume) const {
    const sdk::Value data = volume.data();
    AIOLOS_CHECK(data.at("name").string());
    AIOLOS_CHECK(check_list(data.at("hosts")));
    AIOLOS_CHECK(check_list(data.at("ports")));
    AIOLOS_TRY(Attachment attachment, NetworkVolumeDriver::describe(volume));
    AIOLOS_TRY(attachment.source.auth, auth_of(volume));
    return attachment;
  }

  Result<Image> image_of(const sdk::Volume& volume) const {
    AIOLOS_TRY(const Attachment attachment, describe_network(volume));
    return rbd::image_of(attachment.source);
  }

  /// Where a volume's file is: rbd.conf_dir may have been another, too.
  static std::string conf_folder(const Attachment* attachment, const Settings& settings) {
    if (attachment == nullptr || attachment->source.config_file.empty()) return settings.conf_dir;
    return std::filesystem::path(attachment->source.config_file).parent_path().string();
  }

  /// The file for the disk's own client. It bounds no wait for an OSD: that would fail a guest's I/O.
  static Result<std::string> publish_conf(sdk::Call& call, const Image& image, const Settings& settings) {
    AIOLOS_TRY(rbd::CephConf conf, rbd::read_conf(settings.ceph_conf));
    return rbd::publish_conf(
        call, settings.conf_dir,
        rbd::bounded(std::move(conf), image.entity(), settings.connect_timeout, rbd::Waits::monitors));
  }

  /// QEMU grows the image through the same client that the guest uses, and would shrink it without a word.
  static Result<std::uint64_t> extend_image(sdk::Call& call, const Image& image, std::uint64_t bytes) {
    AIOLOS_TRY(const Settings settings, rbd::settings_of(call.configuration()));
    AIOLOS_TRY(const std::uint64_t present, rbd::ask_size(call, image, settings));
    AIOLOS_CHECK(check_size(image, present, bytes));
    return bytes;
  }

  /// A mapped image is grown by its owner (Cinder, `rbd resize`); the cluster tells the kernel, some moments later.
  static Result<std::uint64_t> extend_device(sdk::Call& call, const Image& image, const Attachment& attachment,
                                             std::uint64_t bytes) {
    constexpr std::chrono::seconds kNotice{5};
    constexpr std::chrono::milliseconds kPause{100};
    const auto deadline = std::chrono::steady_clock::now() + kNotice;
    AIOLOS_TRY(std::uint64_t present, device_size(call, attachment));
    while (present < bytes && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(kPause);
      AIOLOS_TRY(present, device_size(call, attachment));
    }
    AIOLOS_CHECK(check_size(image, present, bytes));
    if (present == bytes) return present;
    return sdk::fail(ErrorKind::storage,
                     attachment.source.path + " has " + std::to_string(present) + " bytes, less than the " +
                         std::to_string(bytes) + " asked for",
                     "grow the image " + image.path() + " first (rbd resize), then extend again");
  }
};

}  // namespace

AIOLOS_PLUGIN(RbdDriver)
