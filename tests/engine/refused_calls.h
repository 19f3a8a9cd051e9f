// SPDX-License-Identifier: Apache-2.0
// System calls that the kernel refuses, by seccomp(2). For good: in a thread of its own.
#pragma once

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cstddef>
#include <functional>
#include <iterator>
#include <thread>

namespace aiolos::engine {

/// Has a system call of this thread, and of those it starts, fail with an errno from now on.
inline void deny(long call, unsigned error) {
  sock_filter program[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                           BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog filter{std::size(program), program};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

inline void in_thread(const std::function<void()>& body) { std::thread(body).join(); }

}  // namespace aiolos::engine
