// SPDX-License-Identifier: Apache-2.0
// What `aiolos measure --save` leaves for the AIO policy: which mode was how fast on a class of storage.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/facts.h"
#include "aiolos/core/json.h"
#include "aiolos/core/vocabulary.h"

namespace aiolos {

/// What volumes have in common for which one measurement stands.
struct StorageClass {
  std::string volume_type;  ///< driver_volume_type: "iscsi", "file", ...
  std::string format;       ///< Of what the guest writes to: "raw", "qcow2".
  Allocation allocation = Allocation::unknown;
  std::string filesystem;  ///< "ext4", "nfs4", ...; "block device" where there is none.

  bool operator==(const StorageClass&) const = default;
};

/// The class of a volume whose storage was probed; nullopt if nothing was.
std::optional<StorageClass> storage_class(std::string_view volume_type, const StorageFacts& facts);

/// "file, raw, full, ext4"
std::string to_string(const StorageClass& storage);

/// {"volume_type", "format", "allocation", "filesystem"}
Json to_json(const StorageClass& storage);

/// The modes of one class, as they were measured on this host.
struct MeasuredProfile {
  struct Mode {
    AioMode mode = AioMode::threads;
    double times_last = 1;  ///< Requests a second by those of the last mode: geometric mean over all cases.

    bool operator==(const Mode&) const = default;
  };
  StorageClass storage;
  std::string date;               ///< ISO 8601, UTC.
  std::optional<Version> kernel;  ///< That it was measured with, as QEMU is; nullopt: not known.
  std::optional<Version> qemu;
  std::string through;      ///< What did the I/O: "the main loop of qemu-storage-daemon"; empty: not known.
  std::vector<Mode> modes;  ///< The one to use first; at least two.
  unsigned cases = 0;       ///< How many were measured.
  std::string widest_case;  ///< In which the first mode leads the last by most: "random write 4 KiB, depth 64, 1 disk".
  double widest_lead = 1;   ///< By how many times there.
  std::string tie_broken_by;  ///< Why the first mode stands before one that was no slower; empty if none was.

  bool operator==(const MeasuredProfile&) const = default;
};

Json to_json(const MeasuredProfile& profile);

/// As to_json() writes it. ErrorKind::bad_input names the JSON pointer of what is missing or wrong.
Result<MeasuredProfile> measured_profile_from_json(const Json& value);

/// One sentence: when, on what, with what, which mode, by how much and where most.
std::string describe(const MeasuredProfile& profile);

/// Why a measurement may hold no longer, each as a clause: another kernel, another QEMU, its age. Empty if nothing
/// speaks against it. What is not known of the host, or of its QEMU, is no reason.
/// @param most_days how old it may be; 0: as old as it likes.
std::vector<std::string> doubts(const MeasuredProfile& profile, const HostFacts& host, std::chrono::sys_days today,
                                unsigned most_days);

}  // namespace aiolos
