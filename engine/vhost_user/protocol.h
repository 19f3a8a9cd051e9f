// SPDX-License-Identifier: Apache-2.0
// vhost-user as it is on the wire: QEMU, docs/interop/vhost-user.rst. Everything is in the host's byte order.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "aiolos/core/posix.h"

namespace aiolos::engine {

static_assert(std::endian::native == std::endian::little, "virtio 1 rings are little endian");

/// What to do about one who speaks it wrongly.
inline constexpr char kBadFrontEnd[] = "the front end's vhost-user messages are wrong: use a QEMU that is supported";

enum class Request : std::uint32_t {
  get_features = 1,
  set_features = 2,
  set_owner = 3,
  reset_owner = 4,
  set_mem_table = 5,
  set_log_base = 6,
  set_log_fd = 7,
  set_vring_num = 8,
  set_vring_addr = 9,
  set_vring_base = 10,
  get_vring_base = 11,
  set_vring_kick = 12,
  set_vring_call = 13,
  set_vring_err = 14,
  get_protocol_features = 15,
  set_protocol_features = 16,
  get_queue_num = 17,
  set_vring_enable = 18,
  set_backend_req_fd = 21,
  get_config = 24,
  set_config = 25,
  get_inflight_fd = 31,
  set_inflight_fd = 32,
  get_max_mem_slots = 36,
  add_mem_reg = 37,
  rem_mem_reg = 38,
};

/// What a back end sends by itself, on the descriptor of set_backend_req_fd.
inline constexpr std::uint32_t kBackendConfigChange = 2;

// Feature bits of vhost itself, among those of virtio.
inline constexpr std::uint64_t kFeatureLogAll = 1ULL << 26;
inline constexpr std::uint64_t kFeatureProtocolFeatures = 1ULL << 30;

// Protocol features.
inline constexpr std::uint64_t kProtocolMultiqueue = 1ULL << 0;
inline constexpr std::uint64_t kProtocolLogShmfd = 1ULL << 1;
inline constexpr std::uint64_t kProtocolReplyAck = 1ULL << 3;
inline constexpr std::uint64_t kProtocolBackendReq = 1ULL << 5;
inline constexpr std::uint64_t kProtocolConfig = 1ULL << 9;
inline constexpr std::uint64_t kProtocolInflightShmfd = 1ULL << 12;
inline constexpr std::uint64_t kProtocolConfigureMemSlots = 1ULL << 15;

struct MessageHeader {
  std::uint32_t request;
  std::uint32_t flags;
  std::uint32_t size;  ///< Bytes of payload.
};
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::uint32_t kVersionMask = 3;
inline constexpr std::uint32_t kReply = 1U << 2;
inline constexpr std::uint32_t kNeedReply = 1U << 3;

struct VringState {
  std::uint32_t index;
  std::uint32_t number;
};

struct VringAddress {
  std::uint32_t index;
  std::uint32_t flags;
  std::uint64_t descriptors;  ///< These three in the front end's address space.
  std::uint64_t used;
  std::uint64_t available;
  std::uint64_t log;  ///< Of the used ring, in the guest's.
};
inline constexpr std::uint32_t kVringLog = 1;

/// set_vring_kick, _call and _err: the ring's index, and whether no descriptor comes with it.
inline constexpr std::uint64_t kVringIndexMask = 0xff;
inline constexpr std::uint64_t kVringNoFd = 1U << 8;

struct MemoryRegion {
  std::uint64_t guest_address;
  std::uint64_t size;
  std::uint64_t user_address;  ///< In the front end's address space.
  std::uint64_t mmap_offset;
};
inline constexpr std::size_t kMemTableRegions = 8;

struct MemTableHeader {
  std::uint32_t regions;
  std::uint32_t padding;
};

struct SingleRegion {
  std::uint64_t padding;
  MemoryRegion region;
};

struct LogBase {
  std::uint64_t size;
  std::uint64_t offset;
};

struct InflightDescription {
  std::uint64_t size;
  std::uint64_t offset;
  std::uint16_t queues;
  std::uint16_t queue_size;
  std::uint32_t padding;
};
/// The specification has no padding here, but QEMU, whose structure is not packed, sends it and wants it back.
inline constexpr std::size_t kLeastInflightDescription = 20;

struct ConfigHeader {
  std::uint32_t offset;
  std::uint32_t size;
  std::uint32_t flags;
};
inline constexpr std::size_t kConfigSpace = 256;

/// A message with what came along.
struct Message {
  MessageHeader header{};
  std::array<std::byte, 512> payload{};
  std::vector<UniqueFd> fds;

  Request request() const { return static_cast<Request>(header.request); }
  bool need_reply() const { return (header.flags & kNeedReply) != 0; }

  /// The payload as a T; all zero beyond the payload's end, which the receiver has checked for each request.
  template <typename T>
  T as() const {
    T value;
    std::memcpy(&value, payload.data(), sizeof(T));
    return value;
  }

  /// Puts `size` bytes at the end of the payload.
  void append(const void* data, std::size_t size) {
    std::copy_n(static_cast<const std::byte*>(data), size, payload.data() + header.size);  // size may be 0
    header.size += static_cast<std::uint32_t>(size);
  }
};
static_assert(sizeof(Message::payload) >= sizeof(MemTableHeader) + kMemTableRegions * sizeof(MemoryRegion));
static_assert(sizeof(Message::payload) >= sizeof(ConfigHeader) + kConfigSpace);

}  // namespace aiolos::engine
