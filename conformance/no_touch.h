// SPDX-License-Identifier: Apache-2.0
// Keeps a process from touching the host: for slots that promise to touch nothing.
#pragma once

namespace aiolos::conformance {

/// From now on a system call that opens, looks at or changes files, makes sockets, or starts a program ends this
/// process by SIGSYS. For a child; threads and memory still work. @return false where the kernel has no seccomp
/// filters.
bool forbid_touching_the_host();

}  // namespace aiolos::conformance
