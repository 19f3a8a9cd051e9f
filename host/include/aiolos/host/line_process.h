// SPDX-License-Identifier: Apache-2.0
// A program that answers a line with a line.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "aiolos/core/posix.h"
#include "aiolos/core/result.h"

namespace aiolos {

/// For the thread that started it, which has to outlive it: the kernel kills the program when that thread ends. What it
/// writes to standard error goes where ours goes.
class LineProcess {
 public:
  /// Starts a program, looked up and given an environment as the command runner does it. ErrorKind::configuration if
  /// there is no such program.
  static Result<std::unique_ptr<LineProcess>> start(const std::vector<std::string>& argv);
  /// Closes its standard input and gives it five seconds to end; then SIGTERM to its process group, and SIGKILL.
  ~LineProcess();
  LineProcess(const LineProcess&) = delete;
  LineProcess& operator=(const LineProcess&) = delete;

  /// Writes a line and waits for one. @param line without its end. @return the answer without its end; ErrorKind::retry
  /// if the program has ended or takes longer than that, and from then on.
  Result<std::string> ask(const std::string& line, std::chrono::milliseconds timeout);

 private:
  LineProcess(std::string name, pid_t pid, UniqueFd pidfd, UniqueFd input, UniqueFd output)
      : name_(std::move(name)),
        pid_(pid),
        pidfd_(std::move(pidfd)),
        input_(std::move(input)),
        output_(std::move(output)) {}
  bool ends_within(std::chrono::milliseconds most);
  tl::unexpected<Error> broken(const std::string& why);

  const std::string name_;
  const pid_t pid_;
  UniqueFd pidfd_;
  UniqueFd input_;
  UniqueFd output_;
  std::string read_;  ///< What has come of the next answer.
};

}  // namespace aiolos
