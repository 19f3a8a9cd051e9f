// SPDX-License-Identifier: Apache-2.0
// slow_file MOUNTPOINT BACKING CONTROL: a FUSE file with the content of BACKING that is as slow, and fails, as CONTROL
// says. It serves threads, Linux AIO and io_uring at any depth, in one thread and without libfuse, so that its latency
// is exact. MOUNTPOINT is a file. Ends by SIGTERM, and takes the mount away.
//
// CONTROL is read again every 20 ms; replace it by rename. Its words:
//   delay US            each request takes so long
//   gap US              the least time between two completions: a disk of 1e6/gap IOPS
//   hold COUNT          none is answered before so many wait at once
//   short BYTES         a read or write moves at most so many
//   fail OFFSET ERRNO   reads and writes that touch this byte fail
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

constexpr unsigned kLargestTransfer = 1U << 20;
volatile std::sig_atomic_t stop_requested = 0;

struct Behaviour {
  microseconds delay{0};
  microseconds gap{0};
  std::uint64_t hold = 0;
  std::uint64_t most = kLargestTransfer;
  std::optional<std::uint64_t> bad_byte;
  int error = EIO;
};

Behaviour read_behaviour(const std::string& path) {
  Behaviour behaviour;
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    std::uint64_t value = 0;
    file >> value;
    if (word == "delay") behaviour.delay = microseconds(value);
    if (word == "gap") behaviour.gap = microseconds(value);
    if (word == "hold") behaviour.hold = value;
    if (word == "short") behaviour.most = value;
    if (word == "fail") {
      behaviour.bad_byte = value;
      file >> behaviour.error;
    }
  }
  return behaviour;
}

struct Pending {
  std::uint64_t unique;
  bool write;
  std::uint64_t offset;
  std::uint64_t length;
  std::vector<char> data;
};

class SlowFile {
 public:
  SlowFile(int device, char* content, std::uint64_t size, std::string control)
      : device_(device), content_(content), size_(size), control_(std::move(control)) {}

  void serve() {
    while (stop_requested == 0) {
      refresh();
      complete_due();
      timespec wait{0, 20'000'000};
      if (!pending_.empty() && !holds()) {
        const auto left = std::max(pending_.begin()->first - Clock::now(), Clock::duration::zero());
        wait.tv_nsec = std::min<long>(wait.tv_nsec, std::chrono::nanoseconds(left).count());
      }
      pollfd poll{device_, POLLIN, 0};
      if (::ppoll(&poll, 1, &wait, nullptr) > 0 && !take_requests()) return;
    }
  }

 private:
  void refresh() {
    const auto now = Clock::now();
    if (now - refreshed_ < std::chrono::milliseconds(20)) return;
    refreshed_ = now;
    behaviour_ = read_behaviour(control_);
  }

  /// Whether all wait for more to come. Once there were enough, these are let go.
  bool holds() {
    if (pending_.empty()) let_go_ = false;
    if (pending_.size() >= behaviour_.hold) let_go_ = true;
    return !let_go_;
  }

  void complete_due() {
    if (holds()) return;
    while (!pending_.empty() && pending_.begin()->first <= Clock::now()) {
      const Pending& request = pending_.begin()->second;
      if (request.write) {
        std::memcpy(content_ + request.offset, request.data.data(), request.length);
        const fuse_write_out written{static_cast<std::uint32_t>(request.length), 0};
        answer(request.unique, 0, &written, sizeof(written));
      } else {
        answer(request.unique, 0, content_ + request.offset, request.length);
      }
      pending_.erase(pending_.begin());
    }
  }

  /// @return false when the file system is unmounted.
  bool take_requests() {
    for (int i = 0; i < 64; ++i) {
      const ssize_t got = ::read(device_, buffer_.data(), buffer_.size());
      if (got < 0) return errno != ENODEV;
      const auto* header = reinterpret_cast<const fuse_in_header*>(buffer_.data());
      handle(*header, buffer_.data() + sizeof(*header));
    }
    return true;
  }

  void handle(const fuse_in_header& header, const char* body) {
    switch (header.opcode) {
      case FUSE_INIT:
        return initialise(header.unique, *reinterpret_cast<const fuse_init_in*>(body));
      case FUSE_GETATTR:
      case FUSE_SETATTR:
        return attributes(header.unique);
      case FUSE_OPEN: {
        fuse_open_out out{};
        out.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
        return answer(header.unique, 0, &out, sizeof(out));
      }
      case FUSE_READ: {
        const auto& in = *reinterpret_cast<const fuse_read_in*>(body);
        return queue({header.unique, false, in.offset, in.size, {}});
      }
      case FUSE_WRITE: {
        const auto& in = *reinterpret_cast<const fuse_write_in*>(body);
        const char* data = body + sizeof(in);
        return queue({header.unique, true, in.offset, in.size, {data, data + in.size}});
      }
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        return;
      case FUSE_FLUSH:
      case FUSE_RELEASE:
      case FUSE_FSYNC:
      case FUSE_FALLOCATE:
        return answer(header.unique, 0, nullptr, 0);
      default:
        return answer(header.unique, ENOSYS, nullptr, 0);
    }
  }

  void queue(Pending request) {
    const std::uint64_t end = request.offset + request.length;
    const bool bad = behaviour_.bad_byte && *behaviour_.bad_byte >= request.offset && *behaviour_.bad_byte < end;
    if (bad) return answer(request.unique, behaviour_.error, nullptr, 0);
    if (request.write && end > size_) return answer(request.unique, ENOSPC, nullptr, 0);
    request.length = std::min({request.length, behaviour_.most, size_ - std::min(size_, request.offset)});
    last_due_ = std::max(Clock::now() + behaviour_.delay, last_due_ + behaviour_.gap);
    pending_.emplace(last_due_, std::move(request));
  }

  void initialise(std::uint64_t unique, const fuse_init_in& in) {
    fuse_init_out out{};
    out.major = FUSE_KERNEL_VERSION;
    out.minor = 31;
    out.max_readahead = in.max_readahead;
    out.flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES;
    out.max_pages = kLargestTransfer / 4096;
    out.max_background = 4096;
    out.congestion_threshold = 4096;
    out.max_write = kLargestTransfer;
    out.time_gran = 1;
    answer(unique, 0, &out, sizeof(out));
  }

  void attributes(std::uint64_t unique) {
    fuse_attr_out out{};
    out.attr_valid = 1;
    out.attr.ino = 1;
    out.attr.size = size_;
    out.attr.blocks = size_ / 512;
    out.attr.mode = S_IFREG | 0666;
    out.attr.nlink = 1;
    out.attr.blksize = 4096;
    answer(unique, 0, &out, sizeof(out));
  }

  void answer(std::uint64_t unique, int error, const void* data, std::size_t length) {
    fuse_out_header header{static_cast<std::uint32_t>(sizeof(fuse_out_header) + length), -error, unique};
    const iovec parts[] = {{&header, sizeof(header)}, {const_cast<void*>(data), length}};
    if (::writev(device_, parts, length > 0 ? 2 : 1) < 0 && errno != ENOENT) std::perror("slow_file: answer");
  }

  const int device_;
  char* const content_;
  const std::uint64_t size_;
  const std::string control_;
  Behaviour behaviour_;
  bool let_go_ = false;
  Clock::time_point refreshed_{};
  Clock::time_point last_due_{};
  std::multimap<Clock::time_point, Pending> pending_;
  std::vector<char> buffer_ = std::vector<char>(kLargestTransfer + 8192);
};

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: slow_file MOUNTPOINT BACKING CONTROL\n");
    return 2;
  }
  const int backing = ::open(argv[2], O_RDWR | O_CLOEXEC);
  struct stat status {};
  if (backing < 0 || ::fstat(backing, &status) != 0) die(argv[2]);
  const auto size = static_cast<std::size_t>(status.st_size);
  void* content = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, backing, 0);
  if (content == MAP_FAILED) die("mmap");
  const int device = ::open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (device < 0) die("/dev/fuse");
  ::close(::open(argv[1], O_CREAT | O_RDWR | O_CLOEXEC, 0666));
  const std::string options =
      "fd=" + std::to_string(device) + ",rootmode=100666,user_id=0,group_id=0,allow_other,max_read=1048576";
  if (::mount("slow_file", argv[1], "fuse.slow_file", MS_NOSUID | MS_NODEV, options.c_str()) != 0) die("mount");
  const auto stop = [](int) { stop_requested = 1; };
  std::signal(SIGTERM, stop);
  std::signal(SIGINT, stop);
  SlowFile(device, static_cast<char*>(content), size, argv[3]).serve();
  ::umount2(argv[1], MNT_DETACH);
  return 0;
}
