// SPDX-License-Identifier: Apache-2.0
// Fuzzes the walk over a ring: the input is the guest's memory, with a ring of 16 at its beginning. Each buffer that
// comes out has to lie in that memory.
#include <algorithm>
#include <cstring>

#include "block_request.h"
#include "memory.h"
#include "split_ring.h"

namespace aiolos::engine {
namespace {

constexpr std::size_t kMemory = 64U << 10;
constexpr unsigned kRing = 16;
// The same for the guest and the front end. Small, so that an input meets it easily.
constexpr std::uint64_t kBase = 0x10000;

struct Guest {
  Guest() : fd(make_memory(2 * kMemory)) {
    // Two regions, so that buffers can span them, and a hole behind.
    require(memory.add({kBase, kMemory / 2, kBase, 0}, fd).has_value());
    require(memory.add({kBase + kMemory / 2, kMemory / 2, kBase + kMemory / 2, kMemory}, fd).has_value());
  }
  std::byte* first() const { return memory.at_user_address(kBase, kMemory / 2); }
  std::byte* second() const { return memory.at_user_address(kBase + kMemory / 2, kMemory / 2); }

  UniqueFd fd;
  GuestMemory memory;
};

void touch(const Guest& guest, const std::vector<iovec>& buffers, bool write) {
  for (const iovec& buffer : buffers) {
    if (buffer.iov_len == 0) continue;
    auto* begin = static_cast<std::byte*>(buffer.iov_base);
    const auto inside = [&](std::byte* region) {
      return begin >= region && begin + buffer.iov_len <= region + kMemory / 2;
    };
    require(inside(guest.first()) || inside(guest.second()));
    require(guest.memory.guest_address(begin).has_value());
    // Not the ring itself, or there would be no end.
    if (write && begin >= guest.first() + 4096) *begin = begin[buffer.iov_len - 1] = std::byte{0};
  }
}

void run(const std::uint8_t* data, std::size_t size) {
  static Guest guest;
  size = std::min(size, kMemory);
  std::memset(guest.first(), 0, kMemory / 2);
  std::memset(guest.second(), 0, kMemory / 2);
  std::memcpy(guest.first(), data, std::min(size, kMemory / 2));
  if (size > kMemory / 2) std::memcpy(guest.second(), data + kMemory / 2, size - kMemory / 2);

  SplitRing ring;
  require(ring.set_size(kRing).has_value());
  ring.set_addresses({0, 0, kBase, kBase + 1024, kBase + 512, 0});
  ring.enabled = true;
  require(ring.start(guest.memory, true).has_value());
  DescriptorChain chain;
  BlockRequest request;
  for (unsigned i = 0; i < 2 * kRing; ++i) {
    const auto head = ring.pop();
    if (!head) break;
    const bool whole =
        ring.read_chain(guest.memory, *head, chain) && parse_block_request(chain, {1U << 20, 512, false}, request);
    if (whole) {
      touch(guest, chain.readable, false);
      touch(guest, chain.writable, true);
      touch(guest, request.data, request.kind != BlockRequest::Kind::io || request.operation == Operation::read);
      if (request.kind == BlockRequest::Kind::get_id) put_serial("serial", request);
      if (request.kind == BlockRequest::Kind::io && request.operation != Operation::flush)
        require(request.length > 0 && request.offset + request.length <= (std::uint64_t{1} << 29));
    }
    ring.complete(*head, whole ? request.written : 0);
    ring.publish(nullptr);
    ring.arm(nullptr);
  }
  require(ring.in_flight() == 0);
}

}  // namespace
}  // namespace aiolos::engine

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  aiolos::engine::run(data, size);
  return 0;
}
