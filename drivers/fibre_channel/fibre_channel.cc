// SPDX-License-Identifier: Apache-2.0
// Fibre Channel volumes: a LUN that an array shows at some of its ports to this host's HBAs.
//
// Source: Nova 26, virt/libvirt/volume/fibrechannel.py; os-brick 6.4, initiator/connectors/fibre_channel.py and
// initiator/linuxfc.py.
//
// Volumes share nothing here but themselves: a volume's SCSI devices and its multipath map are used by all guests that
// it is attached to, and are held by the LUNs that they show. The kernel makes devices unasked too, whenever a target
// port comes back. So a device that is there already, and that nobody uses, is the volume's as much as one that was
// scanned for, and goes with it; one that is in use is left to who uses it.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aiolos/plugin.hpp"
#include "discovery.h"
#include "scsi/paths.h"
#include "scsi/use.h"
#include "volume_address.h"

namespace {

using namespace aiolos;
using fibre_channel::TargetLun;
using fibre_channel::VolumeAddress;

/// What lasts from connect to disconnect: Attachment.state.
constexpr const char* kWwid = "wwid";

Result<std::string> wwid_of(const Attachment& attachment) {
  const auto wwid = attachment.state.find(kWwid);
  if (wwid != attachment.state.end() && wwid->is_string()) return wwid->get<std::string>();
  return sdk::fail(ErrorKind::bug, "the attachment has no WWID", "detach the volume by force and attach it again");
}

/// Whether the volume is to be connected here. What has a device_path alone was connected by others, and is taken as it
/// is.
bool is_ours(const sdk::Volume& volume) {
  const sdk::Value data = volume.data();
  return data.at("target_wwn") || data.at("target_wwns") || !data.at("device_path");
}

/// Whether anybody uses a disk, other than the multipath map over it that nobody uses.
bool is_in_use(const scsi::Sysfs& sysfs, const std::string& disk) {
  const std::optional<scsi::Map> map = scsi::map_over(sysfs, disk);
  return !scsi::holders_of(sysfs, map ? map->device : disk).empty() || !scsi::openers_of(sysfs, disk).empty() ||
         (map && !scsi::openers_of(sysfs, map->device).empty());
}

class FibreChannelDriver : public sdk::BlockVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "fibre_channel",
      .version = "1.0",
      .summary = "Fibre Channel LUNs as block devices of this host",
      .types = {"fibre_channel"},
      .configuration_key = "fibre_channel",
      .configuration_defaults = R"({"use_multipath": false, "scan_attempts": 5})",
      .capabilities = AIOLOS_CAN_MULTIATTACH | AIOLOS_CAN_MULTIPATH,
      .thread_model = sdk::ThreadModel::per_target,
      .nova_driver_io = "native",
  };

  FibreChannelDriver() : BlockVolumeDriver("the Fibre Channel volume") {}

  /// The volume, by the first of its LUNs: an array shows a volume to one host at the same ports for all its guests.
  Result<std::string> target(const sdk::Volume& volume) const override {
    if (!is_ours(volume)) {
      AIOLOS_TRY(const Attachment given, describe(volume));
      return given.source.path;
    }
    AIOLOS_TRY(const VolumeAddress address, fibre_channel::read_address(volume));
    return shown(*std::min_element(address.luns.begin(), address.luns.end()));
  }

  Result<Attachment> connect(sdk::Call& call, const sdk::Volume& volume) override {
    if (!is_ours(volume)) return describe(volume);
    AIOLOS_TRY(const VolumeAddress address, fibre_channel::read_address(volume));
    AIOLOS_TRY(const fibre_channel::Search search, read_search(volume));
    AIOLOS_CHECK(hold(call, address));
    AIOLOS_TRY(const std::vector<scsi::Path> paths, fibre_channel::find_paths(call, sysfs_, address, search));
    AIOLOS_TRY(const scsi::Published published, scsi::publish(call, sysfs_, paths, search.all_paths));
    Attachment attachment;
    attachment.source.kind = SourceKind::block;
    attachment.source.path = published.node;
    attachment.state = {{kWwid, published.wwid}};
    return attachment;
  }

  Result<void> disconnect(sdk::Call& call, const sdk::Volume& volume, const Attachment* attachment,
                          bool force) override {
    if (!is_ours(volume)) return {};
    AIOLOS_TRY(const VolumeAddress address, fibre_channel::read_address(volume));
    AIOLOS_TRY(const VolumeAddress ours, held_alone(call, address));
    if (ours.luns.empty()) return {};
    const std::vector<scsi::Path> paths = fibre_channel::present_paths(sysfs_, ours);
    // A connect that failed gave the volume to nobody: there is nothing in it to be lost.
    if (attachment == nullptr) return release(call, paths, /*wwid=*/"", /*is_below_map=*/false, /*force=*/true);
    AIOLOS_TRY(const std::string wwid, wwid_of(*attachment));
    return release(call, paths, wwid, scsi::is_map_link(attachment->source.path), force);
  }

  Result<void> verify(sdk::Call& call, const sdk::Volume& volume, const Attachment& attachment) override {
    if (!is_ours(volume)) return {};  // what others connected was never identified
    AIOLOS_TRY(const VolumeAddress address, fibre_channel::read_address(volume));
    AIOLOS_TRY(const std::string wwid, wwid_of(attachment));
    return scsi::verify(call, sysfs_, fibre_channel::present_paths(sysfs_, address), wwid, attachment.source.path);
  }

  Result<std::uint64_t> extend(sdk::Call& call, const sdk::Volume& volume, const Attachment& attachment,
                               std::uint64_t bytes) override {
    if (!is_ours(volume))
      return sdk::fail(ErrorKind::refused,
                       attachment.source.path + " was connected by another program, so its paths are not known here",
                       "extend it with what connected it, then tell the guest with virsh blockresize");
    AIOLOS_TRY(const VolumeAddress address, fibre_channel::read_address(volume));
    AIOLOS_TRY(const std::string wwid, wwid_of(attachment));
    return scsi::extend(call, sysfs_, fibre_channel::present_paths(sysfs_, address), wwid, bytes);
  }

 private:
  static Result<fibre_channel::Search> read_search(const sdk::Volume& volume) {
    const sdk::Value settings = volume.configuration();
    AIOLOS_TRY(const bool use_multipath, settings.at("use_multipath").boolean());
    AIOLOS_TRY(const std::int64_t attempts, settings.at("scan_attempts").integer());
    if (attempts < 1 || attempts > kMostAttempts)
      return settings.at("scan_attempts")
          .error(std::to_string(attempts) + " is no number of scans", "use 1 to " + std::to_string(kMostAttempts));
    return fibre_channel::Search{use_multipath, static_cast<int>(attempts)};
  }

  /// Holds the volume's LUNs, but for those whose devices somebody uses who is not known to the journal.
  Result<void> hold(sdk::Call& call, const VolumeAddress& volume) const {
    for (const TargetLun& lun : volume.luns) {
      AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(shown(lun)));
      if (holders.others == 0 && !holders.held && is_in_use(volume, lun)) {
        call.info(shown(lun) + " is in use on this host already, so its devices will stay");
        continue;
      }
      AIOLOS_CHECK(call.hold(shown(lun)));
    }
    return {};
  }

  bool is_in_use(const VolumeAddress& volume, const TargetLun& lun) const {
    VolumeAddress one = volume;
    one.luns = {lun};
    const std::vector<scsi::Path> paths = fibre_channel::present_paths(sysfs_, one);
    return std::any_of(paths.begin(), paths.end(), [&](const scsi::Path& path) {
      const std::optional<scsi::Disk> disk = scsi::find_disk(sysfs_, path.address);
      return disk && ::is_in_use(sysfs_, disk->name);
    });
  }

  /// The LUNs that this volume's attachment holds and no other does: what goes when it disconnects.
  static Result<VolumeAddress> held_alone(sdk::Call& call, VolumeAddress volume) {
    std::vector<TargetLun> alone;
    for (TargetLun& lun : volume.luns) {
      AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(shown(lun)));
      if (holders.held && holders.others == 0) alone.push_back(std::move(lun));
    }
    volume.luns = std::move(alone);
    return volume;
  }

  Result<void> release(sdk::Call& call, const std::vector<scsi::Path>& paths, const std::string& wwid,
                       bool is_below_map, bool force) const {
    AIOLOS_CHECK(scsi::release_map(call, sysfs_, paths, wwid, force));
    for (const scsi::Path& path : paths)
      AIOLOS_CHECK(is_below_map ? delete_below_map(call, path) : scsi::release_disk(call, sysfs_, path, force));
    return {};
  }

  /// Deletes a disk whose data went through a map, and were flushed with it: it has no cache of its own, and one whose
  /// path is down could not even be opened.
  Result<void> delete_below_map(sdk::Call& call, const scsi::Path& path) const {
    if (const std::optional<scsi::Disk> disk = scsi::find_disk(sysfs_, path.address)) {
      const std::optional<scsi::Map> others = scsi::map_over(sysfs_, disk->name);
      AIOLOS_CHECK(scsi::check_unused(sysfs_, disk->name,
                                      others ? std::vector<std::string>{others->device} : std::vector<std::string>{}));
    }
    return call.effect("delete SCSI device " + to_string(path.address) + " of " + path.name,
                       [&] { return scsi::delete_device(call, sysfs_, path.address); });
  }

  static constexpr std::int64_t kMostAttempts = 100;
  scsi::Sysfs sysfs_;
};

}  // namespace

AIOLOS_PLUGIN(FibreChannelDriver)
