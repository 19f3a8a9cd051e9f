// SPDX-License-Identifier: Apache-2.0
// NFS volumes: a file on an export that is mounted on this host.
//
// Source: Nova 26, virt/libvirt/volume/{nfs,fs}.py. Mounting is not this driver's part yet: it declares no connect, and
// says where the file is once the export is mounted.
#include "aiolos/plugin.hpp"

namespace {

using namespace aiolos;

class NfsDriver : public sdk::FileSystemVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "nfs",
      .version = "1.0",
      .summary = "files on NFS exports",
      .types = {"nfs"},
      .configuration_key = "nfs",
      .configuration_defaults = R"({"mount_point_base": "/var/lib/aiolos/mnt", "mount_options": ""})",
      .capabilities = AIOLOS_CAN_MULTIATTACH,
      .thread_model = sdk::ThreadModel::parallel,
      .nova_driver_io = "native",
  };

  /// A connection_info that has been connected, by Nova too, says where: that wins, as it does in Nova's get_config.
  Result<Attachment> describe(const sdk::Volume& volume) const override {
    const sdk::Value device_path = volume.data().at("device_path");
    if (!device_path) return FileSystemVolumeDriver::describe(volume);
    AIOLOS_TRY(const std::string_view path, device_path.string());
    if (!path.starts_with('/'))
      return device_path.error("the path '" + std::string(path) + "' is not absolute",
                               "leave data.device_path out and the path follows from data.export and data.name");
    AIOLOS_TRY(const std::string_view format, volume.data().at("format").string_or("raw"));
    Attachment attachment;
    attachment.source.kind = SourceKind::file;
    attachment.source.path = path;
    attachment.format = format;
    return attachment;
  }

  /// A hole is filled by the server, and io_submit(2) waits for it as it does for a local file system.
  Result<AioAdvice> aio_mode(const Attachment&, const StorageFacts* facts) const override {
    return advise_by_allocation(facts, "the NFS file");
  }
};

}  // namespace

AIOLOS_PLUGIN(NfsDriver)
