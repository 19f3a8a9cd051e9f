// SPDX-License-Identifier: Apache-2.0
// virtio-blk requests: virtio 1.2, section 5.2.6.
#pragma once

#include <linux/virtio_blk.h>
#include <sys/uio.h>

#include <cstdint>
#include <string>
#include <vector>

#include "io_request.h"
#include "split_ring.h"

namespace aiolos::engine {

/// What a disk can do, as far as its requests are concerned.
struct BlockLimits {
  std::uint64_t sectors = 0;       ///< Of 512 bytes.
  std::uint32_t block_size = 512;  ///< Requests begin and end with a block.
  bool read_only = false;
};

inline constexpr unsigned kSectorShift = 9;
/// Bytes of one discard or write of zeroes; so small that zeroes can be written where the storage cannot make them.
inline constexpr std::uint32_t kLargestZeroes = 32U << 20;
inline constexpr std::uint32_t kSerialLength = VIRTIO_BLK_ID_BYTES;

/// A request taken apart and checked.
struct BlockRequest {
  /// What is to be done: I/O; the serial number put into `data`; or nothing but answering `status`.
  enum class Kind { io, get_id, answer };

  Kind kind = Kind::answer;
  std::uint8_t status = VIRTIO_BLK_S_OK;  ///< The answer of Kind::answer.
  Operation operation = Operation::read;
  bool zeroes = false;       ///< Must leave zeroes, also where it is done as a discard.
  std::uint64_t offset = 0;  ///< Bytes.
  std::uint64_t length = 0;  ///< Bytes.
  std::vector<iovec> data;
  std::uint8_t* status_byte = nullptr;  ///< In the guest's memory.
  std::uint32_t written = 0;            ///< Bytes of the guest's memory that its success writes, the status byte too.
};

/// Takes a request apart. `chain` is used up.
/// @return false if there is no byte for the status: then nothing can be answered, and the request is as good as done.
/// What is wrong in any other way becomes Kind::answer with the status that says so.
bool parse_block_request(DescriptorChain& chain, const BlockLimits& limits, BlockRequest& request);

/// The virtio status of an I/O result (0 or -errno).
std::uint8_t block_status(int result);

/// Copies the serial number into a request's data, with zeroes behind it.
void put_serial(const std::string& serial, const BlockRequest& request);

}  // namespace aiolos::engine
