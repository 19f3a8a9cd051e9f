// SPDX-License-Identifier: Apache-2.0
// Starts a program as the command runner wants it: alone with its three descriptors, and never longer alive than us.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace aiolos {

/// All borrowed until start_process() returns.
struct ProcessStart {
  const char* program;  ///< Path; it is not looked up.
  char* const* argv;    ///< Ends with a null pointer, as `environment` does.
  char* const* environment;
  int input;  ///< The three that become its standard ones; each above them.
  int output;
  int errors;
};

/// Starts a program with no other descriptors, in a process group of its own, no signal blocked or ignored.
///
/// The kernel kills the program when the calling thread ends, SIGKILL included: a mount.nfs that went on by itself
/// would mount what the next process has already undone. So the thread has to stay until the program is reaped. What
/// the program itself starts is not bound to us: a daemon (a FUSE client, iscsid) lives on.
///
/// @param pid set on success; the caller reaps it. @return 0, or the errno of what failed, execve(2) included.
int start_process(const ProcessStart& start, pid_t& pid);

/// The standard descriptors of a program, each above them.
struct StandardFds {
  int input;
  int output;
  int errors;
};

/// The same for a program that runs beside us, with commands' own PATH, LC_ALL=C and HOME=/ as its environment.
/// @param argv not empty.
int start_program(const std::string& program, const std::vector<std::string>& argv, const StandardFds& fds, pid_t& pid);

}  // namespace aiolos
