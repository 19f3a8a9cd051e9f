// SPDX-License-Identifier: Apache-2.0
// Runs the storage world's commands (qemu-img, iscsiadm, mount, ...) with bounded time and output.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/interfaces.h"

namespace aiolos {

struct CommandRunnerOptions {
  /// Folders that argv[0] is looked up in, in order. The caller's PATH is never used.
  std::vector<std::string> path{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
  /// Bytes of standard output, and again of standard error, after which the command is killed: ErrorKind::storage.
  std::size_t output_limit = std::size_t{16} * 1024 * 1024;
};

/// The real runner: no shell, environment of PATH, HOME=/ and LC_ALL=C only, no inherited descriptor. A command does
/// not outlive this process, however that ends; a daemon that the command leaves behind does. `run` may be called from
/// several threads at once.
std::unique_ptr<CommandRunner> make_command_runner(CommandRunnerOptions options = {});

/// The executable file of a program: `program` itself if it holds a '/', else that in the first folder that has it.
/// @return ErrorKind::configuration if there is none, naming the package to install where known.
Result<std::string> find_program(const std::string& program, const std::vector<std::string>& path);

/// "PATH=/a:/b"
std::string path_variable(const std::vector<std::string>& path);

/// The Debian package that ships `program`; empty if this table does not know it.
std::string_view debian_package_of(std::string_view program);

}  // namespace aiolos
