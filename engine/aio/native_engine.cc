// SPDX-License-Identifier: Apache-2.0
// AIO mode `native`: Linux AIO. The size of a context never changes, so the engine grows and shrinks by generations: a
// new context takes what is submitted from now on, the older ones are reaped until they are empty, and then destroyed,
// which takes the kernel 20 ms and more (it waits until no processor can still see the context) and so another thread.
//
// Only reads, writes and flushes go to the kernel's contexts; the rest has no operation there and goes to worker
// threads.
#include <fmt/format.h>
#include <libaio.h>
#include <limits.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <future>
#include <system_error>
#include <vector>

#include "aio_engine.h"
#include "aiolos/core/posix.h"
#include "small_file.h"

namespace aiolos::engine {
namespace {

using namespace std::chrono_literals;

/// Workers for what Linux AIO cannot do; discards and the like are few.
constexpr unsigned kWorkers = 8;

/// One io_context_t with the number of requests in it.
class Context {
 public:
  Context(io_context_t handle, unsigned requests) : size(requests), handle_(handle) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { ::io_destroy(handle_); }  // waits for what is in flight

  io_context_t handle() const { return handle_; }

  const unsigned size;
  unsigned in_flight = 0;

 private:
  io_context_t handle_;
};

Result<std::unique_ptr<Context>> make_context(unsigned size) {
  io_context_t handle = nullptr;
  if (const int error = -::io_setup(static_cast<int>(size), &handle); error > 0) {
    const std::string used = read_small_file("/proc/sys/fs/aio-nr").value_or("?");
    const std::string most = read_small_file("/proc/sys/fs/aio-max-nr").value_or("?");
    return fail(error == EAGAIN ? ErrorKind::retry : ErrorKind::configuration,
                fmt::format("no Linux AIO context for {} requests: {} (fs.aio-nr {}, fs.aio-max-nr {})", size,
                            errno_text(error), used, most),
                error == EAGAIN ? "raise it with 'sysctl fs.aio-max-nr=1048576', or use aio io_uring or threads"
                                : "use aio io_uring or threads");
  }
  return std::make_unique<Context>(handle, size);
}

bool fits(Operation operation) { return operation <= Operation::flush; }

void prepare(iocb& control, IoRequest& request, int event_fd) {
  const std::span<const iovec> buffers = request.remaining();
  const int count = static_cast<int>(std::min<std::size_t>(buffers.size(), IOV_MAX));
  const auto offset = static_cast<long long>(request.offset + request.transferred);
  if (request.operation == Operation::flush)
    ::io_prep_fdsync(&control, request.fd);
  else if (request.operation == Operation::read)
    ::io_prep_preadv(&control, request.fd, buffers.data(), count, offset);
  else
    ::io_prep_pwritev2(&control, request.fd, buffers.data(), count, offset, request.durable ? RWF_DSYNC : 0);
  ::io_set_eventfd(&control, event_fd);
  control.data = &request;
}

class NativeEngine : public AioEngine {
 public:
  NativeEngine(unsigned limit, UniqueFd event, std::unique_ptr<Context> first, std::unique_ptr<AioEngine> workers)
      : AioEngine(limit), event_(std::move(event)), workers_(std::move(workers)) {
    contexts_.push_back(std::move(first));
  }

  std::size_t submit(std::span<IoRequest* const> batch) override {
    batch = under_limit(batch);
    std::size_t taken = 0;
    while (taken < batch.size()) {
      const std::size_t started =
          fits(batch[taken]->operation) ? submit_run(batch.subspan(taken)) : workers_->submit(batch.subspan(taken, 1));
      if (started == 0) break;
      taken += started;
      in_flight_ += static_cast<unsigned>(started);
    }
    return taken;
  }

  std::size_t reap(std::span<IoRequest*> done) override {
    if (in_flight_ == 0) return 0;
    resubmit();
    std::size_t count = take_failed(done);
    if (workers_->in_flight() > 0) count += workers_->reap(done.subspan(count));
    for (const auto& context : contexts_) count += reap_context(*context, done.subspan(count));
    if (contexts_.size() > 1) drop_empty_generations();
    in_flight_ -= static_cast<unsigned>(count);
    return count;
  }

  Result<void> set_limit(unsigned limit) override {
    if (const unsigned size = contexts_.back()->size; limit > size || limit < size / 4) {
      auto next = make_context(limit);
      if (!next && limit > size) return tl::unexpected(next.error());
      if (next) contexts_.push_back(std::move(*next));
    }
    limit_ = limit;
    return {};
  }

  int event_fd() const override { return event_.get(); }

 private:
  /// Starts the first requests of `batch` that Linux AIO can do. @return how many were taken.
  std::size_t submit_run(std::span<IoRequest* const> batch) {
    Context& context = *contexts_.back();
    const std::size_t most =
        std::min({kBatch, batch.size(), std::size_t{context.size - std::min(context.size, context.in_flight)}});
    std::array<iocb, kBatch> controls;
    std::array<iocb*, kBatch> pointers;
    std::size_t count = 0;
    for (; count < most && fits(batch[count]->operation); ++count) {
      begin(*batch[count]);
      prepare(controls[count], *batch[count], event_.get());
      pointers[count] = &controls[count];
    }
    if (count == 0) return 0;
    const int started = start(context, std::span(pointers).first(count));
    if (started >= 0) return static_cast<std::size_t>(started);
    if (started == -EAGAIN || started == -EINTR) return 0;
    return refuse(*batch[0], started);
  }

  /// io_submit(2) of copies: the kernel keeps nothing of an iocb. @return how many it took, or -errno of the first.
  int start(Context& context, std::span<iocb*> controls) {
    const int started = ::io_submit(context.handle(), static_cast<long>(controls.size()), controls.data());
    if (started > 0) context.in_flight += static_cast<unsigned>(started);
    return started;
  }

  /// The kernel would not start it at all: the workers do what Linux AIO cannot on this file system, the rest has
  /// failed.
  std::size_t refuse(IoRequest& request, int error) {
    IoRequest* one = &request;
    const bool unsupported = error == -EINVAL || error == -EOPNOTSUPP;
    if (request.operation == Operation::flush && unsupported) return workers_->submit({&one, 1});
    give_up(request, error);
    return 1;
  }

  void give_up(IoRequest& request, int error) {
    request.result = error;
    failed_.push_back(&request);
    ::eventfd_write(event_.get(), 1);
  }

  std::size_t take_failed(std::span<IoRequest*> done) {
    const std::size_t count = std::min(done.size(), failed_.size());
    std::copy_n(failed_.begin(), count, done.begin());
    failed_.erase(failed_.begin(), failed_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }

  std::size_t reap_context(Context& context, std::span<IoRequest*> done) {
    std::size_t count = 0;
    while (context.in_flight > 0 && count < done.size()) {
      std::array<io_event, kBatch> events;
      timespec none{};
      const long most = static_cast<long>(std::min(kBatch, done.size() - count));
      const int got = ::io_getevents(context.handle(), 0, most, events.data(), &none);
      if (got <= 0) break;
      context.in_flight -= static_cast<unsigned>(got);
      for (const io_event& event : std::span(events).first(static_cast<std::size_t>(got))) {
        auto* request = static_cast<IoRequest*>(event.data);
        if (settle(*request, static_cast<std::int64_t>(event.res)))
          done[count++] = request;
        else
          again_.push_back(request);
      }
      resubmit();
    }
    return count;
  }

  /// Goes on with short transfers, in the newest generation.
  void resubmit() {
    while (!again_.empty()) {
      IoRequest& request = *again_.back();
      iocb control;
      iocb* pointer = &control;
      prepare(control, request, event_.get());
      const int started = start(*contexts_.back(), {&pointer, 1});
      if (started == -EAGAIN || started == -EINTR) {  // no room now: have reap() called again
        ::eventfd_write(event_.get(), 1);
        return;
      }
      again_.pop_back();
      if (started < 0) give_up(request, started);
    }
  }

  void drop_empty_generations() {
    const auto busy = [](const auto& context) { return context->in_flight > 0; };
    const auto newest = contexts_.end() - 1;
    const auto first_empty = std::stable_partition(contexts_.begin(), newest, busy);
    std::erase_if(ending_, [](const auto& each) { return each.wait_for(0s) == std::future_status::ready; });
    for (auto each = first_empty; each != newest; ++each) end(std::move(*each));
    contexts_.erase(first_empty, newest);
  }

  void end(std::unique_ptr<Context> context) {
    try {
      ending_.push_back(std::async(std::launch::async, [moved = std::move(context)]() mutable { moved.reset(); }));
    } catch (const std::system_error&) {
      // No more threads: the context went with the task that could not be started.
    }
  }

  UniqueFd event_;
  std::unique_ptr<AioEngine> workers_;
  std::vector<std::unique_ptr<Context>> contexts_;  ///< The newest last; it takes what is submitted.
  std::vector<IoRequest*> again_;
  std::vector<IoRequest*> failed_;
  std::vector<std::future<void>> ending_;  ///< Of contexts that are being destroyed; waits for them at its own end.
};

}  // namespace

Result<std::unique_ptr<AioEngine>> make_native_engine(unsigned limit) {
  auto event = make_event_fd();
  if (!event) return tl::unexpected(event.error());
  auto first = make_context(limit);
  if (!first) return tl::unexpected(first.error());
  auto workers = make_threads_engine(kWorkers, UniqueFd(::dup(event->get())));
  if (!workers) return tl::unexpected(workers.error());
  return std::make_unique<NativeEngine>(limit, std::move(*event), std::move(*first), std::move(*workers));
}

}  // namespace aiolos::engine
