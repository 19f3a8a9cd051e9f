// SPDX-License-Identifier: Apache-2.0
#include "io_request.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace aiolos::engine {
namespace {

constexpr unsigned kAttempts = 8;

bool finish(IoRequest& request, int result) {
  request.result = result;
  return true;
}

/// Leaves in `rest` the buffers behind the first `transferred` bytes.
void skip_transferred(IoRequest& request) {
  std::uint64_t skip = request.transferred;
  std::vector<iovec> rest;
  for (const iovec& buffer : request.buffers) {
    const std::size_t skipped = std::min<std::uint64_t>(skip, buffer.iov_len);
    skip -= skipped;
    if (skipped < buffer.iov_len)
      rest.push_back({static_cast<char*>(buffer.iov_base) + skipped, buffer.iov_len - skipped});
  }
  request.rest = std::move(rest);
}

std::int64_t call_once(const IoRequest& request) {
  const std::span<const iovec> buffers = request.remaining();
  const int count = static_cast<int>(std::min<std::size_t>(buffers.size(), IOV_MAX));
  const auto offset = static_cast<off_t>(request.offset + request.transferred);
  switch (request.operation) {
    case Operation::read:
      return ::preadv2(request.fd, buffers.data(), count, offset, 0);
    case Operation::write:
      return ::pwritev2(request.fd, buffers.data(), count, offset, request.durable ? RWF_DSYNC : 0);
    case Operation::flush:
      return ::fdatasync(request.fd);
    case Operation::discard:
    case Operation::write_zeroes:
      return ::fallocate(request.fd, fallocate_mode(request.operation), offset, static_cast<off_t>(request.length));
  }
  errno = EINVAL;
  return -1;
}

}  // namespace

void begin(IoRequest& request) {
  request.result = 0;
  request.transferred = 0;
  request.attempts = 0;
}

bool settle(IoRequest& request, std::int64_t returned) {
  if (returned == -EINTR || (returned == -EAGAIN && ++request.attempts <= kAttempts)) return false;
  if (returned < 0) return finish(request, static_cast<int>(returned));
  if (!request.moves_data()) return finish(request, 0);
  request.transferred += static_cast<std::uint64_t>(returned);
  if (request.transferred >= request.length) return finish(request, 0);
  if (returned == 0) return finish(request, -EIO);
  skip_transferred(request);
  return false;
}

void perform(IoRequest& request) {
  for (;;) {
    const std::int64_t returned = call_once(request);
    if (settle(request, returned < 0 ? -errno : returned)) return;
    if (request.attempts > 0) ::sched_yield();
  }
}

int fallocate_mode(Operation operation) {
  return FALLOC_FL_KEEP_SIZE | (operation == Operation::discard ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

}  // namespace aiolos::engine
