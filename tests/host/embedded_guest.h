// SPDX-License-Identifier: Apache-2.0
// Guests without a system, under a private root of libvirt's embedded driver: a BIOS that finds nothing to boot.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>

#include "support.h"

namespace aiolos {

/// Ends the guests of an embedded root and removes its folder when this process is gone, however it went: a crash must
/// not leave QEMU running.
class Undertaker {
 public:
  explicit Undertaker(const std::string& folder) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
    life_ = ends[1];
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[0], STDIN_FILENO);
      ::execl("/bin/sh", "sh", "-c",
              "read nothing; for p in \"$0\"/r/run/qemu/transient.pid \"$0\"/r/run/qemu/persistent.pid; do"
              " test -e \"$p\" && kill -9 $(cat \"$p\"); done 2>/dev/null; rm -rf \"$0\"",
              folder.c_str(), nullptr);
      ::_exit(1);
    }
    ::close(ends[0]);
  }
  Undertaker(const Undertaker&) = delete;
  Undertaker& operator=(const Undertaker&) = delete;
  ~Undertaker() {
    ::close(life_);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  int life_ = -1;
  pid_t pid_ = -1;
};

/// QEMU as this user: as libvirt-qemu it would have no way to a private folder's images. No virtlogd runs here.
inline void write_qemu_conf(const std::string& root) {
  write_file(root + "/etc/qemu.conf", "user = \"+" + std::to_string(::getuid()) + "\"\ngroup = \"+" +
                                          std::to_string(::getgid()) +
                                          "\"\nstdio_handler = \"file\"\nsecurity_driver = \"none\"\nnamespaces = []\n"
                                          "cgroup_controllers = []\nremember_owner = 0\ndynamic_ownership = 0\n");
}

/// A <domain>. It releases SCSI disks, for which QEMU asks no guest, and no virtio disks.
inline std::string idle_guest(const std::string& name) {
  return "<domain type='qemu'><name>" + name +
         "</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/>"
         "</features><devices><controller type='scsi' index='0' model='virtio-scsi'/></devices></domain>";
}

/// A <disk> over a new file of 4 MiB.
inline std::string disk_on(const std::string& file, const std::string& target, const std::string& bus,
                           const std::string& extra = "") {
  must_run({"truncate", "-s", "4M", file});
  return "<disk type='file' device='disk'><driver name='qemu' type='raw'" + extra + "/><source file='" + file +
         "'/><target dev='" + target + "' bus='" + bus + "'/><serial>serial-" + target + "</serial></disk>";
}

}  // namespace aiolos
