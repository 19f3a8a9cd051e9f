// SPDX-License-Identifier: Apache-2.0
// Storage for the engine's tests: files of this machine that behave, or fail, in a known way.
#pragma once

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "aiolos/core/posix.h"

namespace aiolos::engine {

/// The unit of the tests' requests, in bytes and in sectors.
inline constexpr std::uint32_t kBlock = 4096;
inline constexpr std::uint64_t kSectors = kBlock / 512;

/// Tries until it is so, for up to 10 s.
template <typename Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

/// A folder that goes with the test. On the file system of the build, which knows O_DIRECT; /tmp may not.
class Folder {
 public:
  Folder() {
    std::string name = "engine-test.XXXXXX";
    if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    path_ = std::filesystem::absolute(name);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  std::string operator/(const std::string& name) const { return path_ / name; }

  /// A file of zeroes. @return its path.
  std::string file(const std::string& name, std::uint64_t size) const {
    const std::string path = *this / name;
    std::ofstream(path).flush();
    std::filesystem::resize_file(path, size);
    return path;
  }

 private:
  std::filesystem::path path_;
};

inline UniqueFd open_file(const std::string& path, int flags = O_RDWR) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd) throw std::runtime_error("open " + path);
  return fd;
}

/// A tmpfs with room for `pages` pages of 4 KiB. Needs root.
class SmallFileSystem {
 public:
  SmallFileSystem(const Folder& folder, unsigned pages) : path_(folder / "small") {
    std::filesystem::create_directory(path_);
    const std::string options = "nr_blocks=" + std::to_string(pages);
    if (::mount("none", path_.c_str(), "tmpfs", 0, options.c_str()) != 0) throw std::runtime_error("mount tmpfs");
  }
  ~SmallFileSystem() { ::umount2(path_.c_str(), MNT_DETACH); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// A file whose latency and faults can be set; see slow_file.cc. Needs root and /dev/fuse.
class SlowFile {
 public:
  SlowFile(const Folder& folder, std::uint64_t size, const std::string& behaviour = "") : control_(folder / "control") {
    const std::string backing = folder.file("backing", size);
    path_ = folder.file("slow", 0);
    control(behaviour);
    child_ = ::fork();
    if (child_ == 0) {
      ::execl(AIOLOS_SLOW_FILE, "slow_file", path_.c_str(), backing.c_str(), control_.c_str(), nullptr);
      std::_Exit(127);
    }
    for (int i = 0; i < 500 && !mounted(size); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (!mounted(size)) throw std::runtime_error("slow_file did not mount");
  }
  SlowFile(const SlowFile&) = delete;
  SlowFile& operator=(const SlowFile&) = delete;
  ~SlowFile() {
    ::kill(child_, SIGTERM);
    ::waitpid(child_, nullptr, 0);
  }

  const std::string& path() const { return path_; }

  /// Changes the behaviour, and waits until it holds.
  void control(const std::string& behaviour) {
    std::ofstream(control_ + ".new") << behaviour;
    std::filesystem::rename(control_ + ".new", control_);
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
  }

 private:
  bool mounted(std::uint64_t size) const {
    struct stat status {};
    return ::stat(path_.c_str(), &status) == 0 && static_cast<std::uint64_t>(status.st_size) == size;
  }

  std::string control_;
  std::string path_;
  pid_t child_ = -1;
};

}  // namespace aiolos::engine
