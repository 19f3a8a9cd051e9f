// SPDX-License-Identifier: Apache-2.0
// Volumes that are on this host already: block devices (type `local`, as Nova has it) and image files (type `file`).
//
// Source of `local`: Nova 26, virt/libvirt/volume/volume.py, LibvirtVolumeDriver. Connecting looks whether the volume
// is what the connection_info says, activates a logical volume that is not, and preallocates raw images where
// images.preallocate asks so.
//
// A file system that hangs (a dead NFS server) never answers a system call, and no limit can be set to one. So the
// host's probe, which has a deadline, goes before every look of the driver's own.
#include <filesystem>
#include <string>
#include <string_view>

#include "aiolos/image_file.hpp"
#include "aiolos/plugin.hpp"
#include "logical_volume.h"
#include "node.h"

namespace {

using namespace aiolos;
using local::NodeKind;

/// A member of `data` that is an absolute path.
Result<std::string> absolute_path(const sdk::Value& value) {
  AIOLOS_TRY(const std::string_view path, value.string());
  if (path.find('\0') != std::string_view::npos)
    return value.error("the path holds a NUL character", "give the path without it");
  if (!path.starts_with('/'))
    return value.error("'" + std::string(path) + "' is no absolute path",
                       "give the path from the root, such as /dev/vg/lv");
  return std::string(path);
}

/// Whether the guest may write, so far as the volume says.
bool is_writable(const sdk::Volume& volume) { return volume.data().at("access_mode").string().value_or("rw") != "ro"; }

Result<Attachment> describe_device(const sdk::Volume& volume) {
  Attachment attachment;
  attachment.source.kind = SourceKind::block;
  AIOLOS_TRY(attachment.source.path, absolute_path(volume.data().at("device_path")));
  return attachment;
}

Result<Attachment> describe_image(const sdk::Volume& volume) {
  Attachment attachment;
  attachment.source.kind = SourceKind::file;
  AIOLOS_TRY(attachment.source.path, absolute_path(volume.data().at("path")));
  AIOLOS_TRY(attachment.format, sdk::image_format(volume));
  return attachment;
}

NodeKind kind_of(const Attachment& attachment) {
  return attachment.source.kind == SourceKind::file ? NodeKind::regular_file : NodeKind::block_device;
}

const char* path_pointer(const Attachment& attachment) {
  return attachment.source.kind == SourceKind::file ? "/data/path" : "/data/device_path";
}

/// The host's facts of a volume, asked for before anything else touches it; an error if what lies at its path is of
/// another kind.
Result<StorageFacts> probe_and_look_at(sdk::Call& call, const Attachment& attachment, const std::string& where) {
  const std::string& path = attachment.source.path;
  Result<StorageFacts> facts = call.probe(path, attachment.format);
  // No answer in time: a look of ours would never come back. After any other error the storage does answer, and the
  // look says better what is wrong with the path.
  if (!facts && facts.error().kind == ErrorKind::retry) return facts;
  AIOLOS_CHECK(local::look_at(path, kind_of(attachment), where));
  return facts;
}

class LocalDriver : public sdk::VolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "local",
      .version = "1.0",
      .summary = "block devices and image files (raw, qcow2) of this host",
      .types = {"local", "file"},
      .configuration_key = "images",
      .configuration_defaults = R"({"preallocate": "none"})",
      .capabilities = AIOLOS_CAN_MULTIATTACH,
      .thread_model = sdk::ThreadModel::per_target,
  };

  Result<Attachment> describe(const sdk::Volume& volume) const override {
    return volume.type() == "file" ? describe_image(volume) : describe_device(volume);
  }

  /// The path without ".", ".." and doubled slashes. It touches nothing, so that a file system that hangs holds up no
  /// lock; for that, a volume that symbolic links give two names is two targets.
  Result<std::string> target(const sdk::Volume& volume) const override {
    AIOLOS_TRY(const Attachment attachment, describe(volume));
    return std::filesystem::path(attachment.source.path).lexically_normal().string();
  }

  Result<Attachment> connect(sdk::Call& call, const sdk::Volume& volume) override {
    AIOLOS_TRY(Attachment attachment, describe(volume));
    const bool writable = is_writable(volume);
    if (kind_of(attachment) == NodeKind::block_device) AIOLOS_CHECK(local::activate(call, attachment.source.path));
    // The probe opens the image in its format, and so refuses what is no qcow2. A raw image may begin with anything: it
    // is the guest's.
    AIOLOS_TRY(const StorageFacts facts, probe_and_look_at(call, attachment, path_pointer(attachment)));
    AIOLOS_CHECK(local::check_access(attachment.source.path, kind_of(attachment), writable, path_pointer(attachment)));
    if (writable) AIOLOS_CHECK(preallocate_if_asked(call, attachment, facts));
    return attachment;
  }

  /// Preallocated space is the volume's own and stays.
  Result<void> disconnect(sdk::Call& call, const sdk::Volume& volume, const Attachment*, bool) override {
    AIOLOS_TRY(const Attachment attachment, describe(volume));
    if (kind_of(attachment) != NodeKind::block_device) return {};
    return local::deactivate(call, attachment.source.path);
  }

  Result<std::uint64_t> extend(sdk::Call& call, const sdk::Volume&, const Attachment& attachment,
                               std::uint64_t bytes) override {
    if (attachment.source.kind != SourceKind::file) return extend_device(call, attachment, bytes);
    AIOLOS_TRY(const StorageFacts facts, probe_and_look_at(call, attachment, {}));
    return sdk::extend_image(call, attachment, facts, bytes);
  }

  Result<AioAdvice> aio_mode(const Attachment& attachment, const StorageFacts* facts) const override {
    return advise_by_allocation(facts, attachment.source.kind == SourceKind::file ? "the image" : "the block device");
  }

 private:
  /// images.preallocate=space: raw images only. Preallocating below a qcow2 would not keep its own metadata from
  /// changing on the first write of each cluster, so it would buy nothing that the AIO decision could use.
  static Result<void> preallocate_if_asked(sdk::Call& call, const Attachment& attachment, const StorageFacts& facts) {
    AIOLOS_TRY(const std::string_view wanted, call.configuration().at("preallocate").string_or("none"));
    if (wanted != "space" || attachment.source.kind != SourceKind::file || attachment.format != sdk::kRaw) return {};
    if (facts.allocation() == Allocation::full) return {};
    return sdk::preallocate_image(call, attachment.source.path, facts);
  }

  /// A device is grown by its owner (lvextend, the array); this only sees whether that has been done.
  static Result<std::uint64_t> extend_device(sdk::Call& call, const Attachment& attachment, std::uint64_t bytes) {
    const std::string& path = attachment.source.path;
    AIOLOS_CHECK(sdk::check_new_size(bytes, 0, path));
    AIOLOS_TRY(const StorageFacts facts, call.probe(path, attachment.format));
    AIOLOS_TRY(const std::uint64_t present, sdk::virtual_size(facts, path));
    if (present < bytes)
      return sdk::fail(
          ErrorKind::storage,
          path + " has " + std::to_string(present) + " bytes, less than the " + std::to_string(bytes) + " asked for",
          "grow the device first (lvextend, or on the array), then extend again");
    return present;
  }
};

}  // namespace

AIOLOS_PLUGIN(LocalDriver)
