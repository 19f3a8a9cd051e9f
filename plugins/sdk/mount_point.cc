// SPDX-License-Identifier: Apache-2.0
#include "mount_point.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include "aiolos/core/posix.h"

namespace aiolos::sdk {
namespace {

using std::chrono::seconds;

constexpr seconds kAnswerTimeout{5};    // a share that is in use answers statfs(2) in milliseconds
constexpr seconds kUnmountTimeout{10};  // it writes back what the page cache holds
constexpr seconds kDetachTimeout{5};    // the mount is gone at once; the rest of the call may wait for the server
constexpr int kUnmountAttempts = 3;     // as Nova; a process that is ending lets go in between
constexpr std::chrono::milliseconds kBetweenAttempts{500};

/// `path` with symbolic links followed above its last component, which is not touched.
std::string below_real_parent(const std::string& path) {
  const std::filesystem::path given(path);
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::weakly_canonical(given.parent_path(), error);
  return error ? path : (parent / given.filename()).string();
}

/// Whether a link of /proc leads to `folder` or below. readlink(2) there asks no file system.
bool leads_into(const std::filesystem::path& link, const std::string& folder) {
  std::error_code error;
  const std::string target = std::filesystem::read_symlink(link, error).string();
  return !error && target.starts_with(folder) && (target.size() == folder.size() || target[folder.size()] == '/');
}

/// Whether a process has a file open in a folder, or works there.
bool process_uses(const std::filesystem::path& process, const std::string& folder) {
  if (leads_into(process / "cwd", folder) || leads_into(process / "root", folder)) return true;
  std::error_code error;  // it may end while it is looked at
  for (std::filesystem::directory_iterator entry(process / "fd", error), end; !error && entry != end;
       entry.increment(error))
    if (leads_into(entry->path(), folder)) return true;
  return false;
}

}  // namespace

std::string cause_of(const CommandResult& result) {
  std::string line = result.errors.substr(0, result.errors.find_last_not_of(" \r\n") + 1);
  line.erase(0, line.find_last_of('\n') + 1);
  if (const std::size_t colon = line.rfind(": "); colon != std::string::npos) line.erase(0, colon + 2);
  return line.empty() ? fmt::format("exit status {}", result.status) : line;
}

MountPoint::MountPoint(Call& call, std::string path)
    : call_(call), path_(std::move(path)), real_path_(below_real_parent(path_)) {}

Result<std::optional<Mount>> MountPoint::mounted() const {
  AIOLOS_TRY(const std::vector<Mount> table, call_.mounts());
  std::optional<Mount> top;
  for (const Mount& mount : table)
    if (mount.target == real_path_) top = mount;
  return top;
}

Result<bool> MountPoint::is_mounted() const {
  AIOLOS_TRY(const std::optional<Mount> mount, mounted());
  return mount.has_value();
}

Result<CommandResult> MountPoint::run(std::vector<std::string> argv, seconds timeout, const Mount& mount) const {
  Result<CommandResult> result = call_.run(Command{std::move(argv), {}, timeout});
  if (result || result.error().kind != ErrorKind::retry) return result;
  return aiolos::fail(
      ErrorKind::retry,
      fmt::format("{}, mounted at {}, does not answer within {} s", mount.source, path_, timeout.count()),
      "check its server and the network in between, then try again");
}

Result<void> MountPoint::check_answers(const Mount& mount) const {
  // statfs(2) asks the server; stat(2) may be answered from the cache.
  AIOLOS_TRY(const CommandResult result, run({"stat", "--file-system", "--format=%T", path_}, kAnswerTimeout, mount));
  if (result.status == 0) return {};
  return aiolos::fail(ErrorKind::retry,
                      fmt::format("{}, mounted at {}, does not work: {}", mount.source, path_, cause_of(result)),
                      "check its server and the network in between, then try again");
}

std::optional<std::string> MountPoint::user() const {
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    const std::string pid = entry->path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos || !process_uses(entry->path(), real_path_)) continue;
    std::string name;
    std::getline(std::ifstream(entry->path() / "comm"), name);
    return fmt::format("{} (process {})", name, pid);
  }
  return std::nullopt;
}

Result<void> MountPoint::make_folder() const {
  return call_.effect("make the folder " + path_, [&]() -> Result<void> {
    std::error_code error;
    std::filesystem::create_directories(path_, error);
    if (!error) return {};
    return aiolos::fail(ErrorKind::configuration,
                        fmt::format("the mount point {} cannot be made: {}", path_, error.message()),
                        "check mount_point_base in the configuration, and the file system that holds it");
  });
}

Result<void> MountPoint::remove_folder() const {
  return call_.effect("remove the folder " + path_, [&]() -> Result<void> {
    if (::rmdir(path_.c_str()) != 0 && errno != ENOENT)
      call_.warning(fmt::format("the folder {} stays: {}", path_, errno_text(errno)));
    return {};
  });
}

Result<void> MountPoint::unmount(const Mount& mount) const {
  if (!check_answers(mount)) return unmount_lazily(mount);
  for (int attempt = 1; attempt <= kUnmountAttempts; ++attempt) {
    if (attempt > 1) std::this_thread::sleep_for(kBetweenAttempts);
    AIOLOS_TRY(const bool gone, unmount_unless_used(mount));
    if (gone) return {};
  }
  if (const std::optional<std::string> process = user()) {
    call_.warning(fmt::format("{} stays mounted at {}: {} uses it", mount.source, path_, *process));
    return {};
  }
  return aiolos::fail(ErrorKind::retry, fmt::format("{} cannot be unmounted from {}: it is busy", mount.source, path_),
                      "see what uses it (fuser -m, mounts below it, other mount namespaces), then detach again");
}

/// @return whether it is gone.
Result<bool> MountPoint::unmount_unless_used(const Mount& mount) const {
  const Result<CommandResult> done = call_.effect(fmt::format("unmount {} from {}", mount.source, path_), [&] {
    return run({"umount", path_}, kUnmountTimeout, mount);
  });
  if (!done && done.error().kind != ErrorKind::retry) return tl::unexpected(done.error());
  AIOLOS_TRY(const bool mounted, is_mounted());
  if (!done && mounted) {  // the server went meanwhile
    AIOLOS_CHECK(unmount_lazily(mount));
    return true;
  }
  return !mounted;
}

Result<void> MountPoint::unmount_lazily(const Mount& mount) const {
  // The system call and nothing else: helpers such as umount.nfs ask the server.
  const Result<CommandResult> done = call_.effect(fmt::format("unmount {} from {}, lazily", mount.source, path_), [&] {
    return run({"umount", "--lazy", "--internal-only", "--no-canonicalize", path_}, kDetachTimeout, mount);
  });
  if (!done && done.error().kind != ErrorKind::retry) return tl::unexpected(done.error());
  AIOLOS_TRY(const bool mounted, is_mounted());
  if (!mounted || (done && done->status == 0)) return {};
  return aiolos::fail(ErrorKind::retry,
                      fmt::format("{} cannot be unmounted from {}: {}", mount.source, path_,
                                  done ? cause_of(*done) : done.error().message),
                      "unmount it by hand (umount -l), then try again");
}

}  // namespace aiolos::sdk
