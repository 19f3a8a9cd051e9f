// SPDX-License-Identifier: Apache-2.0
// One request to a disk's storage, as the AIO engines take it.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

namespace aiolos::engine {

enum class Operation : std::uint8_t {
  read,          ///< preadv(2)
  write,         ///< pwritev(2)
  flush,         ///< fdatasync(2)
  discard,       ///< fallocate(2), FALLOC_FL_PUNCH_HOLE
  write_zeroes,  ///< fallocate(2), FALLOC_FL_ZERO_RANGE
};

/// Belongs to the caller, who keeps it and its buffers alive and unchanged from submit() until reap() gives it back.
struct IoRequest {
  Operation operation = Operation::read;
  bool durable = false;  ///< A write is on stable storage before it completes (RWF_DSYNC).
  int fd = -1;
  std::uint64_t offset = 0;  ///< Bytes.
  std::uint64_t length = 0;  ///< Bytes; of reads and writes, those of all buffers together.
  std::span<const iovec> buffers{};

  int result = 0;  ///< Once reaped: 0 when all of it is done, otherwise -errno.

  // The engine's own from here on.
  std::uint64_t transferred = 0;
  std::vector<iovec> rest{};  ///< What is left of the buffers after a short transfer.
  unsigned attempts = 0;      ///< How often the storage said EAGAIN.

  std::span<const iovec> remaining() const { return transferred == 0 ? buffers : std::span<const iovec>(rest); }
  bool moves_data() const { return operation == Operation::read || operation == Operation::write; }
};

/// Makes a request ready for its first submission, or for another one.
void begin(IoRequest& request);

/// Takes the result of one system call for `request`.
/// @param returned what the kernel returned: bytes, 0, or -errno.
/// @return true when the request is finished and `request.result` set. false when the rest has to be submitted:
/// the transfer was short, or the call was interrupted. A read that meets the end of the file fails with EIO: a disk
/// has no end inside its size. EAGAIN is tried again eight times, then it is the result.
bool settle(IoRequest& request, std::int64_t returned);

/// Does what is left of `request` by system calls that block, and settles it.
void perform(IoRequest& request);

/// The fallocate(2) mode of a discard or a write of zeroes.
int fallocate_mode(Operation operation);

}  // namespace aiolos::engine
