// SPDX-License-Identifier: Apache-2.0
#include "file_check.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "aiolos/core/posix.h"
#include "host_call.h"

namespace aiolos {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRebuild = "rebuild the plugin on this machine";

tl::unexpected<Error> unusable(const fs::path& path, std::string message, std::string next) {
  return fail(ErrorKind::configuration, std::move(message), std::move(next), readable(path.native()));
}

/// An open file, closed on the way out.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

/// Owner and mode: nobody but root and this process's user may write it.
/// @param shown the path for errors. @param path the path to mend.
Result<void> check_writers(const struct stat& facts, const fs::path& shown, const fs::path& path) {
  const std::string what = S_ISDIR(facts.st_mode) ? "the folder" : "the file";
  const std::string name = path == shown ? what : fmt::format("{} {}", what, readable(path.native()));
  if (facts.st_uid != 0 && facts.st_uid != ::geteuid())
    return unusable(shown, fmt::format("{} belongs to user {}, who could replace the plugin", name, facts.st_uid),
                    fmt::format("chown root {}", readable(path.native())));
  if ((facts.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return unusable(shown,
                    fmt::format("{} is {} (mode {:04o})", name,
                                (facts.st_mode & S_IWOTH) != 0 ? "world-writable" : "writable by its group",
                                facts.st_mode & 07777u),
                    fmt::format("chmod go-w {}", readable(path.native())));
  return {};
}

/// No folder above `folder` may let everybody put another one in its place.
Result<void> check_parents(const fs::path& folder, const fs::path& shown) {
  for (fs::path parent = folder.parent_path();; parent = parent.parent_path()) {
    struct stat facts;
    if (::stat(parent.c_str(), &facts) != 0)
      return unusable(shown, fmt::format("cannot look at {}: {}", parent.native(), errno_text(errno)),
                      "allow this user to read it");
    if ((facts.st_mode & S_IWOTH) != 0 && (facts.st_mode & S_ISVTX) == 0)
      return unusable(shown, fmt::format("everybody can replace it: the folder {} is world-writable", parent.native()),
                      fmt::format("chmod o-w {}", parent.native()));
    if (parent == parent.parent_path()) return {};
  }
}

Result<void> check_folder(const fs::path& folder, const fs::path& shown) {
  struct stat facts;
  if (::stat(folder.c_str(), &facts) != 0)
    return unusable(shown, fmt::format("cannot use the folder: {}", errno_text(errno)),
                    "create it, or correct plugins.path in the configuration");
  if (!S_ISDIR(facts.st_mode))
    return unusable(shown, "is no folder", "name the folder that holds the plugins in plugins.path");
  if (const auto done = check_writers(facts, shown, folder); !done) return done;
  return check_parents(folder, shown);
}

/// This process's own ELF header: that of the vDSO, which the kernel maps into every process.
const ElfW(Ehdr) * own_header() { return std::bit_cast<const ElfW(Ehdr)*>(::getauxval(AT_SYSINFO_EHDR)); }

std::string machine_name(unsigned machine) {
  switch (machine) {
    case EM_386:
      return "i386";
    case EM_X86_64:
      return "x86-64";
    case EM_ARM:
      return "ARM";
    case EM_AARCH64:
      return "AArch64";
    case EM_PPC64:
      return "PowerPC64";
    case EM_S390:
      return "s390";
    case EM_RISCV:
      return "RISC-V";
    default:
      return fmt::format("machine {}", machine);
  }
}

Result<void> check_elf(int fd, const struct stat& facts, const fs::path& file) {
  if (facts.st_size == 0) return unusable(file, "the file is empty", std::string(kRebuild));
  ElfW(Ehdr) header{};
  const ssize_t got = ::pread(fd, &header, sizeof header, 0);
  if (got < 0)
    return unusable(file, fmt::format("cannot be read: {}", errno_text(errno)), "look at the disk that holds it");
  if (got < SELFMAG || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    return unusable(file, "is no ELF file, so no shared object", "remove it, or put the plugin's .so there");
  if (got < static_cast<ssize_t>(sizeof header))
    return unusable(file, fmt::format("is cut short: {} bytes, less than an ELF header", got), std::string(kRebuild));
  const ElfW(Ehdr)* own = own_header();
  if (own != nullptr && header.e_ident[EI_CLASS] != own->e_ident[EI_CLASS])
    return unusable(
        file,
        fmt::format("is a {}-bit ELF file; this process is {}-bit", header.e_ident[EI_CLASS] == ELFCLASS32 ? 32 : 64,
                    own->e_ident[EI_CLASS] == ELFCLASS32 ? 32 : 64),
        std::string(kRebuild));
  if (own != nullptr && header.e_ident[EI_DATA] != own->e_ident[EI_DATA])
    return unusable(file, "is an ELF file of the other byte order", std::string(kRebuild));
  if (own != nullptr && header.e_machine != own->e_machine)
    return unusable(file,
                    fmt::format("is an ELF file for {}; this machine is {}", machine_name(header.e_machine),
                                machine_name(own->e_machine)),
                    std::string(kRebuild));
  if (header.e_type != ET_DYN) return unusable(file, "is an ELF file, but no shared object", "link it with -shared");
  return {};
}

}  // namespace

Result<fs::path> check_plugin_folder(const fs::path& folder) {
  if (!folder.is_absolute())
    return unusable(folder, "the path of a plugin folder must be absolute", "begin it with '/' in plugins.path");
  std::error_code error;
  const fs::path resolved = fs::canonical(folder, error);
  if (error)
    return unusable(folder, fmt::format("cannot use the folder: {}", error.message()),
                    "create it, or correct plugins.path in the configuration");
  if (const auto done = check_folder(resolved, folder); !done) return tl::unexpected(done.error());
  return resolved;
}

Result<fs::path> check_plugin_file(const fs::path& file) {
  std::error_code error;
  const fs::path resolved = fs::canonical(file, error);
  if (error) {
    std::error_code ignored;
    const bool dangling = fs::is_symlink(fs::symlink_status(file, ignored));
    return unusable(
        file, fmt::format("{}: {}", dangling ? "is a link that leads nowhere" : "cannot be found", error.message()),
        dangling ? "remove the link, or make what it points to" : "look at the folder again");
  }
  if (resolved.parent_path() != file.parent_path())
    if (const auto done = check_folder(resolved.parent_path(), file); !done) return tl::unexpected(done.error());
  // O_NONBLOCK: a FIFO named x.so must not hold us up.
  const Descriptor fd(::open(resolved.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (fd.get() < 0)
    return unusable(file, fmt::format("cannot be read: {}", errno_text(errno)), "make it readable (chmod a+r)");
  struct stat facts;
  if (::fstat(fd.get(), &facts) != 0)
    return unusable(file, fmt::format("cannot be looked at: {}", errno_text(errno)), "look at the disk that holds it");
  if (S_ISDIR(facts.st_mode)) return unusable(file, "is a folder", "put plugins themselves into the plugin folder");
  if (!S_ISREG(facts.st_mode)) return unusable(file, "is no regular file", "remove it from the plugin folder");
  if (const auto done = check_writers(facts, file, resolved); !done) return tl::unexpected(done.error());
  if (const auto done = check_elf(fd.get(), facts, file); !done) return tl::unexpected(done.error());
  return resolved;
}

}  // namespace aiolos
