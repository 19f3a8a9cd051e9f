// SPDX-License-Identifier: Apache-2.0
#include "scsi/use.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

namespace aiolos::scsi {
namespace {

namespace fs = std::filesystem;

// On a busy host QEMU took more than 3 s to close a disk that it had given up.
constexpr std::chrono::seconds kPatience{10};
// By their names in /proc/PID/comm. They have devices open to look at them, and let go when the device goes.
constexpr std::array<std::string_view, 3> kWatchers{"(udev-worker)", "systemd-udevd", "multipathd"};

/// The device's folder in sysfs and those of its partitions.
std::vector<std::string> with_partitions(const Sysfs& sysfs, const std::string& name) {
  std::vector<std::string> folders{"class/block/" + name};
  for (const std::string& entry : sysfs.entries(folders.front()))
    if (sysfs.exists(folders.front() + "/" + entry + "/partition")) folders.push_back(folders.front() + "/" + entry);
  return folders;
}

/// "8:0", as the attribute `dev` has it.
std::string number_of(dev_t device) { return std::to_string(major(device)) + ":" + std::to_string(minor(device)); }

bool has_open(const fs::path& process, const std::set<std::string>& numbers) {
  std::error_code error;
  fs::directory_iterator descriptor(process / "fd", error);
  for (; !error && descriptor != fs::directory_iterator(); descriptor.increment(error)) {
    std::error_code unreadable;
    // Only below /dev is looked closer: stat of a file on a dead NFS server would not come back.
    if (!fs::read_symlink(descriptor->path(), unreadable).string().starts_with("/dev/")) continue;
    struct stat status {};
    if (::stat(descriptor->path().c_str(), &status) == 0 && S_ISBLK(status.st_mode) &&
        numbers.contains(number_of(status.st_rdev)))
      return true;
  }
  return false;
}

std::string command_of(const fs::path& process) {
  std::string name;
  std::getline(std::ifstream(process / "comm"), name);
  return name;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

std::vector<std::string> holders_of(const Sysfs& sysfs, const std::string& name) {
  std::vector<std::string> found;
  for (const std::string& folder : with_partitions(sysfs, name))
    for (std::string& holder : sysfs.entries(folder + "/holders")) found.push_back(std::move(holder));
  return found;
}

std::vector<std::string> openers_of(const Sysfs& sysfs, const std::string& name) {
  std::set<std::string> numbers;
  for (const std::string& folder : with_partitions(sysfs, name))
    if (const auto number = sysfs.attribute(folder + "/dev")) numbers.insert(*number);
  std::vector<std::string> found;
  std::error_code error;
  fs::directory_iterator process("/proc", error);
  for (; !error && process != fs::directory_iterator(); process.increment(error)) {
    const std::string pid = process->path().filename();
    if (!std::all_of(pid.begin(), pid.end(), [](unsigned char c) { return std::isdigit(c) != 0; })) continue;
    if (!has_open(process->path(), numbers)) continue;
    const std::string command = command_of(process->path());
    if (std::find(kWatchers.begin(), kWatchers.end(), command) == kWatchers.end())
      found.push_back(command + " (pid " + pid + ")");
  }
  return found;
}

Result<void> check_unused(const Sysfs& sysfs, const std::string& name, const std::vector<std::string>& ignored) {
  std::vector<std::string> users;
  const bool unused = wait_until(kPatience, [&] {
    users = openers_of(sysfs, name);
    for (std::string& holder : holders_of(sysfs, name))
      if (std::find(ignored.begin(), ignored.end(), holder) == ignored.end()) users.push_back("/dev/" + holder);
    return users.empty();
  });
  if (unused) return {};
  return sdk::fail(ErrorKind::refused, "/dev/" + name + " is in use by " + joined(users),
                   "end what uses it (or take down what lies over it: vgchange -an, umount), then try again");
}

}  // namespace aiolos::scsi
