// SPDX-License-Identifier: Apache-2.0
// A throw-away guest whose disks are what is measured: QEMU's own virtio-blk, its exits, and Linux and fio in it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "aiolos/host/background_process.h"
#include "load_case.h"
#include "load_run.h"
#include "outside.h"
#include "qemu_arguments.h"

namespace aiolos::measure {

/// What a guest is made of.
struct GuestMachine {
  std::string kernel;  ///< Paths.
  std::string initrd;
  bool kvm = false;  ///< Whether KVM boots it here; else it is emulated.
};

/// Finds a guest's image, as scripts/guest-image makes it, and tries whether KVM boots it: /dev/kvm alone does not
/// tell.
/// @return ErrorKind::configuration if it is not there.
Result<GuestMachine> find_guest_machine(const std::string& folder, const TemporaryFolder& work, const Stop& stop);

struct GuestOptions {
  std::vector<QemuDisk> disks;  ///< At most 64.
  AioMode mode = AioMode::threads;
  unsigned iothreads = 0;  ///< That the disks are spread over; 0: QEMU's main loop serves them all.
  std::uint64_t memory_mib = 384;
  std::string control;  ///< Socket of its control port.
};

/// Pure.
std::vector<std::string> guest_command(const GuestMachine& machine, const GuestOptions& options);

/// MiB of memory for a guest that makes this load.
std::uint64_t guest_memory_mib(const LoadCase& load);

/// What the guest is to run: fio on all its disks, whose JSON it prints. Pure.
std::string guest_script(const LoadCase& load, const RunOptions& options);

/// Starts it, which takes a while.
Result<std::unique_ptr<BackgroundProcess>> start_guest(const GuestMachine& machine, const GuestOptions& options,
                                                       const TemporaryFolder& folder);

/// Waits until it has booted, and has it run a load. @param control as in its options.
/// @return ErrorKind::storage with fio's words if it fails; errors as ask_guest().
Result<RunFigures> load_guest(BackgroundProcess& guest, const std::string& control, const LoadCase& load,
                              const RunOptions& options, const Stop& stop);

}  // namespace aiolos::measure
