// SPDX-License-Identifier: Apache-2.0
#include "host_snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>

namespace aiolos::conformance {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

/// An entry for each member of a folder; empty ones and those that vanish meanwhile are left out.
std::vector<std::string> entries_of(const fs::path& folder, const std::function<std::string(const fs::path&)>& entry) {
  std::vector<std::string> entries;
  std::error_code ignored;
  for (fs::directory_iterator member(folder, ignored), end; member != end; member.increment(ignored))
    if (std::string text = entry(member->path()); !text.empty()) entries.push_back(std::move(text));
  std::sort(entries.begin(), entries.end());
  return entries;
}

/// Names and sizes in sectors of the block devices that hold something: a free loop device has no size.
std::string block_device(const fs::path& device) {
  const std::string size = first_line(device / "size");
  return size.empty() || size == "0" ? "" : fmt::format("{} ({} sectors)", device.filename().native(), size);
}

std::string loop_device(const fs::path& device) {
  const std::string file = first_line(device / "loop/backing_file");
  return file.empty() ? "" : fmt::format("{} {}", device.filename().native(), file);
}

std::string device_mapper_map(const fs::path& device) {
  const std::string name = first_line(device / "dm/name");
  return name.empty() ? "" : fmt::format("{} {}", name, first_line(device / "dm/uuid"));
}

std::string nvme_controller(const fs::path& controller) {
  return fmt::format("{} {}", first_line(controller / "subsysnqn"), first_line(controller / "address"));
}

std::string iscsi_session(const fs::path& session) {
  return fmt::format("{} {}", first_line(session / "targetname"), first_line(session / "tpgt"));
}

std::string its_name(const fs::path& path) { return path.filename(); }

/// Source, mount point and type of each; options may change by themselves.
std::vector<std::string> mounts() {
  std::vector<std::string> lines;
  std::ifstream stream("/proc/self/mounts");
  for (std::string source, target, type, rest; stream >> source >> target >> type && std::getline(stream, rest);)
    lines.push_back(fmt::format("{} at {} type {}", source, target, type));
  std::sort(lines.begin(), lines.end());
  return lines;
}

void compare(const std::string& subject, const std::vector<std::string>& one, const std::vector<std::string>& other,
             char sign, std::vector<std::string>& lines) {
  std::vector<std::string> missing;
  std::set_difference(one.begin(), one.end(), other.begin(), other.end(), std::back_inserter(missing));
  for (const std::string& entry : missing) lines.push_back(fmt::format("{} {}: {}", sign, subject, entry));
}

}  // namespace

HostSnapshot take_snapshot() {
  return {{"mounts", mounts()},
          {"block devices", entries_of("/sys/class/block", block_device)},
          {"loop devices", entries_of("/sys/block", loop_device)},
          {"device mapper maps", entries_of("/sys/block", device_mapper_map)},
          {"SCSI devices", entries_of("/sys/class/scsi_device", its_name)},
          {"iSCSI sessions", entries_of("/sys/class/iscsi_session", iscsi_session)},
          {"NVMe controllers", entries_of("/sys/class/nvme", nvme_controller)},
          {"NVMe subsystems", entries_of("/sys/class/nvme-subsystem", its_name)}};
}

std::vector<std::string> differences(const HostSnapshot& before, const HostSnapshot& after) {
  std::vector<std::string> lines;
  for (const auto& [subject, entries] : before) {
    compare(subject, entries, after.at(subject), '-', lines);
    compare(subject, after.at(subject), entries, '+', lines);
  }
  return lines;
}

std::vector<std::string> wait_until_as(const HostSnapshot& before, std::chrono::milliseconds timeout) {
  constexpr std::chrono::milliseconds kPoll{100};
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    std::vector<std::string> left = differences(before, take_snapshot());
    if (left.empty() || std::chrono::steady_clock::now() >= deadline) return left;
    std::this_thread::sleep_for(kPoll);
  }
}

std::vector<std::string> open_descriptors() {
  return entries_of("/proc/self/fd", [](const fs::path& descriptor) {
    std::error_code gone;  // the one that reads the folder
    const fs::path target = fs::read_symlink(descriptor, gone);
    return gone || target.native().ends_with("/fd")
               ? ""
               : fmt::format("{} -> {}", descriptor.filename().native(), target.native());
  });
}

}  // namespace aiolos::conformance
