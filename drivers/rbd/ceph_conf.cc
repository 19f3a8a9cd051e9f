// SPDX-License-Identifier: Apache-2.0
#include "ceph_conf.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <vector>

namespace aiolos::rbd {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDefaultConf = "/etc/ceph/ceph.conf";  // librados, CEPH_CONF_FILE_DEFAULT
constexpr const char* kLock = "ceph.conf";
constexpr const char* kUnfinished = ".new";
constexpr std::size_t kLargest = 1 << 20;  // a ceph.conf has some kilobytes

/// @return false with errno set.
bool read_all(int descriptor, std::string& text) {
  char buffer[4096];
  while (text.size() <= kLargest) {
    const ssize_t got = ::read(descriptor, buffer, sizeof buffer);
    if (got == 0) return true;
    if (got < 0 && errno != EINTR) return false;
    if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
  }
  errno = EFBIG;
  return false;
}

tl::unexpected<Error> unreadable(const std::string& path) {
  return fail(ErrorKind::configuration, "rbd.ceph_conf: " + path + " cannot be read: " + errno_text(errno),
              "name a file that is there, or leave rbd.ceph_conf empty for " + std::string(kDefaultConf));
}

Result<void> make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) return {};
  return fail(ErrorKind::configuration, folder + " cannot be made: " + error.message(),
              "name another folder in rbd.conf_dir");
}

/// Writes the whole file and only then gives it its name: a reader finds all of it or none.
Result<void> write_file(const std::string& path, const CephConf& conf) {
  AIOLOS_CHECK(make_folder(fs::path(path).parent_path().string()));
  const std::string unfinished = path + kUnfinished;
  const auto failed = [&] {
    return fail(ErrorKind::configuration, path + " cannot be written: " + errno_text(errno),
                "make room or give access there, or name another folder in rbd.conf_dir");
  };
  const UniqueFd file(::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file || ::fchown(file.get(), conf.owner, conf.group) != 0 || ::fchmod(file.get(), conf.mode) != 0 ||
      !write_all(file.get(), conf.text) || ::fsync(file.get()) != 0 || ::rename(unfinished.c_str(), path.c_str()) != 0)
    return failed();
  return {};
}

Result<void> remove_file(const std::string& path) {
  for (const std::string& each : {path + kUnfinished, path})
    if (::unlink(each.c_str()) != 0 && errno != ENOENT)
      return fail(ErrorKind::configuration, each + " cannot be removed: " + errno_text(errno),
                  "give access there, then try again");
  return {};
}

/// The files of `folder` by the name they have or were to get; an absent folder has none.
std::vector<std::string> published(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const fs::path path =
        entry.path().extension() == kUnfinished ? entry.path().parent_path() / entry.path().stem() : entry.path();
    if (path.extension() == ".conf") paths.push_back(path.string());
  }
  return paths;
}

}  // namespace

Result<CephConf> read_conf(const std::string& path) {
  const std::string named = path.empty() ? kDefaultConf : path;
  CephConf conf;
  const UniqueFd file(::open(named.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT && path.empty()) return conf;
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0 || !read_all(file.get(), conf.text)) return unreadable(named);
  conf.mode = status.st_mode & 0777;
  conf.owner = status.st_uid;
  conf.group = status.st_gid;
  return conf;
}

CephConf bounded(CephConf conf, std::string_view entity, std::chrono::seconds patience, Waits waits) {
  const std::string seconds = std::to_string(patience.count());
  if (!conf.text.empty() && !conf.text.ends_with('\n')) conf.text += '\n';
  conf.text += "\n# Added by Aiolos: opening an image fails in seconds where no monitor answers.\n[" +
               std::string(entity) + "]\nclient_mount_timeout = " + seconds + "\nrados_mon_op_timeout = " + seconds +
               "\n";
  if (waits == Waits::all) conf.text += "rados_osd_op_timeout = " + seconds + "\n";
  return conf;
}

Result<MemoryFile> MemoryFile::of(std::string_view text) {
  MemoryFile file(UniqueFd(::memfd_create("aiolos-ceph.conf", MFD_CLOEXEC)));
  if (file.descriptor_ && write_all(file.descriptor_.get(), text)) return file;
  return fail(ErrorKind::retry, "no file in memory could be made: " + errno_text(errno),
              "this host is short of memory or file descriptors; try again when it has some");
}

std::string MemoryFile::path() const {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(descriptor_.get());
}

Result<std::string> publish_conf(sdk::Call& call, const std::string& folder, const CephConf& conf) {
  const std::string readers =
      std::to_string(conf.mode) + ":" + std::to_string(conf.owner) + ":" + std::to_string(conf.group) + "\n";
  const std::string path = folder + "/" + sdk::md5_hex(readers + conf.text) + ".conf";
  AIOLOS_TRY(const auto lock, call.lock(kLock));
  AIOLOS_CHECK(call.hold(path));
  std::error_code ignored;
  if (fs::exists(path, ignored)) return path;
  AIOLOS_CHECK(call.effect("write " + path, [&] { return write_file(path, conf); }));
  return path;
}

Result<void> withdraw_confs(sdk::Call& call, const std::string& folder) {
  AIOLOS_TRY(const auto lock, call.lock(kLock));
  for (const std::string& path : published(folder)) {
    AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(path));
    if (!holders.held) continue;
    if (holders.others == 0) AIOLOS_CHECK(call.effect("remove " + path, [&] { return remove_file(path); }));
    AIOLOS_CHECK(call.release(path));
  }
  return {};
}

}  // namespace aiolos::rbd
