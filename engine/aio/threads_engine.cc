// SPDX-License-Identifier: Apache-2.0
// AIO mode `threads`: workers that block in preadv2(2) and its like. As many as there are requests, up to the limit;
// they come when a request finds none idle, and go after a while without work.
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "aio_engine.h"
#include "aiolos/core/posix.h"

namespace aiolos::engine {
namespace {

/// How many workers stay when there is nothing to do.
constexpr unsigned kIdleWorkers = 2;
constexpr std::chrono::seconds kIdleTime{5};

/// What the workers share with the engine. Each worker holds a reference, so that the last one to leave ends it.
class WorkerPool : public std::enable_shared_from_this<WorkerPool> {
 public:
  WorkerPool(unsigned most, int event_fd) : most_(most), event_fd_(event_fd) {}

  void set_most(unsigned most) {
    const std::lock_guard lock(mutex_);
    most_ = most;
  }

  void add(std::span<IoRequest* const> batch) {
    std::size_t missing = 0;
    {
      const std::lock_guard lock(mutex_);
      waiting_.insert(waiting_.end(), batch.begin(), batch.end());
      if (waiting_.size() > idle_)
        missing = std::min<std::size_t>(waiting_.size() - idle_, most_ - std::min(most_, workers_));
    }
    if (batch.size() == 1)
      work_.notify_one();
    else
      work_.notify_all();
    for (; missing > 0; --missing)
      if (!hire()) break;
  }

  std::size_t take_done(std::span<IoRequest*> done) {
    const std::lock_guard lock(mutex_);
    const std::size_t count = std::min(done.size(), done_.size());
    std::copy_n(done_.begin(), count, done.begin());
    done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }

  /// Waits until all that was added is done, and sends the workers home.
  void close() {
    std::unique_lock lock(mutex_);
    closing_ = true;
    work_.notify_all();
    left_.wait(lock, [this] { return workers_ == 0; });
  }

 private:
  /// The kernel may refuse another thread. With none at all the request is done here: late is better than never.
  bool hire() {
    {
      const std::lock_guard lock(mutex_);
      ++workers_;
    }
    try {
      std::thread([self = shared_from_this()] { self->work(); }).detach();
      return true;
    } catch (const std::system_error&) {
      std::unique_lock lock(mutex_);
      if (--workers_ == 0 && !waiting_.empty()) do_one(lock);
      return false;
    }
  }

  void work() {
    std::unique_lock lock(mutex_);
    while (stay(lock)) do_one(lock);
    --workers_;
    left_.notify_all();
  }

  /// Waits for a request. @return false if this worker is to leave: too many, or too long idle, or all is over.
  bool stay(std::unique_lock<std::mutex>& lock) {
    for (;;) {
      if (workers_ > most_ && workers_ > 1) return false;
      if (!waiting_.empty()) return true;
      if (closing_) return false;
      ++idle_;
      const bool woken = work_.wait_for(lock, kIdleTime, [this] { return !waiting_.empty() || closing_; });
      --idle_;
      if (!woken && workers_ > kIdleWorkers) return false;
    }
  }

  void do_one(std::unique_lock<std::mutex>& lock) {
    IoRequest* request = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    perform(*request);
    lock.lock();
    done_.push_back(request);
    if (done_.size() == 1) ::eventfd_write(event_fd_, 1);
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable left_;
  std::deque<IoRequest*> waiting_;
  std::vector<IoRequest*> done_;
  unsigned most_;
  unsigned workers_ = 0;
  unsigned idle_ = 0;
  bool closing_ = false;
  const int event_fd_;
};

class ThreadsEngine : public AioEngine {
 public:
  ThreadsEngine(unsigned limit, UniqueFd event)
      : AioEngine(limit), event_(std::move(event)), pool_(std::make_shared<WorkerPool>(limit, event_.get())) {}
  ~ThreadsEngine() override { pool_->close(); }

  std::size_t submit(std::span<IoRequest* const> batch) override {
    batch = under_limit(batch);
    if (batch.empty()) return 0;
    for (IoRequest* request : batch) begin(*request);
    in_flight_ += static_cast<unsigned>(batch.size());
    pool_->add(batch);
    return batch.size();
  }

  std::size_t reap(std::span<IoRequest*> done) override {
    if (in_flight_ == 0) return 0;
    const std::size_t count = pool_->take_done(done);
    in_flight_ -= static_cast<unsigned>(count);
    return count;
  }

  Result<void> set_limit(unsigned limit) override {
    limit_ = limit;
    pool_->set_most(limit);
    return {};
  }

  int event_fd() const override { return event_.get(); }

 private:
  UniqueFd event_;
  std::shared_ptr<WorkerPool> pool_;
};

}  // namespace

Result<UniqueFd> make_event_fd() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event)
    return fail(ErrorKind::retry, "cannot make an eventfd: " + errno_text(errno),
                "raise the limit of open files (LimitNOFILE of the service)");
  return event;
}

Result<std::unique_ptr<AioEngine>> make_threads_engine(unsigned limit, UniqueFd event) {
  if (!event) {
    auto own = make_event_fd();
    if (!own) return tl::unexpected(own.error());
    event = std::move(*own);
  }
  return std::make_unique<ThreadsEngine>(limit, std::move(event));
}

}  // namespace aiolos::engine
