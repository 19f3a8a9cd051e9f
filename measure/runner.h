// SPDX-License-Identifier: Apache-2.0
// Compares AIO modes on some storage, from the first image to the report.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/interfaces.h"
#include "guest.h"
#include "outside.h"
#include "report.h"
#include "test_images.h"

namespace aiolos::measure {

/// What is there already: an image or block device of the caller's.
struct Volume {
  std::string path;
  std::string format = "raw";
  std::string volume_type;  ///< driver_volume_type.
  bool writable = false;    ///< Whether its content may be lost.
};

struct Plan {
  std::string path;  ///< The folder or file, for the report.
  LoadMatrix matrix;
  std::vector<AioMode> modes{AioMode::threads, AioMode::native, AioMode::io_uring};
  double seconds = 1;
  unsigned repetitions = 3;
  std::uint64_t image_size = std::uint64_t{512} << 20;  ///< Bytes of each image that is made.
  std::string volume_type = "file";                     ///< Of those.
  unsigned iothreads = 0;  ///< That the disks are spread over; 0: QEMU's main loop serves them all.
  /// The folder of the image of a guest to load the disks; nullopt: virtio drivers outside of a guest do, on
  /// qemu-storage-daemon.
  std::optional<std::string> guest_image;
  bool decides = false;  ///< Whether the AIO policy is to follow it: no emulated guest will do then.
  bool limit = true;
  bool event_loop = true;  ///< Without a guest only.
};

/// How far it has come.
struct Progress {
  unsigned done = 0;  ///< Steps.
  unsigned all = 0;
  std::string doing;
};

/// This host, as a measurement uses it; all borrowed.
struct Outside {
  BlockDevices& block_devices;
  HostProbe& probe;
  const HostFacts& host;
  Stop stop;
  std::function<void(const Progress&)> progress;
  const GuestMachine* guest = nullptr;  ///< That loads the disks, if any.
};

/// Measures a volume that is there. It is only read unless it is writable; only cases with one disk are measured.
/// @return ErrorKind::bad_input if nothing is left to measure; what the storage or QEMU refuse, with their words.
Result<Report> measure_volume(const Plan& plan, const Volume& volume, const Outside& outside);

/// Measures images of all kinds that are made in a folder, and removed. Sparse ones are written only, each run in
/// images of its own: reading holes asks nothing of the storage.
Result<Report> measure_folder(const Plan& plan, const std::string& folder, const Outside& outside);

}  // namespace aiolos::measure
