// SPDX-License-Identifier: Apache-2.0
// Quobyte volumes: a file on a Quobyte volume that Quobyte's FUSE client has mounted on this host.
//
// Source: Nova 26, virt/libvirt/volume/quobyte.py. Mounting is not this driver's part yet: it declares no connect, and
// says where the file is once the volume is mounted. As in Nova, a `data.device_path` is not looked at.
#include "aiolos/plugin.hpp"

namespace {

using namespace aiolos;

class QuobyteDriver : public sdk::FileSystemVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "quobyte",
      .version = "1.0",
      .summary = "files on Quobyte volumes",
      .types = {"quobyte"},
      .configuration_key = "quobyte",
      .configuration_defaults = R"({"mount_point_base": "/var/lib/aiolos/mnt", "client_cfg": ""})",
      .capabilities = AIOLOS_CAN_MULTIATTACH,
      .thread_model = sdk::ThreadModel::parallel,
      .nova_driver_io = "native",
  };

  /// A hole is filled by the storage servers, and io_submit(2) waits for them as for a local file system.
  Result<AioAdvice> aio_mode(const Attachment&, const StorageFacts* facts) const override {
    return advise_by_allocation(facts, "the Quobyte file");
  }

 protected:
  /// "quobyte://registry/volume" and "registry/volume" are one volume, mounted once.
  Result<std::string> normalized_export(const sdk::Volume& volume) const override {
    constexpr std::string_view kScheme = "quobyte://";
    AIOLOS_TRY(std::string_view share, volume.data().at("export").string());
    if (share.starts_with(kScheme)) share.remove_prefix(kScheme.size());
    return std::string(share);
  }
};

}  // namespace

AIOLOS_PLUGIN(QuobyteDriver)
