// SPDX-License-Identifier: Apache-2.0
// Asynchronous I/O behind one interface: `threads`, `native` (Linux AIO) and `io_uring`.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "aiolos/core/posix.h"
#include "aiolos/core/result.h"
#include "aiolos/core/vocabulary.h"
#include "io_request.h"

namespace aiolos::engine {

/// Requests that one system call takes or gives back: io_submit(2), io_getevents(2), and a look at a completion queue.
inline constexpr std::size_t kBatch = 64;

/// Takes requests up to a limit and gives them back when they are done, in any order. Short transfers are continued
/// inside. Belongs to the thread that made it: no method may be called by another one.
///
/// The destructor waits for what is in flight, and loses it.
class AioEngine {
 public:
  virtual ~AioEngine() = default;
  AioEngine(const AioEngine&) = delete;
  AioEngine& operator=(const AioEngine&) = delete;

  /// Starts requests, the first ones of `batch` first.
  /// @return how many were taken; the rest did not fit under the limit, or the kernel has no room now, and can be
  /// submitted again later. A taken request comes back from reap() whatever becomes of it.
  virtual std::size_t submit(std::span<IoRequest* const> batch) = 0;

  /// Gives finished requests back, without waiting. @return how many were put at the front of `done`.
  virtual std::size_t reap(std::span<IoRequest*> done) = 0;

  /// From now on at most `limit` requests (at least 1) are in flight. What is over a smaller limit runs to its end.
  /// @return an error where the kernel has no room for more; the limit of before then stays, and all goes on.
  virtual Result<void> set_limit(unsigned limit) = 0;

  unsigned limit() const { return limit_; }
  /// Submitted and not reaped.
  unsigned in_flight() const { return in_flight_; }
  /// Readable when reap() may have something, edge by edge (EPOLLET): reap until nothing comes, then wait. Never
  /// changes.
  virtual int event_fd() const = 0;

  /// Says that requests will name this descriptor, which an engine may use to look it up once instead of every time.
  /// Nothing depends on it. The descriptor stays open until `forget`.
  virtual void remember(int fd) { (void)fd; }
  /// Keeps a file open until no request of this process is with the kernel, also when the process has been killed: the
  /// file's locks tell the next process. Without that, requests of io_uring outlive their process (io_ring_exit_work),
  /// while the kernel ends those of threads and of Linux AIO before it closes the process's files (exit_aio).
  virtual Result<void> hold(int fd) {
    (void)fd;
    return {};
  }
  /// Undoes `remember` and `hold`.
  virtual void forget(int fd) { (void)fd; }

 protected:
  explicit AioEngine(unsigned limit) : limit_(limit) {}

  /// The part of `batch` that the limit lets through.
  std::span<IoRequest* const> under_limit(std::span<IoRequest* const> batch) const;

  unsigned limit_;
  unsigned in_flight_ = 0;
};

/// Largest limit of any engine; the kernel's own for a completion queue of io_uring is twice that.
inline constexpr unsigned kLargestLimit = 32'768;

/// Makes an engine. @param limit as for set_limit, 1 to kLargestLimit.
/// @return ErrorKind::configuration where the kernel does not allow this mode, ErrorKind::retry where it has no room.
Result<std::unique_ptr<AioEngine>> make_aio_engine(AioMode mode, unsigned limit);

// The modes' own makers, which make_aio_engine chooses from.
/// @param event an eventfd to signal; without one the engine makes its own.
Result<std::unique_ptr<AioEngine>> make_threads_engine(unsigned limit, UniqueFd event = {});
Result<std::unique_ptr<AioEngine>> make_native_engine(unsigned limit);
/// @param completions room in the completion queue; more are kept by the kernel, which costs time but loses none.
Result<std::unique_ptr<AioEngine>> make_io_uring_engine(unsigned limit, unsigned completions);

/// A new eventfd that does not block.
Result<UniqueFd> make_event_fd();

}  // namespace aiolos::engine
