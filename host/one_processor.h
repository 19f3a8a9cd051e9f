// SPDX-License-Identifier: Apache-2.0
// Keeps a thread on one processor for a while, so that libvirt sees one and the same CPUID each time.
#pragma once

#include <sched.h>

namespace aiolos {

/// Binds the calling thread to the lowest processor it may use, while it lives and if `wanted`.
///
/// Why: libvirt 9.0 keeps what it asked QEMU about in a cache that it drops when CPUID differs, and CPUID contains the
/// number of the processor that it is read on. In the embedded driver that is whichever processor this thread happens
/// to run on, so half of all commands on two processors would start four QEMUs to ask again: 1 s, and 8 s where process
/// 1 reaps slowly. Measured: 0.1 s always when bound. Guests that libvirt starts get all processors all the same.
class OneProcessor {
 public:
  explicit OneProcessor(bool wanted) {
    if (!wanted || ::sched_getaffinity(0, sizeof(before_), &before_) != 0) return;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &before_)) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        bound_ = ::sched_setaffinity(0, sizeof(one), &one) == 0;
        return;
      }
  }
  OneProcessor(const OneProcessor&) = delete;
  OneProcessor& operator=(const OneProcessor&) = delete;
  ~OneProcessor() {
    if (bound_) ::sched_setaffinity(0, sizeof(before_), &before_);
  }

 private:
  cpu_set_t before_{};
  bool bound_ = false;
};

}  // namespace aiolos
