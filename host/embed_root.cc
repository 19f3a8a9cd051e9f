// SPDX-License-Identifier: Apache-2.0
// The folder of libvirt's embedded QEMU driver.
#include "embed_root.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>

#include "aiolos/core/posix.h"
#include "small_file.h"

namespace aiolos {
namespace {

namespace fs = std::filesystem;
using SteadyClock = std::chrono::steady_clock;

// sun_path has 107 bytes; "/lib/qemu/domain-12345-" + 20 bytes of the guest's name + "/monitor.sock" takes 56 of them.
constexpr std::size_t kLongestRoot = 50;

std::string percent_decoded(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr == text.data() + i + 3) {
      result += static_cast<char>(value);
      i += 2;
    } else {
      result += text[i];
    }
  }
  return result;
}

struct flock whole_file(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;  // libvirt locks byte 0 of its pid files
  return lock;
}

/// "process 123 (virsh)", as far as the kernel tells.
std::string holder_of(int fd) {
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK || lock.l_pid <= 0) return "another process";
  const std::optional<std::string> name = read_small_file(fmt::format("/proc/{}/comm", lock.l_pid));
  return fmt::format("process {}{}", lock.l_pid, name ? " (" + *name + ")" : "");
}

/// One try. @return the descriptor that holds the lock; negative with `holder` set if another process has it.
Result<UniqueFd> try_lock(const std::string& path, std::string& holder) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd)
    return fail(ErrorKind::configuration, fmt::format("cannot open '{}': {}", path, errno_text(errno)),
                "run as root, or name a folder of your own in libvirt.uri (qemu:///embed?root=DIR)");
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(fd.get(), F_SETLK, &lock) != 0) {
    holder = holder_of(fd.get());
    return UniqueFd();
  }
  // A process that ended may have unlinked the file between our open and our lock: then this one locks nothing.
  struct stat ours {};
  struct stat named {};
  if (::fstat(fd.get(), &ours) != 0 || ::stat(path.c_str(), &named) != 0 || ours.st_ino != named.st_ino) {
    holder = "another process";
    return UniqueFd();
  }
  return fd;
}

Result<UniqueFd> lock_until(const std::string& path, const std::string& root, SteadyClock::time_point deadline,
                            std::chrono::milliseconds timeout) {
  while (true) {
    std::string holder;
    Result<UniqueFd> fd = try_lock(path, holder);
    if (!fd || *fd) return fd;
    if (SteadyClock::now() >= deadline)
      return fail(ErrorKind::retry,
                  fmt::format("the embedded hypervisor's folder '{}' is in use by {}; waited {} ms", root, holder,
                              timeout.count()),
                  "one process at a time can use it: try again when that one has ended");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

std::optional<std::string> embed_root(std::string_view uri) {
  constexpr std::string_view kEmbed = "qemu:///embed?";
  if (!uri.starts_with(kEmbed)) return std::nullopt;
  uri.remove_prefix(kEmbed.size());
  while (!uri.empty()) {
    const std::string_view parameter = uri.substr(0, uri.find_first_of("&;"));
    if (parameter.starts_with("root=")) return percent_decoded(parameter.substr(5));
    uri.remove_prefix(std::min(parameter.size() + 1, uri.size()));
  }
  return std::nullopt;
}

Result<void> take_embed_root(const std::string& root, std::chrono::milliseconds timeout) {
  static std::mutex mutex;
  // Leaked on purpose: closing a descriptor, at exit too, would let another process in while libvirt's threads still
  // run.
  static auto& taken = *new std::map<std::string, std::array<UniqueFd, 2>>;

  const std::lock_guard guard(mutex);
  if (taken.contains(root)) return {};
  if (!root.starts_with('/'))
    return fail(ErrorKind::configuration, fmt::format("the embedded hypervisor's folder '{}' is not absolute", root),
                "give libvirt.uri as qemu:///embed?root=/ABSOLUTE/PATH");
  if (root.size() > kLongestRoot)
    return fail(
        ErrorKind::configuration,
        fmt::format("the embedded hypervisor's folder '{}' has {} bytes, and libvirt's sockets below it allow {}", root,
                    root.size(), kLongestRoot),
        "name a shorter one in libvirt.uri (qemu:///embed?root=DIR)");

  const auto deadline = SteadyClock::now() + timeout;
  std::array<UniqueFd, 2> locks;
  const std::array<std::string, 2> folders{root + "/run/qemu", root + "/run/secrets"};
  std::error_code error;
  for (const std::string& folder : {folders[0], folders[1], root + "/log"})
    if (fs::create_directories(folder, error); error)
      return fail(ErrorKind::configuration, fmt::format("cannot create '{}': {}", folder, error.message()),
                  "run as root, or name a folder of your own in libvirt.uri (qemu:///embed?root=DIR)");
  for (std::size_t i = 0; i < folders.size(); ++i) {
    Result<UniqueFd> lock = lock_until(folders[i] + "/driver.pid", root, deadline, timeout);
    if (!lock) return tl::unexpected(lock.error());
    locks[i] = std::move(*lock);
  }
  taken.emplace(root, std::move(locks));
  return {};
}

}  // namespace aiolos
