// SPDX-License-Identifier: Apache-2.0
// SCSI devices of this host by their address: finding, identifying, scanning, rescanning and deleting them.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scsi/sysfs.h"

namespace aiolos::scsi {

/// Where a device is, as the kernel numbers it. `lun` is scsilun_to_int of the eight bytes on the wire.
struct Address {
  unsigned host = 0;
  unsigned channel = 0;
  unsigned target = 0;
  std::uint64_t lun = 0;

  auto operator<=>(const Address&) const = default;
};

/// "2:0:0:1", as in /sys/class/scsi_device.
std::string to_string(const Address& address);
/// The inverse; nullopt if it is none.
std::optional<Address> parse_address(std::string_view text);

/// The kernel's number of a LUN that Cinder gives with `data.addressing_mode`: "SAM3-flat" sets flat space addressing,
/// "SAM2" does so from 256 on, "SAM" and "transparent" leave the number as it is. nullopt for a mode that is none.
/// Source: os-brick 6.4, initiator/linuxscsi.py, lun_for_addressing.
std::optional<std::uint64_t> kernel_lun(std::uint64_t lun, std::string_view addressing_mode);

/// A disk of this host: a SCSI device that sd has bound to.
struct Disk {
  Address address;
  std::string name;  ///< Of its block device: "sda".

  std::string node() const { return "/dev/" + name; }
};

/// The disk at an address; nullopt if there is none (yet: sd binds some time after the device is there).
std::optional<Disk> find_disk(const Sysfs& sysfs, const Address& address);
/// The disk of a block device's name; nullopt if that is no SCSI disk.
std::optional<Disk> disk_named(const Sysfs& sysfs, const std::string& name);
/// The devices of a target, whether they are disks or not.
std::vector<Address> devices_of(const Sysfs& sysfs, unsigned host, unsigned channel, unsigned target);

/// "running", "blocked", "transport-offline", "offline", ...: drivers/scsi/scsi_sysfs.c, sdev_states. Empty if it is
/// gone.
std::string device_state(const Sysfs& sysfs, const Address& address);
/// Whether commands reach the device: "running", so far as the kernel knows.
bool is_running(const Sysfs& sysfs, const Address& address);
/// A block device's size in bytes, as the kernel knows it now; 0 if it is gone.
std::uint64_t size_of(const Sysfs& sysfs, const std::string& name);

/// A disk's WWID in udev's and multipath's form ("36001405..."), asked of the device and not of what the kernel
/// remembers of it: after a LUN was renumbered that is still the old one.
/// @return ErrorKind::retry if it does not answer, ErrorKind::storage if it has none: then it could not be told from
/// another volume.
Result<std::string> read_wwid(sdk::Call& call, const Disk& disk);

/// The disk at an address, made known to this host by a scan of that LUN alone if it is not yet. Call it in an effect.
/// @param attempts how often to scan, a second apart, for arrays may take their time to show a LUN.
/// @param name     what to call the path in errors: "portal 10.0.0.1:3260".
/// @return ErrorKind::storage if there is no such LUN or it is no disk.
Result<Disk> find_or_scan(sdk::Call& call, const Sysfs& sysfs, const Address& address, int attempts,
                          const std::string& name);
/// Has the kernel read a disk's size and pages anew.
Result<void> rescan(sdk::Call& call, const Sysfs& sysfs, const Disk& disk);
/// Writes out what the host caches of a block device ("sda", "dm-0"). @return ErrorKind::retry if that does not end
/// within `timeout`, ErrorKind::storage if it fails.
Result<void> flush(sdk::Call& call, const std::string& name,
                   std::chrono::milliseconds timeout = std::chrono::seconds(30));
/// Deletes a SCSI device and waits until it is gone. Gone already is success. Asks nobody: see use.h.
Result<void> delete_device(sdk::Call& call, const Sysfs& sysfs, const Address& address);

}  // namespace aiolos::scsi
