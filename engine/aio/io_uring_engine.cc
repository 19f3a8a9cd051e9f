// SPDX-License-Identifier: Apache-2.0
// AIO mode `io_uring`: one ring, whose completion queue holds all that the limit allows. Files are registered, so that
// the kernel need not take a reference to them for each request. Buffers are not: they are the guest's memory, and
// registering would pin all of it.
#include <fmt/format.h>
#include <liburing.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "aio_engine.h"
#include "aiolos/core/posix.h"

namespace aiolos::engine {
namespace {

/// Entries of the submission queue: how many go with one io_uring_enter(2). No limit on what is in flight.
constexpr unsigned kSubmissions = 128;
constexpr unsigned kRegisteredFiles = 1024;  // as many as RLIMIT_NOFILE lets everybody have
constexpr int kNoSlot = -1;

class IoUringEngine : public AioEngine {
 public:
  explicit IoUringEngine(unsigned limit) : AioEngine(limit) {}
  ~IoUringEngine() override {
    if (!open_) return;
    std::array<IoRequest*, kBatch> done;
    while (in_flight_ > 0) {
      if (reap(done) > 0) continue;
      if (const int status = ::io_uring_submit_and_wait(&ring_, 1); status < 0 && status != -EINTR) break;
    }
    ::io_uring_queue_exit(&ring_);
  }

  /// @return 0 or -errno.
  int open(unsigned completions) {
    io_uring_params parameters{};
    // Completions wait until this thread enters the kernel by itself, instead of interrupting it (Linux 6.0).
    parameters.flags =
        IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER;
    parameters.cq_entries = completions;
    int status = ::io_uring_queue_init_params(kSubmissions, &ring_, &parameters);
    if (status == -EINVAL) {
      parameters = {};
      parameters.flags = IORING_SETUP_CQSIZE;
      parameters.cq_entries = completions;
      status = ::io_uring_queue_init_params(kSubmissions, &ring_, &parameters);
    }
    open_ = status == 0;
    if (!open_) return status;
    if ((parameters.features & IORING_FEAT_NODROP) == 0) return -EOPNOTSUPP;
    if (::io_uring_register_files_sparse(&ring_, kRegisteredFiles) == 0) free_slots_.assign(kRegisteredFiles, true);
    return 0;
  }

  std::size_t submit(std::span<IoRequest* const> batch) override {
    batch = under_limit(batch);
    std::size_t taken = 0;
    for (; taken < batch.size(); ++taken) {
      begin(*batch[taken]);
      if (!enqueue(*batch[taken])) break;
    }
    in_flight_ += static_cast<unsigned>(taken);
    flush();
    return taken;
  }

  std::size_t reap(std::span<IoRequest*> done) override {
    if (in_flight_ == 0) return 0;
    std::size_t count = 0;
    while (count < done.size()) {
      std::array<io_uring_cqe*, kBatch> entries;
      const auto most = static_cast<unsigned>(std::min(entries.size(), done.size() - count));
      const unsigned got = ::io_uring_peek_batch_cqe(&ring_, entries.data(), most);
      for (const io_uring_cqe* entry : std::span(entries).first(got)) {
        auto* request = static_cast<IoRequest*>(::io_uring_cqe_get_data(entry));
        if (settle(*request, entry->res))
          done[count++] = request;
        else
          again_.push_back(request);
      }
      ::io_uring_cq_advance(&ring_, got);
      if (got < most) break;
    }
    resubmit();
    in_flight_ -= static_cast<unsigned>(count);
    return count;
  }

  Result<void> set_limit(unsigned limit) override {
    limit_ = limit;
    return {};
  }

  int event_fd() const override { return ring_.ring_fd; }

  void remember(int fd) override {
    const auto index = static_cast<std::size_t>(fd);
    if (slots_.size() <= index) slots_.resize(index + 1, kNoSlot);
    for (int slot = 0; slot < static_cast<int>(free_slots_.size()); ++slot) {
      if (!free_slots_[slot]) continue;
      if (::io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &fd, 1) != 1) return;
      free_slots_[slot] = false;
      slots_[index] = slot;
      return;
    }
  }

  Result<void> hold(int fd) override {
    remember(fd);
    if (slot_of(fd) != kNoSlot) return {};
    if (free_slots_.empty())
      return fail(
          ErrorKind::configuration, fmt::format("io_uring registers no {} files", kRegisteredFiles),
          fmt::format("raise the limit of open files to {} at least, or use aio native or threads", kRegisteredFiles));
    return fail(ErrorKind::configuration,
                fmt::format("io_uring has {} files registered, which is all", kRegisteredFiles),
                "use aio native or threads, or serve fewer disks by one process");
  }

  void forget(int fd) override {
    const int slot = slot_of(fd);
    if (slot == kNoSlot) return;
    int none = -1;
    ::io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &none, 1);
    free_slots_[slot] = true;
    slots_[static_cast<std::size_t>(fd)] = kNoSlot;
  }

 private:
  /// Puts a request into the submission queue. @return false if the kernel takes no more now.
  bool enqueue(IoRequest& request) {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    if (!entry && flush()) entry = ::io_uring_get_sqe(&ring_);
    if (!entry) return false;
    prepare(*entry, request);
    ::io_uring_sqe_set_data(entry, &request);
    if (const int slot = slot_of(request.fd); slot != kNoSlot) {
      entry->fd = slot;
      entry->flags |= IOSQE_FIXED_FILE;
    }
    return true;
  }

  int slot_of(int fd) const {
    const auto index = static_cast<std::size_t>(fd);
    return index < slots_.size() ? slots_[index] : kNoSlot;
  }

  static void prepare(io_uring_sqe& entry, const IoRequest& request) {
    const std::span<const iovec> buffers = request.remaining();
    const auto count = static_cast<unsigned>(std::min<std::size_t>(buffers.size(), IOV_MAX));
    const std::uint64_t offset = request.offset + request.transferred;
    switch (request.operation) {
      case Operation::read:
        if (count == 1)
          ::io_uring_prep_read(&entry, request.fd, buffers[0].iov_base, length_of(buffers[0]), offset);
        else
          ::io_uring_prep_readv(&entry, request.fd, buffers.data(), count, offset);
        break;
      case Operation::write:
        if (count == 1)
          ::io_uring_prep_write(&entry, request.fd, buffers[0].iov_base, length_of(buffers[0]), offset);
        else
          ::io_uring_prep_writev(&entry, request.fd, buffers.data(), count, offset);
        entry.rw_flags = request.durable ? RWF_DSYNC : 0;
        break;
      case Operation::flush:
        ::io_uring_prep_fsync(&entry, request.fd, IORING_FSYNC_DATASYNC);
        break;
      case Operation::discard:
      case Operation::write_zeroes:
        // Its third length has the type off_t; liburing 2.3 takes both numbers as such.
        ::io_uring_prep_fallocate(&entry, request.fd, fallocate_mode(request.operation), static_cast<off_t>(offset),
                                  static_cast<off_t>(request.length));
        break;
    }
  }

  /// An entry holds 32 bits; what a buffer has over that is a short transfer.
  static unsigned length_of(const iovec& buffer) {
    return static_cast<unsigned>(std::min<std::size_t>(buffer.iov_len, 1U << 30));
  }

  /// Hands the submission queue to the kernel. @return whether it has room again.
  /// EAGAIN and EBUSY leave entries in the queue: they go with the next call, which reap() makes sure of.
  bool flush() {
    if (::io_uring_sq_ready(&ring_) == 0) return true;
    int status = 0;
    do status = ::io_uring_submit(&ring_);
    while (status == -EINTR);
    return status > 0;
  }

  void resubmit() {
    while (!again_.empty() && enqueue(*again_.back())) again_.pop_back();
    flush();
  }

  io_uring ring_{};
  bool open_ = false;
  std::vector<int> slots_;        ///< By descriptor: the slot it is registered in.
  std::vector<bool> free_slots_;  ///< Empty where the kernel registers no files.
  std::vector<IoRequest*> again_;
};

}  // namespace

Result<std::unique_ptr<AioEngine>> make_io_uring_engine(unsigned limit, unsigned completions) {
  auto engine = std::make_unique<IoUringEngine>(limit);
  const int error = -engine->open(completions);
  if (error == 0) return std::unique_ptr<AioEngine>(std::move(engine));
  const std::string next = error == EPERM || error == ENOSYS || error == EOPNOTSUPP
                               ? "see 'sysctl kernel.io_uring_disabled', or use aio native or threads"
                               : "use aio native or threads";
  return fail(error == ENOMEM || error == EMFILE ? ErrorKind::retry : ErrorKind::configuration,
              fmt::format("no io_uring with {} completions: {}", completions, errno_text(error)), next);
}

}  // namespace aiolos::engine
