// SPDX-License-Identifier: Apache-2.0
#include "block_request.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace aiolos::engine {
namespace {

std::uint64_t total(const std::vector<iovec>& buffers) {
  std::uint64_t bytes = 0;
  for (const iovec& buffer : buffers) bytes += buffer.iov_len;
  return bytes;
}

/// Takes `size` bytes from the front of `buffers`, however they are divided. @return false if there are not so many.
bool take_front(std::vector<iovec>& buffers, void* to, std::size_t size) {
  if (total(buffers) < size) return false;
  std::size_t used = 0;
  for (auto* out = static_cast<char*>(to); size > 0;) {
    iovec& buffer = buffers[used];
    const std::size_t piece = std::min(size, buffer.iov_len);
    std::memcpy(out, buffer.iov_base, piece);
    out += piece;
    size -= piece;
    buffer.iov_base = static_cast<char*>(buffer.iov_base) + piece;
    buffer.iov_len -= piece;
    if (buffer.iov_len == 0) ++used;
  }
  buffers.erase(buffers.begin(), buffers.begin() + static_cast<std::ptrdiff_t>(used));
  return true;
}

/// Takes the last byte of `buffers`; nullptr if there is none.
std::uint8_t* take_last_byte(std::vector<iovec>& buffers) {
  while (!buffers.empty() && buffers.back().iov_len == 0) buffers.pop_back();
  if (buffers.empty()) return nullptr;
  iovec& last = buffers.back();
  auto* byte = static_cast<std::uint8_t*>(last.iov_base) + --last.iov_len;
  if (last.iov_len == 0) buffers.pop_back();
  return byte;
}

void answer(BlockRequest& request, std::uint8_t status) {
  request.kind = BlockRequest::Kind::answer;
  request.status = status;
  request.written = 1;
}

/// Whether a range is on the disk, and of whole blocks.
bool fits(const BlockLimits& limits, std::uint64_t sector, std::uint64_t bytes) {
  if (bytes % limits.block_size != 0 || sector > limits.sectors) return false;
  return (sector << kSectorShift) % limits.block_size == 0 && bytes >> kSectorShift <= limits.sectors - sector;
}

void parse_transfer(BlockRequest& request, const BlockLimits& limits, std::uint64_t sector, std::vector<iovec>& data) {
  request.length = total(data);
  if (!fits(limits, sector, request.length)) return answer(request, VIRTIO_BLK_S_IOERR);
  if (request.length == 0) return answer(request, VIRTIO_BLK_S_OK);
  request.kind = BlockRequest::Kind::io;
  request.offset = sector << kSectorShift;
  std::erase_if(data, [](const iovec& buffer) { return buffer.iov_len == 0; });
  std::swap(request.data, data);
}

void parse_range(BlockRequest& request, const BlockLimits& limits, std::vector<iovec>& data) {
  virtio_blk_discard_write_zeroes range{};
  if (total(data) != sizeof(range)) return answer(request, VIRTIO_BLK_S_UNSUPP);  // max_discard_seg is 1
  take_front(data, &range, sizeof(range));
  request.zeroes = request.operation == Operation::write_zeroes;
  const std::uint32_t known = request.zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
  if ((range.flags & ~known) != 0) return answer(request, VIRTIO_BLK_S_UNSUPP);
  request.length = std::uint64_t{range.num_sectors} << kSectorShift;
  if (request.length > kLargestZeroes || !fits(limits, range.sector, request.length))
    return answer(request, VIRTIO_BLK_S_IOERR);
  if (request.length == 0) return answer(request, VIRTIO_BLK_S_OK);
  if (request.zeroes && range.flags != 0) request.operation = Operation::discard;  // punching a hole leaves zeroes
  request.kind = BlockRequest::Kind::io;
  request.offset = range.sector << kSectorShift;
}

}  // namespace

bool parse_block_request(DescriptorChain& chain, const BlockLimits& limits, BlockRequest& request) {
  request.data.clear();
  request.written = 1;
  request.status_byte = take_last_byte(chain.writable);
  if (!request.status_byte) return false;
  virtio_blk_outhdr header{};
  if (!take_front(chain.readable, &header, sizeof(header))) {
    answer(request, VIRTIO_BLK_S_IOERR);
    return true;
  }
  const bool writes = header.type == VIRTIO_BLK_T_OUT || header.type == VIRTIO_BLK_T_DISCARD ||
                      header.type == VIRTIO_BLK_T_WRITE_ZEROES;
  if (writes && limits.read_only) {
    answer(request, VIRTIO_BLK_S_IOERR);
    return true;
  }
  switch (header.type) {
    case VIRTIO_BLK_T_IN:
      request.operation = Operation::read;
      parse_transfer(request, limits, header.sector, chain.writable);
      if (request.kind == BlockRequest::Kind::io) request.written += static_cast<std::uint32_t>(request.length);
      break;
    case VIRTIO_BLK_T_OUT:
      request.operation = Operation::write;
      parse_transfer(request, limits, header.sector, chain.readable);
      break;
    case VIRTIO_BLK_T_FLUSH:
      request.operation = Operation::flush;
      request.kind = BlockRequest::Kind::io;
      request.offset = request.length = 0;
      break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
      request.operation = header.type == VIRTIO_BLK_T_DISCARD ? Operation::discard : Operation::write_zeroes;
      parse_range(request, limits, chain.readable);
      break;
    case VIRTIO_BLK_T_GET_ID:
      request.kind = BlockRequest::Kind::get_id;
      std::swap(request.data, chain.writable);
      request.written += static_cast<std::uint32_t>(std::min<std::uint64_t>(total(request.data), kSerialLength));
      break;
    default:
      answer(request, VIRTIO_BLK_S_UNSUPP);
  }
  return true;
}

std::uint8_t block_status(int result) {
  if (result == 0) return VIRTIO_BLK_S_OK;
  return result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

void put_serial(const std::string& serial, const BlockRequest& request) {
  std::size_t from = 0;
  for (const iovec& buffer : request.data) {
    const std::size_t piece = std::min<std::size_t>(buffer.iov_len, kSerialLength - from);
    for (std::size_t i = 0; i < piece; ++i, ++from)
      static_cast<char*>(buffer.iov_base)[i] = from < serial.size() ? serial[from] : '\0';
  }
}

}  // namespace aiolos::engine
