// SPDX-License-Identifier: Apache-2.0
#include "no_touch.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <vector>

namespace aiolos::conformance {
namespace {

/// All that leads from a path, address or program to something of the host's. Newer architectures lack the older half.
constexpr long kTouching[] = {
    SYS_openat,   SYS_openat2, SYS_newfstatat, SYS_statx,   SYS_faccessat, SYS_faccessat2, SYS_readlinkat, SYS_statfs,
    SYS_mkdirat,  SYS_mknodat, SYS_unlinkat,   SYS_linkat,  SYS_symlinkat, SYS_renameat2,  SYS_fchmodat,   SYS_fchownat,
    SYS_truncate, SYS_chdir,   SYS_mount,      SYS_umount2, SYS_execve,    SYS_execveat,   SYS_socket,     SYS_ioctl,
#ifdef SYS_open
    SYS_open,     SYS_stat,    SYS_lstat,      SYS_access,  SYS_readlink,  SYS_creat,      SYS_mkdir,      SYS_unlink,
    SYS_rename,   SYS_fork,    SYS_vfork,
#endif
};

}  // namespace

bool forbid_touching_the_host() {
  std::vector<sock_filter> program;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  for (const long number : kTouching) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<__u32>(number), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace aiolos::conformance
