// SPDX-License-Identifier: Apache-2.0
// A program that runs beside us for a while and ends when we say so, or when we end.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/posix.h"
#include "aiolos/core/result.h"

namespace aiolos {

/// For the thread that started it, which has to outlive it: the kernel kills the program when that thread ends.
class BackgroundProcess {
 public:
  /// Starts a program, looked up and given an environment as the command runner does it. Both outputs go to a file.
  /// @param output the file, which is made or emptied. @return ErrorKind::configuration if there is no such program,
  /// ErrorKind::storage if the file can't be written.
  static Result<std::unique_ptr<BackgroundProcess>> start(const std::vector<std::string>& argv,
                                                          const std::string& output);
  /// Ends it: SIGTERM to its process group, SIGKILL after five seconds; and waits five more at most.
  ~BackgroundProcess();
  BackgroundProcess(const BackgroundProcess&) = delete;
  BackgroundProcess& operator=(const BackgroundProcess&) = delete;

  /// Waits until it ends. @return its exit status, 128 + N if signal N ended it; nullopt when the time is over or a
  /// signal of ours was handled.
  std::optional<int> wait(std::chrono::milliseconds most);

  int pid() const { return pid_; }
  /// What it has written so far, at most 1 MiB.
  std::string output() const;

 private:
  BackgroundProcess(pid_t pid, UniqueFd pidfd, std::string output)
      : pid_(pid), pidfd_(std::move(pidfd)), output_(std::move(output)) {}
  void end();

  pid_t pid_;
  UniqueFd pidfd_;
  std::string output_;
  std::optional<int> status_;
};

}  // namespace aiolos
