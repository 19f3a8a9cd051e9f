// SPDX-License-Identifier: Apache-2.0
#include "scsi/device.h"

#include <algorithm>
#include <charconv>
#include <thread>
#include <utility>

#include "scsi/complaint.h"

namespace aiolos::scsi {
namespace {

using namespace std::chrono_literals;

// sd looks at a new device in its own time (the first read of its capacity can take seconds).
constexpr auto kDiskTimeout = 10s;
constexpr auto kInquiryTimeout = 5s;
// A device that is deleted lingers while its last commands end.
constexpr auto kDeleteTimeout = 10s;

std::string folder_of(const Address& address) { return "class/scsi_device/" + to_string(address) + "/device"; }

bool exists(const Sysfs& sysfs, const Address& address) { return sysfs.exists(folder_of(address)); }

/// The next number of "2:0:0:1", and the rest behind its colon.
template <typename Number>
bool take_number(std::string_view& text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.starts_with(':')) text.remove_prefix(1);
  return true;
}

}  // namespace

std::string to_string(const Address& address) {
  return std::to_string(address.host) + ":" + std::to_string(address.channel) + ":" + std::to_string(address.target) +
         ":" + std::to_string(address.lun);
}

std::optional<Address> parse_address(std::string_view text) {
  Address address;
  if (std::count(text.begin(), text.end(), ':') != 3) return std::nullopt;
  const bool numbers = take_number(text, address.host) && take_number(text, address.channel) &&
                       take_number(text, address.target) && take_number(text, address.lun);
  if (!numbers || !text.empty()) return std::nullopt;
  return address;
}

std::optional<std::uint64_t> kernel_lun(std::uint64_t lun, std::string_view addressing_mode) {
  constexpr std::uint64_t kFlatSpace = 0x4000;  // SAM-4, 4.7.7.3: method 01b
  constexpr std::uint64_t kPeripheralLimit = 256;
  if (addressing_mode == "SAM" || addressing_mode == "transparent") return lun;
  if (addressing_mode == "SAM2") return lun < kPeripheralLimit ? lun : lun | kFlatSpace;
  if (addressing_mode == "SAM3-flat") return lun | kFlatSpace;
  return std::nullopt;
}

std::optional<Disk> find_disk(const Sysfs& sysfs, const Address& address) {
  const std::vector<std::string> names = sysfs.entries(folder_of(address) + "/block");
  if (names.empty()) return std::nullopt;
  return Disk{address, names.front()};
}

std::optional<Disk> disk_named(const Sysfs& sysfs, const std::string& name) {
  const std::optional<std::string> device = sysfs.resolve("class/block/" + name + "/device");
  if (!device) return std::nullopt;
  const std::optional<Address> address = parse_address(device->substr(device->rfind('/') + 1));
  if (!address) return std::nullopt;
  return Disk{*address, name};
}

std::vector<Address> devices_of(const Sysfs& sysfs, unsigned host, unsigned channel, unsigned target) {
  std::vector<Address> found;
  for (const std::string& name : sysfs.entries("class/scsi_device")) {
    const std::optional<Address> address = parse_address(name);
    if (address && address->host == host && address->channel == channel && address->target == target)
      found.push_back(*address);
  }
  return found;
}

std::string device_state(const Sysfs& sysfs, const Address& address) {
  return sysfs.attribute(folder_of(address) + "/state").value_or("");
}

bool is_running(const Sysfs& sysfs, const Address& address) { return device_state(sysfs, address) == "running"; }

std::uint64_t size_of(const Sysfs& sysfs, const std::string& name) {
  constexpr std::uint64_t kSector = 512;  // unit of `size` in sysfs, whatever the device's blocks: block/genhd.c
  const std::string text = sysfs.attribute("class/block/" + name + "/size").value_or("");
  std::uint64_t sectors = 0;
  std::from_chars(text.data(), text.data() + text.size(), sectors);
  return sectors * kSector;
}

Result<std::string> read_wwid(sdk::Call& call, const Disk& disk) {
  // udev's own program, so that this is the WWID of multipath's maps and of the links in /dev/disk/by-id.
  AIOLOS_TRY(
      const CommandResult asked,
      call.run(Command{{"/lib/udev/scsi_id", "--page=0x83", "--whitelisted", "--replace-whitespace", disk.node()},
                       {},
                       kInquiryTimeout}));
  const std::string wwid = asked.output.substr(0, asked.output.find('\n'));
  if (asked.status == 0 && !wwid.empty()) return wwid;
  return sdk::fail(ErrorKind::storage,
                   disk.node() + " does not tell its WWID: " + complaint(asked) +
                       "; without one it cannot be told from another volume",
                   "check that the path works and that the storage gives its volumes device identifiers (VPD page 83)");
}

Result<Disk> find_or_scan(sdk::Call& call, const Sysfs& sysfs, const Address& address, int attempts,
                          const std::string& name) {
  const std::string host = "class/scsi_host/host" + std::to_string(address.host);
  const std::string wanted =
      std::to_string(address.channel) + " " + std::to_string(address.target) + " " + std::to_string(address.lun);
  for (int attempt = 0; attempt < attempts && !exists(sysfs, address); ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(1s);
    AIOLOS_CHECK(sysfs.write(call, host + "/scan", wanted));
  }
  if (!exists(sysfs, address))
    return sdk::fail(ErrorKind::storage,
                     name + " shows no LUN " + std::to_string(address.lun) + " (" + std::to_string(attempts) +
                         " scans of " + to_string(address) + ")",
                     "check target_lun, and that the storage maps the volume to this host's initiator");
  std::optional<Disk> disk;
  if (wait_until(kDiskTimeout, [&] { return (disk = find_disk(sysfs, address)).has_value(); })) return *disk;
  return sdk::fail(ErrorKind::storage,
                   "LUN " + std::to_string(address.lun) + " of " + name + " (" + to_string(address) + ") is no disk",
                   "check target_lun; the kernel's log says what it found there");
}

Result<void> rescan(sdk::Call& call, const Sysfs& sysfs, const Disk& disk) {
  return sysfs.write(call, folder_of(disk.address) + "/rescan", "1");
}

Result<void> flush(sdk::Call& call, const std::string& name, std::chrono::milliseconds timeout) {
  AIOLOS_TRY(const CommandResult done, call.run(Command{{"blockdev", "--flushbufs", "/dev/" + name}, {}, timeout}));
  if (done.status == 0) return {};
  return sdk::fail(ErrorKind::storage, "/dev/" + name + " cannot be flushed: " + complaint(done),
                   "check its paths; what this host cached of it is not on the storage");
}

Result<void> delete_device(sdk::Call& call, const Sysfs& sysfs, const Address& address) {
  if (!exists(sysfs, address)) return {};
  const Result<void> written = sysfs.write(call, folder_of(address) + "/delete", "1", kDeleteTimeout);
  if (wait_until(kDeleteTimeout, [&] { return !exists(sysfs, address); })) return {};
  if (!written) return written;
  return sdk::fail(ErrorKind::retry, "SCSI device " + to_string(address) + " was deleted, but does not go",
                   "check what its path waits for, then try again");
}

}  // namespace aiolos::scsi
