// SPDX-License-Identifier: Apache-2.0
// What was measured, and what follows from it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/facts.h"
#include "aiolos/core/measured_profile.h"
#include "load_case.h"
#include "statistics.h"

namespace aiolos::measure {

/// How a guest's processor runs.
enum class Accelerator { tcg, kvm };
std::string_view to_string(Accelerator accelerator);

/// One mode under one load, over the repetitions.
struct ModeResult {
  AioMode mode = AioMode::threads;
  Spread iops;    ///< Of all disks together.
  Spread p50_us;  ///< Latency that the guests see, microseconds.
  Spread p99_us;
  bool in_guest = false;  ///< Asked for and timed by fio in a guest; else by virtio drivers of ours, outside of one.
};

struct CaseResult {
  LoadCase load;
  std::vector<ModeResult> modes;
  std::optional<Spread> limit;  ///< IOPS of fio on the same files, without QEMU.
};

/// One kind of image or device.
struct SubjectResult {
  std::string name;  ///< "raw, preallocated", or the path that was given.
  StorageClass storage;
  std::vector<CaseResult> cases;
  std::vector<std::string> probes;  ///< What its storage was seen to be.
  std::vector<std::string> notes;   ///< What was not measured, and why.
};

/// What is written meanwhile by another guest through the same event loop.
enum class Neighbour { none, preallocated, sparse };
std::string_view to_string(Neighbour neighbour);

/// How long a request waits that needs no storage, and so for QEMU's event loop alone.
struct EventLoopResult {
  AioMode mode = AioMode::threads;  ///< Of the disk that is written.
  Neighbour neighbour = Neighbour::none;
  Spread p50_us;
  Spread p99_us;
  Spread max_us;
  Spread written_iops;
};

struct Conditions {
  double seconds = 1;                ///< Of each run.
  unsigned repetitions = 3;          ///< Runs of each case.
  std::uint64_t image_size = 0;      ///< Bytes of each image that was made; 0: none was.
  std::string limit_engine;          ///< fio's ioengine.
  double load_average = 0;           ///< Of this host over the minute before.
  unsigned iothreads = 0;            ///< That the disks were spread over; 0: QEMU's main loop served them all.
  std::optional<Accelerator> guest;  ///< nullopt: the load did not come from a guest.
};

/// Who did the disks' I/O: "the main loop of qemu-storage-daemon", "2 iothreads of a guest's QEMU (KVM)".
std::string describe_engines(const Conditions& conditions);

/// What has to be known of figures that come from an emulated guest; empty for others.
std::string_view caveat(const Conditions& conditions);

struct Report {
  std::string date;  ///< ISO 8601, UTC.
  std::string path;  ///< What was asked for.
  HostFacts host;
  Conditions conditions;
  std::vector<SubjectResult> subjects;
  std::vector<EventLoopResult> event_loop;
};

Json to_json(const Report& report);

/// What the policy is to know of a subject; nullopt with fewer than two modes that were measured in all cases.
///
/// Modes are ordered by the geometric mean of their IOPS over all cases. One that is not slower than the fastest by
/// more than what two runs of the same lie apart (and 2 %) counts as being as fast: of such native is first, then
/// io_uring, as where nothing was measured.
/// @param report when and with what it was measured.
std::optional<MeasuredProfile> profile_of(const SubjectResult& subject, const Report& report);

}  // namespace aiolos::measure
