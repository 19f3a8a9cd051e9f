// SPDX-License-Identifier: Apache-2.0
// What qemu-storage-daemon and a guest's QEMU are told in the same words: the images to open and the engines that serve
// them. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "aiolos/core/json.h"
#include "aiolos/core/vocabulary.h"

namespace aiolos::measure {

/// A file or block device for QEMU to open.
struct QemuDisk {
  std::string path;
  std::string format;  ///< "raw" or "qcow2".
  bool block_device = false;
  bool writable = false;
};

/// Appends an option whose value is JSON, in which a path may hold commas.
void add_option(std::vector<std::string>& argv, const char* option, const Json& value);

/// Has a disk opened with aio=MODE and without the host's cache: one node for the file and, as QEMU has it, one for the
/// format on top. @return the name of the latter.
std::string add_image(std::vector<std::string>& argv, const QemuDisk& disk, AioMode mode, std::size_t index);

/// Makes iothreads.
void add_iothreads(std::vector<std::string>& argv, unsigned count);

/// The iothread that serves a disk; disks take turns. @param count of iothreads, at least one.
std::string iothread_of(std::size_t disk, unsigned count);

/// How many of so many iothreads have a disk to serve.
unsigned iothreads_for(std::size_t disks, unsigned iothreads);

}  // namespace aiolos::measure
