// SPDX-License-Identifier: Apache-2.0
// What is known of storage and host when a decision is made. Plain data, filled by host/ and by drivers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/json.h"
#include "aiolos/core/vocabulary.h"

namespace aiolos {

/// One layer of a disk's chain: the image a guest writes to, or one of its backing images.
struct LayerFacts {
  std::string path;
  std::string format;                               ///< "raw", "qcow2", ... as qemu-img names it.
  SourceKind kind = SourceKind::file;               ///< file or block.
  Allocation allocation = Allocation::unknown;      ///< Of this layer alone.
  std::optional<bool> o_direct;                     ///< Whether open(2) with O_DIRECT succeeded; nullopt: not tried.
  std::optional<std::uint64_t> virtual_size;        ///< Bytes that the guest sees.
  std::optional<std::uint64_t> allocated;           ///< Bytes allocated on the storage below.
  std::optional<std::uint32_t> logical_block_size;  ///< Bytes; the alignment O_DIRECT needs.
  std::string filesystem;                           ///< Type of the file system that holds a file: "ext4", "nfs4", ...
  std::vector<std::string> probes;                  ///< What was looked at and what it said, in order; for people.
};

/// The facts about a volume's storage. `chain[0]` is what the guest writes to.
struct StorageFacts {
  std::vector<LayerFacts> chain;

  /// Allocation of what the guest writes to: that of chain[0], or unknown if nothing was probed. A backing image is
  /// only read, so it cannot make a write allocate; a layer on top of it that is not full can.
  Allocation allocation() const;
  /// Whether every layer opens with O_DIRECT; nullopt if nothing was probed or any layer was not tried.
  std::optional<bool> o_direct() const;
};

/// A version as libvirt's API gives it: major * 1,000,000 + minor * 1,000 + release.
using Version = std::uint64_t;

constexpr Version version(unsigned major, unsigned minor, unsigned release = 0) {
  return Version{major} * 1'000'000 + Version{minor} * 1'000 + release;
}

/// "7.2.22" for 7'002'022.
std::string version_string(Version value);

/// The version that a string such as "6.1.0-18-amd64" or "7.2.22" begins with; 0 if it begins with none.
Version parse_version(std::string_view text);

/// What the policy needs to know of the host that will run the guest. An absent value was not probed.
struct HostFacts {
  std::optional<Version> kernel;
  std::optional<Version> libvirt;
  std::optional<Version> qemu;
  std::optional<bool> qemu_has_io_uring;    ///< QEMU was built with liburing.
  std::optional<int> io_uring_disabled;     ///< sysctl kernel.io_uring_disabled: 0 allowed, 1 restricted, 2 off.
  std::optional<bool> io_uring_works;       ///< io_uring_setup(2) succeeded in a probe.
  std::optional<std::uint64_t> aio_nr;      ///< sysctl fs.aio-nr: events in use.
  std::optional<std::uint64_t> aio_max_nr;  ///< sysctl fs.aio-max-nr.
  std::optional<unsigned> cpus;             ///< Processors that are online.
};

/// What a process really has of the kernel's AIO, whatever it was told to use.
struct ProcessAio {
  unsigned contexts = 0;   ///< Linux AIO: mappings of [aio] in /proc/PID/maps, 1,024 events each if it is QEMU.
  unsigned io_urings = 0;  ///< Descriptors of io_uring in /proc/PID/fd; QEMU has them for its event loops too.
};

/// What this host's libvirt and QEMU can do with AIO engines. An absent value: their versions are not known.
struct IoThreadFacts {
  std::optional<bool> thread_pool;    ///< thread-pool-min and -max of an iothread: libvirt 8.5, QEMU 7.1.
  std::optional<bool> queue_mapping;  ///< One disk on several iothreads, by virtqueue: libvirt 10.0, QEMU 9.0.
  std::optional<bool> poll_in_xml;    ///< `<poll>` of an iothread in the domain's XML: libvirt 9.4 (before: dropped).
};

/// Follows from the versions. Source: libvirt formatdomain, "IOThreads Allocation" and element driver of disks.
IoThreadFacts iothread_facts(const HostFacts& host);

Json to_json(const LayerFacts& layer);
Json to_json(const StorageFacts& facts);
Json to_json(const HostFacts& facts);

/// Facts as `to_json` writes them and a driver publishes them. Unknown members are ignored; a member of the wrong type
/// is an error that names its JSON pointer.
Result<StorageFacts> storage_facts_from_json(const Json& value);

}  // namespace aiolos
