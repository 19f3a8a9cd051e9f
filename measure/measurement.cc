// SPDX-License-Identifier: Apache-2.0
#include "measurement.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "aiolos/core/posix.h"
#include "aiolos/host/block_devices.h"
#include "aiolos/host/command_runner.h"
#include "aiolos/host/host_probe.h"
#include "aiolos/host/measured_profiles.h"
#include "aiolos/host/mount_table.h"
#include "html_report.h"

namespace aiolos::measure {
namespace {

constexpr std::uint64_t kMostGuestMemoryMib = 2048;

/// What the kernel says of itself, and of QEMU the version of the program that is measured.
Result<HostFacts> host_facts(const std::string& qemu, HostProbe& probe, CommandRunner& commands) {
  auto facts = probe.facts();
  if (!facts) return facts;
  const auto version = commands.run({{qemu, "--version"}, {}});
  if (!version) return tl::unexpected(version.error());
  constexpr std::string_view kBefore = "version ";
  const auto at = version->output.find(kBefore);
  if (at != std::string::npos)
    facts->qemu = parse_version(std::string_view(version->output).substr(at + kBefore.size()));
  return facts;
}

/// The guest that a plan wants, if it wants one.
Result<std::optional<GuestMachine>> guest_for(const Plan& plan, const Stop& stop) {
  if (!plan.guest_image) return std::nullopt;
  for (const LoadCase& load : cases_of(plan.matrix))
    if (const auto needed = guest_memory_mib(load); needed > kMostGuestMemoryMib)
      return fail(ErrorKind::bad_input,
                  fmt::format("{}: a guest would need {} MiB of memory for that", describe(load), needed),
                  "measure smaller blocks, less depth or fewer disks in a guest");
  const auto work = TemporaryFolder::make("/tmp");
  if (!work) return tl::unexpected(work.error());
  auto machine = find_guest_machine(*plan.guest_image, *work, stop);
  if (!machine) return tl::unexpected(machine.error());
  if (plan.decides && !machine->kvm)
    return fail(ErrorKind::refused, "KVM boots no guest here, and an emulated one is no ground to choose a mode on",
                "keep what is measured without a guest");
  return *std::move(machine);
}

}  // namespace

Result<Report> measure_storage(Plan plan, Volume storage, const Stop& stop,
                               const std::function<void(const Progress&)>& progress) {
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::canonical(storage.path, error);
  if (error)
    return fail(ErrorKind::bad_input, fmt::format("cannot measure '{}': {}", storage.path, error.message()),
                "name a folder, an image or a block device");
  if (std::filesystem::path(storage.path).is_relative()) storage.path = canonical;
  const auto commands = make_command_runner();
  const auto mounts = make_mount_table();
  const auto block_devices = make_block_devices(*commands, *mounts);
  const auto probe = make_host_probe();
  const auto host = host_facts(plan.guest_image ? "qemu-system-x86_64" : "qemu-storage-daemon", *probe, *commands);
  if (!host) return tl::unexpected(host.error());
  const auto guest = guest_for(plan, stop);
  if (!guest) return tl::unexpected(guest.error());
  const Outside outside{*block_devices, *probe, *host, stop, progress, *guest ? &**guest : nullptr};
  plan.path = storage.path;
  const auto type = std::filesystem::status(canonical).type();
  if (storage.volume_type.empty()) storage.volume_type = type == std::filesystem::file_type::block ? "local" : "file";
  plan.volume_type = storage.volume_type;
  if (type == std::filesystem::file_type::directory) return measure_folder(plan, plan.path, outside);
  return measure_volume(plan, storage, outside);
}

Result<void> check_page(const std::string& file) {
  const std::filesystem::path folder = std::filesystem::absolute(file).parent_path();
  if (::access(folder.c_str(), W_OK) == 0) return {};
  return fail(ErrorKind::bad_input, fmt::format("cannot write a page to '{}': {}", folder.string(), errno_text(errno)),
              "name a file in a folder that this user can write to");
}

Result<void> write_page(const std::string& file, const Report& report) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << html_report(report);
  out.close();
  if (out) return {};
  return fail(ErrorKind::storage, fmt::format("cannot write the page '{}': {}", file, errno_text(errno)),
              "name a file that this user can write");
}

Result<std::vector<std::string>> save_profiles(const std::string& state, const Report& report) {
  std::vector<std::string> files;
  for (const SubjectResult& each : report.subjects) {
    const auto profile = profile_of(each, report);
    if (!profile) continue;
    auto file = save_measured_profile(state, *profile);
    if (!file) return tl::unexpected(file.error());
    files.push_back(std::move(*file));
  }
  return files;
}

}  // namespace aiolos::measure
