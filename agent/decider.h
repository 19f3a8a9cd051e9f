// SPDX-License-Identifier: Apache-2.0
// From a volume to its decision and its `<disk>`: what disk-xml, explain and attach share.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aiolos/agent/agent.h"
#include "aiolos/disk/disk_config.h"
#include "aiolos/plugins/registry.h"
#include "volume_disk.h"
#include "volume_secrets.h"

namespace aiolos {

/// Everything that a flow knows of one volume before it acts. Views its connection_info.
struct Volume {
  const Json* connection_info = nullptr;  ///< Of the flows that go beyond an XML.
  VolumeInfo info;
  DiskInfo disk_info;
  Driver* driver = nullptr;
};

/// Who is to do the I/O of a volume's disk once a guest has it.
DataPlaneKind data_plane_of(const Config& config, const Volume& volume);

/// What a native disk would need of the host's AIO budget.
struct AioRoom {
  unsigned new_contexts = 1;            ///< As AioQuestion has it.
  std::uint64_t reserved_events = 0;    ///< As AioQuestion has it.
  std::optional<std::uint64_t> aio_nr;  ///< fs.aio-nr at that moment, if it was read again.
};

/// A guest that is to get the disk. For one decision.
class Placement {
 public:
  virtual ~Placement() = default;
  /// Asked if native would be right: what it needs here. May reserve it.
  virtual Result<AioRoom> room(const HostFacts& host) = 0;
  /// Puts the disk, with the mode that was decided, on one of the guest's engines.
  virtual Result<void> place(disk::DiskConfig& disk, const HostFacts& host, std::vector<std::string>& notes) = 0;
};

/// Decides; never changes anything. Borrows all it is given; as safe from several threads as those are.
class Decider {
 public:
  Decider(const Config& config, Machine& machine, const Registry& registry)
      : config_(config), machine_(machine), registry_(registry) {}

  /// Kernel, libvirt and QEMU.
  Result<HostFacts> host() const;

  /// Checks the input and finds the driver. The Volume views connection_info: keep that.
  Result<Volume> read_volume(const Json& connection_info, const Json& disk_info) const;

  /// The disk of Agent::disk_xml: decides without probing.
  Result<disk::DiskConfig> disk(const JsonNode& connection_info, const JsonNode& disk_info,
                                VolumeSecrets& secrets) const;

  /// Decides with probed facts.
  /// @param guest where the disk is to go; nullptr for a decision about the storage alone, which counts one
  /// AioContext for a native disk.
  Result<std::pair<Explanation, disk::DiskConfig>> decide(const Volume& volume, const Attachment& attachment,
                                                          Placement* guest) const;

 private:
  Result<Volume> read_volume(const JsonNode& connection_info, const JsonNode& disk_info) const;
  /// What Nova's driver of this storage sets.
  std::optional<AioMode> nova_driver_io(const Volume& volume, const Attachment& attachment) const;
  /// The question to the policy that disk_xml and decide ask. @param facts nullptr if not probed.
  Result<AioQuestion> question(const Volume& volume, const Attachment& attachment, const StorageFacts* facts) const;
  /// For profile measured: what was measured of such storage on this host, or why nothing was.
  void find_measurement(const Volume& volume, const StorageFacts* facts, AioQuestion& question) const;
  /// The cache mode, and why if it is not the configured or usual one.
  Result<void> choose_cache(const Volume& volume, const StorageFacts* facts, AioQuestion& question) const;
  /// Decides, with what the guest needs of the host's AIO budget if the disk would be native.
  Result<AioDecision> decide_within_budget(AioQuestion& question, Placement* guest) const;
  Result<std::optional<std::string>> luks_secret(const VolumeInfo& volume, VolumeSecrets& secrets) const;
  /// The disk that follows from a decision, checked by the model's rules.
  Result<disk::DiskConfig> make_disk(Volume&& volume, Attachment&& attachment, CacheMode cache,
                                     std::optional<AioMode> io, VolumeSecrets& secrets) const;

  const Config& config_;
  Machine& machine_;
  const Registry& registry_;
};

}  // namespace aiolos
