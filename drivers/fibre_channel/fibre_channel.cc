// SPDX-License-Identifier: Apache-2.0
// Fibre Channel volumes: a LUN behind this host's HBAs, as a block device of this host.
//
// Source: Nova 26, virt/libvirt/volume/fibrechannel.py. Scanning for the LUN is not this driver's part yet: it declares
// no connect, and expects `data.device_path` to be there.
#include "aiolos/plugin.hpp"

namespace {

using namespace aiolos;

class FibreChannelDriver : public sdk::BlockVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "fibre_channel",
      .version = "1.0",
      .summary = "Fibre Channel LUNs as block devices of this host",
      .types = {"fibre_channel"},
      .configuration_key = "fibre_channel",
      .configuration_defaults = R"({"use_multipath": false, "scan_attempts": 5})",
      .capabilities = AIOLOS_CAN_MULTIATTACH,
      .thread_model = sdk::ThreadModel::parallel,
      .nova_driver_io = "native",
  };

  /// The array allocates, out of sight of this host's file systems: only a thin layer in between speaks against
  /// `native`.
  Result<AioAdvice> aio_mode(const Attachment&, const StorageFacts* facts) const override {
    return advise_remote_block(facts, "the Fibre Channel volume");
  }
};

}  // namespace

AIOLOS_PLUGIN(FibreChannelDriver)
