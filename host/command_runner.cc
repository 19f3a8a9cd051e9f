// SPDX-License-Identifier: Apache-2.0
// Runs commands: spawn, feed, capture, bound and reap. No shell is ever involved.
#include "aiolos/host/command_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <limits>
#include <thread>

#include "aiolos/core/posix.h"
#include "process_start.h"
#include "signal_block.h"

namespace aiolos {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct PackageRow {
  std::string_view program;
  std::string_view package;
};

// Source: `dpkg -S` on Debian 12 for each program that a driver or a flow runs.
constexpr std::array kPackages{
    PackageRow{"blkid", "util-linux"},
    PackageRow{"blockdev", "util-linux"},
    PackageRow{"cryptsetup", "cryptsetup-bin"},
    PackageRow{"dmsetup", "dmsetup"},
    PackageRow{"fallocate", "util-linux"},
    PackageRow{"findmnt", "util-linux"},
    PackageRow{"fio", "fio"},
    PackageRow{"getent", "libc-bin"},
    PackageRow{"iscsiadm", "open-iscsi"},
    PackageRow{"iscsid", "open-iscsi"},
    PackageRow{"kpartx", "kpartx"},
    PackageRow{"losetup", "mount"},
    PackageRow{"lsblk", "util-linux"},
    PackageRow{"lvchange", "lvm2"},
    PackageRow{"lvcreate", "lvm2"},
    PackageRow{"lvextend", "lvm2"},
    PackageRow{"lvremove", "lvm2"},
    PackageRow{"lvs", "lvm2"},
    PackageRow{"mount", "mount"},
    PackageRow{"mount.nfs", "nfs-common"},
    PackageRow{"mount.nfs4", "nfs-common"},
    PackageRow{"mount.quobyte", "quobyte-client"},
    PackageRow{"multipath", "multipath-tools"},
    PackageRow{"multipathd", "multipath-tools"},
    PackageRow{"nvme", "nvme-cli"},
    PackageRow{"pvs", "lvm2"},
    PackageRow{"qemu-img", "qemu-utils"},
    PackageRow{"qemu-io", "qemu-utils"},
    PackageRow{"qemu-nbd", "qemu-utils"},
    PackageRow{"qemu-storage-daemon", "qemu-system-common"},
    PackageRow{"qemu-system-x86_64", "qemu-system-x86"},
    PackageRow{"rbd", "ceph-common"},
    PackageRow{"ceph", "ceph-common"},
    PackageRow{"realpath", "coreutils"},
    PackageRow{"scsi_id", "udev"},
    PackageRow{"sg_inq", "sg3-utils"},
    PackageRow{"stat", "coreutils"},
    PackageRow{"systemctl", "systemd"},
    PackageRow{"systemd-run", "systemd"},
    PackageRow{"systool", "sysfsutils"},
    PackageRow{"tee", "coreutils"},
    PackageRow{"tgtadm", "tgt"},
    PackageRow{"truncate", "coreutils"},
    PackageRow{"udevadm", "udev"},
    PackageRow{"umount", "mount"},
    PackageRow{"vgs", "lvm2"},
    PackageRow{"virsh", "libvirt-clients"},
};

/// A descriptor above the three standard ones: a process may run with those closed, and dup2 onto a pipe's own other
/// end would then cut it.
UniqueFd above_standard(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) return UniqueFd(fd);
  const UniqueFd low(fd);
  return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

/// A pipe whose read end does not block; both ends close at exec.
std::optional<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  Pipe pipe{above_standard(ends[0]), above_standard(ends[1])};
  if (!pipe.read || !pipe.write || ::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK) != 0) return std::nullopt;
  return pipe;
}

/// Standard input as a file in memory, read from its start: the writer needs no thread and can't get SIGPIPE, and a
/// secret never reaches a disk's file system.
UniqueFd make_input(const std::string& input) {
  if (input.empty()) return above_standard(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd fd = above_standard(::memfd_create("aiolos-input", MFD_CLOEXEC));
  if (!fd || !write_all(fd.get(), input) || ::lseek(fd.get(), 0, SEEK_SET) != 0) return UniqueFd();
  return fd;
}

/// What a command writes to one of its outputs.
class Capture {
 public:
  Capture(UniqueFd fd, std::size_t limit) : fd_(std::move(fd)), limit_(limit) {}

  int fd() const { return fd_.get(); }  ///< Negative once its end was seen, as poll(2) wants it.
  bool over_limit() const { return text_.size() > limit_; }
  std::string take() { return std::move(text_); }

  /// Reads what is there, without waiting.
  void drain() {
    std::array<char, 65536> buffer;
    while (fd_ && !over_limit()) {
      const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
      if (got > 0) {
        text_.append(buffer.data(), static_cast<std::size_t>(got));
      } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        fd_.reset();
      } else if (errno == EAGAIN) {
        return;
      }
    }
  }

 private:
  UniqueFd fd_;
  std::size_t limit_;
  std::string text_;
};

int poll_timeout(SteadyClock::time_point deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - SteadyClock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, std::numeric_limits<int>::max()));
}

/// A started command: its process, group and outputs. Whatever happens, the process is killed and reaped when this
/// goes.
class Child {
 public:
  Child(pid_t pid, UniqueFd output, UniqueFd errors, std::size_t limit)
      : pid_(pid),
        // We are its parent and have not reaped it, so the number can't have been given to another process.
        pidfd_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))),
        output_(std::move(output), limit),
        errors_(std::move(errors), limit) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (!reaped_) kill_and_reap();
  }

  enum class End { exited, overran, too_much_output };

  /// Captures until the process ends, its time is up or it wrote too much.
  End wait(SteadyClock::time_point deadline) {
    while (true) {
      std::array<pollfd, 3> wanted{pollfd{pidfd_.get(), POLLIN, 0}, pollfd{output_.fd(), POLLIN, 0},
                                   pollfd{errors_.fd(), POLLIN, 0}};
      const int ready = ::poll(wanted.data(), wanted.size(), pidfd_ ? poll_timeout(deadline) : 10);
      output_.drain();
      errors_.drain();
      if (output_.over_limit() || errors_.over_limit()) return End::too_much_output;
      // Everything the process itself wrote was in the pipes before it ended; a daemon that it left behind may hold
      // them open for ever, so their end is not waited for.
      if (ready >= 0 && (wanted[0].revents != 0 || !pidfd_) && try_reap()) {
        output_.drain();
        errors_.drain();
        return output_.over_limit() || errors_.over_limit() ? End::too_much_output : End::exited;
      }
      if (SteadyClock::now() >= deadline) return End::overran;
    }
  }

  /// Exit status as a shell gives it.
  int status() const { return WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_); }
  std::string output() { return output_.take(); }
  std::string errors() { return errors_.take(); }

 private:
  bool try_reap() {
    if (reaped_) return true;
    const pid_t got = ::waitpid(pid_, &status_, WNOHANG);
    reaped_ = got == pid_ || (got < 0 && errno == ECHILD);  // ECHILD: the process ignores SIGCHLD; nothing to reap
    return reaped_;
  }

  /// Kills the whole group. A process that sits in the kernel (a dead NFS server, a lost disk) does not die at once:
  /// then a thread of its own reaps it whenever it does, so that no zombie stays and the caller's time is bounded.
  void kill_and_reap() {
    ::kill(-pid_, SIGKILL);
    const auto patience = SteadyClock::now() + milliseconds(500);
    while (!try_reap() && SteadyClock::now() < patience) {
      pollfd wanted{pidfd_.get(), POLLIN, 0};
      ::poll(&wanted, 1, pidfd_ ? poll_timeout(patience) : 10);
    }
    if (reaped_) return;
    const SignalBlock signals_stay_with_the_caller;
    std::thread([pid = pid_] {
      int ignored = 0;
      while (::waitpid(pid, &ignored, 0) < 0 && errno == EINTR) {
      }
    }).detach();
  }

  pid_t pid_;
  UniqueFd pidfd_;
  Capture output_;
  Capture errors_;
  int status_ = 0;
  bool reaped_ = false;
};

std::string seconds_text(milliseconds time) {
  return time.count() % 1000 == 0 ? std::to_string(time.count() / 1000) + " s" : std::to_string(time.count()) + " ms";
}

class PosixCommandRunner final : public CommandRunner {
 public:
  explicit PosixCommandRunner(CommandRunnerOptions options) : options_(std::move(options)) {
    path_variable_ = path_variable(options_.path);
  }

  Result<CommandResult> run(const Command& command) override {
    if (command.argv.empty() || command.argv[0].empty())
      return fail(ErrorKind::bug, "a command without a program was to be run",
                  "report this: Aiolos or a plugin built it");
    const Result<std::string> program = find_program(command.argv[0], options_.path);
    if (!program) return tl::unexpected(program.error());

    const auto start = SteadyClock::now();
    std::unique_ptr<Child> child;
    if (const int error = spawn(*program, command, child); error != 0) return spawn_failure(command.argv[0], error);

    switch (child->wait(start + command.timeout)) {
      case Child::End::overran:
        return fail(ErrorKind::retry, command.argv[0] + " did not end within " + seconds_text(command.timeout),
                    "check that the storage it talks to answers, then try again");
      case Child::End::too_much_output:
        return fail(ErrorKind::storage,
                    command.argv[0] + " wrote more than " + std::to_string(options_.output_limit) + " bytes",
                    "run it by hand to see what it has to say");
      case Child::End::exited:
        break;
    }
    return CommandResult{child->status(), child->output(), child->errors(),
                         std::chrono::duration_cast<milliseconds>(SteadyClock::now() - start)};
  }

 private:
  /// @return 0, or the errno of what failed.
  int spawn(const std::string& program, const Command& command, std::unique_ptr<Child>& child) const {
    const UniqueFd input = make_input(command.input);
    std::optional<Pipe> output = make_pipe();
    std::optional<Pipe> errors = make_pipe();
    if (!input || !output || !errors) return errno != 0 ? errno : EMFILE;

    std::vector<char*> argv;
    for (const std::string& argument : command.argv) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    std::array<char*, 4> environment{const_cast<char*>(path_variable_.c_str()), const_cast<char*>("LC_ALL=C"),
                                     const_cast<char*>("HOME=/"), nullptr};

    pid_t pid = -1;
    const int error = start_process({.program = program.c_str(),
                                     .argv = argv.data(),
                                     .environment = environment.data(),
                                     .input = input.get(),
                                     .output = output->write.get(),
                                     .errors = errors->write.get()},
                                    pid);
    if (error == 0)
      child = std::make_unique<Child>(pid, std::move(output->read), std::move(errors->read), options_.output_limit);
    return error;
  }

  static tl::unexpected<Error> spawn_failure(const std::string& program, int error) {
    const bool shortage = error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE;
    return fail(shortage ? ErrorKind::retry : ErrorKind::configuration,
                "cannot start " + program + ": " + errno_text(error),
                shortage ? "this host is short of processes, memory or file descriptors; try again when it has some"
                         : "check that the program is an executable for this machine");
  }

  CommandRunnerOptions options_;
  std::string path_variable_;
};

}  // namespace

std::unique_ptr<CommandRunner> make_command_runner(CommandRunnerOptions options) {
  return std::make_unique<PosixCommandRunner>(std::move(options));
}

Result<std::string> find_program(const std::string& program, const std::vector<std::string>& path) {
  if (program.find('/') != std::string::npos) {
    if (::access(program.c_str(), X_OK) == 0) return program;
  } else {
    for (const std::string& folder : path)
      if (std::string file = folder + "/" + program; ::access(file.c_str(), X_OK) == 0) return file;
  }
  const std::string_view package = debian_package_of(program);
  return fail(ErrorKind::configuration, "program '" + program + "' is not installed",
              package.empty() ? "install the package that provides it into one of " + path_variable(path).substr(5)
                              : "install it: apt-get install " + std::string(package));
}

std::string path_variable(const std::vector<std::string>& path) {
  std::string variable = "PATH=";
  for (const std::string& folder : path) variable += (variable.size() > 5 ? ":" : "") + folder;
  return variable;
}

std::string_view debian_package_of(std::string_view program) {
  program.remove_prefix(program.find_last_of('/') == std::string_view::npos ? 0 : program.find_last_of('/') + 1);
  for (const PackageRow& row : kPackages)
    if (row.program == program) return row.package;
  return {};
}

}  // namespace aiolos
