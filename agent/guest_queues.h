// SPDX-License-Identifier: Apache-2.0
// How many requests a guest lets a disk have in flight (nr_requests), read and set by the guest's agent.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "aiolos/core/guest_agent.h"
#include "aiolos/core/interfaces.h"

namespace aiolos {

/// Of one guest. Every question has a bound, and so have all of them together; after the first one that was not
/// answered none is asked any more, for each would cost as much. What the guest says is believed of its own disks only.
class GuestQueues {
 public:
  /// Borrows agent and clock. @param domain UUID.
  GuestQueues(GuestAgent& agent, Clock& clock, std::string domain);

  /// The guest's virtio disks: the kernel's name ("vda") by serial number, of which the guest sees the first 20 bytes.
  Result<std::map<std::string, std::string>> disks();
  /// nr_requests: of each of the disk's queues.
  Result<unsigned> depth(const std::string& device);
  /// How many queues the guest uses of the disk: one for each of its processors, at most those that the disk has.
  Result<unsigned> queues(const std::string& device, unsigned most);
  Result<void> set_depth(const std::string& device, unsigned depth);
  /// What the guest sees as the disk's serial number.
  Result<std::string> serial(const std::string& device);

 private:
  Result<Json> ask(const std::string& command, const Json& arguments);
  Result<std::string> read_file(const std::string& path);
  Result<void> write_file(const std::string& path, const std::string& text);

  GuestAgent& agent_;
  Clock& clock_;
  const std::string domain_;
  const std::chrono::steady_clock::time_point deadline_;
  std::optional<Error> silent_;  ///< What became of the first question that was not answered.
};

/// Of a volume's serial number, what a guest sees of it on a virtio disk. Source: QEMU include/standard-headers/linux/
/// virtio_blk.h, VIRTIO_BLK_ID_BYTES.
std::string seen_serial(const std::string& serial);

}  // namespace aiolos
