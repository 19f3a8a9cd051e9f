// SPDX-License-Identifier: Apache-2.0
#include "aio_engine.h"

#include <fmt/format.h>

#include <algorithm>

namespace aiolos::engine {

std::span<IoRequest* const> AioEngine::under_limit(std::span<IoRequest* const> batch) const {
  const std::size_t room = limit_ > in_flight_ ? limit_ - in_flight_ : 0;
  return batch.first(std::min(batch.size(), room));
}

Result<std::unique_ptr<AioEngine>> make_aio_engine(AioMode mode, unsigned limit) {
  if (limit == 0 || limit > kLargestLimit)
    return fail(ErrorKind::bad_input, fmt::format("an AIO engine cannot hold {} requests in flight", limit),
                fmt::format("use 1 to {}", kLargestLimit));
  switch (mode) {
    case AioMode::threads:
      return make_threads_engine(limit);
    case AioMode::native:
      return make_native_engine(limit);
    case AioMode::io_uring:
      // Room for what a later, larger limit may need: 16 bytes each, and a ring cannot grow before Linux 6.13.
      return make_io_uring_engine(limit, std::max(limit, 4096U));
  }
  return fail(ErrorKind::bug, "an AIO mode that is none");
}

}  // namespace aiolos::engine
