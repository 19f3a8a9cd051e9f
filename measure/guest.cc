// SPDX-License-Identifier: Apache-2.0
#include "guest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>

#include "aiolos/core/posix.h"
#include "fio.h"
#include "guest_shell.h"

namespace aiolos::measure {
namespace {

constexpr std::chrono::seconds kKvmBoot{6};  // where KVM works it takes less than one
constexpr std::chrono::milliseconds kLook{100};
constexpr std::uint64_t kBareMemoryMib = 384;

/// QEMU with this kernel and this processor, and a console on its standard output.
std::vector<std::string> bare_guest(const GuestMachine& machine, std::uint64_t memory_mib, std::string_view append) {
  // TCG leaves the guest's memory barriers out if it can never have a second processor, and a device that another
  // thread serves needs them (QEMU 7.2, mttcg_start_vcpu_thread in accel/tcg/tcg-accel-ops-mttcg.c).
  return {"qemu-system-x86_64",
          "-nodefaults",
          "-no-user-config",
          "-no-reboot",
          "-display",
          "none",
          "-machine",
          "pc",
          "-accel",
          machine.kvm ? "kvm" : "tcg",
          "-cpu",
          machine.kvm ? "host" : "max",
          "-smp",
          machine.kvm ? "1" : "cpus=1,maxcpus=2",
          "-m",
          fmt::format("{}", memory_mib),
          "-kernel",
          machine.kernel,
          "-initrd",
          machine.initrd,
          "-append",
          fmt::format("console=ttyS0 quiet panic=-1{}", append),
          "-serial",
          "stdio"};
}

/// There are hosts where /dev/kvm opens and the guest then hangs at its first instructions.
Result<bool> kvm_boots(GuestMachine machine, const TemporaryFolder& work, const Stop& stop) {
  if (::access("/dev/kvm", R_OK | W_OK) != 0) return false;
  machine.kvm = true;
  const auto guest = BackgroundProcess::start(bare_guest(machine, kBareMemoryMib, " aiolos.probe"), work / "kvm");
  if (!guest) return tl::unexpected(guest.error());
  const auto until = std::chrono::steady_clock::now() + kKvmBoot;
  while (!(*guest)->wait(kLook) && std::chrono::steady_clock::now() < until)
    if (stop()) return stopped();
  return (*guest)->output().find("AIOLOS-PROBE-OK") != std::string::npos;
}

/// A node as a disk of the guest: eight of them in a slot, as there are 31.
void add_disk(std::vector<std::string>& argv, const std::string& node, std::size_t index, unsigned iothreads) {
  constexpr std::size_t kFirstSlot = 4;
  constexpr std::size_t kFunctions = 8;
  Json device = {{"driver", "virtio-blk-pci"},
                 {"drive", node},
                 {"serial", node},
                 {"num-queues", 1},
                 {"multifunction", true},
                 {"addr", fmt::format("{:x}.{}", kFirstSlot + index / kFunctions, index % kFunctions)}};
  if (iothreads > 0) device["iothread"] = iothread_of(index, iothreads);
  add_option(argv, "--device", device);
}

}  // namespace

Result<GuestMachine> find_guest_machine(const std::string& folder, const TemporaryFolder& work, const Stop& stop) {
  GuestMachine machine{folder + "/vmlinuz", folder + "/initrd", false};
  for (const std::string& file : {machine.kernel, machine.initrd})
    if (::access(file.c_str(), R_OK) != 0)
      return fail(
          ErrorKind::configuration, fmt::format("no guest's image: cannot read '{}': {}", file, errno_text(errno)),
          fmt::format("make one with Aiolos' scripts/guest-image {}, or name its folder with --guest-image", folder));
  const auto kvm = kvm_boots(machine, work, stop);
  if (!kvm) return tl::unexpected(kvm.error());
  machine.kvm = *kvm;
  return machine;
}

std::vector<std::string> guest_command(const GuestMachine& machine, const GuestOptions& options) {
  std::vector<std::string> argv = bare_guest(machine, options.memory_mib, "");
  argv.insert(argv.end(),
              {"-chardev", fmt::format("socket,id=control,path={},server=on,wait=off", options.control), "-device",
               "virtio-serial-pci", "-device", "virtserialport,chardev=control,name=aiolos.control"});
  const unsigned iothreads = iothreads_for(options.disks.size(), options.iothreads);
  add_iothreads(argv, iothreads);
  for (std::size_t i = 0; i < options.disks.size(); ++i)
    add_disk(argv, add_image(argv, options.disks[i], options.mode, i), i, iothreads);
  return argv;
}

std::uint64_t guest_memory_mib(const LoadCase& load) {
  return kBareMemoryMib + ((std::uint64_t{load.block_size} * load.depth * load.disks) >> 20);
}

std::string guest_script(const LoadCase& load, const RunOptions& options) {
  std::vector<std::string> files;
  for (unsigned i = 0; i < load.disks; ++i) files.push_back(fmt::format("/dev/disk{}", i));
  // By the name that QEMU gives each as its serial number. Requests are QEMU's to order, not the guest's.
  return fmt::format(
      "set -e\n"
      "for disk in /sys/block/vd*; do\n"
      "  echo none >$disk/queue/scheduler\n"
      "  ln -s /dev/${{disk##*/}} /dev/$(cat $disk/serial)\n"
      "done\n"
      "{} >/root/words 2>&1 || {{ cat /root/figures /root/words; exit 1; }}\n"
      "cat /root/figures\n",
      fmt::join(fio_command(files, load, options, "libaio", "/root/figures"), " "));
}

Result<std::unique_ptr<BackgroundProcess>> start_guest(const GuestMachine& machine, const GuestOptions& options,
                                                       const TemporaryFolder& folder) {
  ::unlink(options.control.c_str());
  return BackgroundProcess::start(guest_command(machine, options), folder / "guest");
}

Result<RunFigures> load_guest(BackgroundProcess& guest, const std::string& control, const LoadCase& load,
                              const RunOptions& options, const Stop& stop) {
  const auto answer = ask_guest(guest, control, guest_script(load, options), fio_deadline(options), stop);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status == 0) return fio_figures(answer->output, load.operation);
  return fail(ErrorKind::storage,
              fmt::format("fio in the guest failed ({}): {}", answer->status, last_line(answer->output)),
              "check that the storage answers, then try again");
}

}  // namespace aiolos::measure
