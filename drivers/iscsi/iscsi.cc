// SPDX-License-Identifier: Apache-2.0
// iSCSI volumes: a LUN that the kernel's initiator has logged in to, as a block device of this host.
//
// Source: Nova 26, virt/libvirt/volume/iscsi.py. Logging in is not this driver's part yet: it declares no connect, and
// expects `data.device_path` to be there.
#include "aiolos/plugin.hpp"

namespace {

using namespace aiolos;

class IscsiDriver : public sdk::BlockVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "iscsi",
      .version = "1.0",
      .summary = "iSCSI LUNs as block devices of this host",
      .types = {"iscsi"},
      .configuration_key = "iscsi",
      .configuration_defaults = R"({"use_multipath": false, "iface": "default", "scan_attempts": 5})",
      .capabilities = AIOLOS_CAN_MULTIATTACH,
      .thread_model = sdk::ThreadModel::parallel,
      .nova_driver_io = "native",
  };

  /// The target allocates, out of sight of this host's file systems: only a thin layer in between speaks against
  /// `native`.
  Result<AioAdvice> aio_mode(const Attachment&, const StorageFacts* facts) const override {
    return advise_remote_block(facts, "the iSCSI volume");
  }
};

}  // namespace

AIOLOS_PLUGIN(IscsiDriver)
