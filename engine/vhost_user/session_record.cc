// SPDX-License-Identifier: Apache-2.0
#include "session_record.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace aiolos::engine {
namespace {

constexpr std::array kOrder{
    Request::set_protocol_features,
    Request::set_features,
    Request::set_config,
    Request::set_backend_req_fd,
    Request::add_mem_reg,
    Request::set_log_base,
    Request::set_inflight_fd,
    Request::set_vring_num,
    Request::set_vring_base,
    Request::set_vring_addr,
    Request::set_vring_err,
    Request::set_vring_kick,
    // Of a ring that runs, which the session tells of completions that the process before may not have told of.
    Request::set_vring_call,
    Request::set_vring_enable,
};

/// After all others.
constexpr SessionRecord::Key kWaiting{kOrder.size(), 0};

std::optional<std::size_t> rank_of(Request request) {
  const auto* const found = std::find(kOrder.begin(), kOrder.end(), request);
  if (found == kOrder.end()) return std::nullopt;
  return static_cast<std::size_t>(found - kOrder.begin());
}

SessionRecord::Key key_of(std::size_t rank, const Message& message) {
  switch (message.request()) {
    case Request::add_mem_reg:
      return {rank, message.as<SingleRegion>().region.guest_address};
    case Request::set_vring_kick:
    case Request::set_vring_call:
    case Request::set_vring_err:
      return {rank, message.as<std::uint64_t>() & kVringIndexMask};
    case Request::set_vring_num:
    case Request::set_vring_base:
    case Request::set_vring_addr:
    case Request::set_vring_enable:
      return {rank, message.as<VringState>().index};
    default:
      return {rank, 0};
  }
}

}  // namespace

Message copy_of(const Message& message) {
  Message copy;
  copy.header = message.header;
  copy.payload = message.payload;
  for (const UniqueFd& fd : message.fds) copy.fds.emplace_back(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  return copy;
}

bool SessionRecord::resumable() const {
  if (entries_.contains({*rank_of(Request::set_inflight_fd), 0})) return true;
  const auto kick = *rank_of(Request::set_vring_kick);
  return std::none_of(entries_.begin(), entries_.end(), [&](const auto& entry) { return entry.first.rank == kick; });
}

/// A table of memory has more descriptors than an entry; a front end that adds regions by themselves sends none.
void SessionRecord::defer(Message message) {
  if (message.fds.size() > 1) return;
  entries_.insert_or_assign(kWaiting, Entry{next_serial_++, std::move(message)});
}

void SessionRecord::answered() { entries_.erase(kWaiting); }

bool SessionRecord::waits(const Key& key) { return key == kWaiting; }

void SessionRecord::put(const Key& key, Message message) {
  message.header.flags = kVersion;
  if (message.fds.size() > 1) message.fds.resize(1);
  entries_.insert_or_assign(key, Entry{next_serial_++, std::move(message)});
}

bool SessionRecord::note(Message message) {
  switch (message.request()) {
    case Request::set_mem_table:
    case Request::rem_mem_reg:
      return note_memory(std::move(message));
    case Request::get_vring_base:  // the ring stands until it gets a kick again
      return entries_.erase({*rank_of(Request::set_vring_kick), message.as<VringState>().index}) > 0;
    default:
      const auto rank = rank_of(message.request());
      if (rank) put(key_of(*rank, message), std::move(message));
      return rank.has_value();
  }
}

/// Each region is noted as if it had come alone.
bool SessionRecord::note_memory(Message message) {
  const auto rank = *rank_of(Request::add_mem_reg);
  if (message.request() == Request::rem_mem_reg)
    return entries_.erase({rank, message.as<SingleRegion>().region.guest_address}) > 0;
  std::erase_if(entries_, [&](const auto& entry) { return entry.first.rank == rank; });
  for (std::size_t i = 0; i < message.fds.size(); ++i) {
    SingleRegion single{};
    std::memcpy(&single.region, message.payload.data() + sizeof(MemTableHeader) + i * sizeof(MemoryRegion),
                sizeof(MemoryRegion));
    Message alone;
    alone.header = {static_cast<std::uint32_t>(Request::add_mem_reg), kVersion, 0};
    alone.append(&single, sizeof(single));
    alone.fds.push_back(std::move(message.fds[i]));
    put({rank, single.region.guest_address}, std::move(alone));
  }
  return true;
}

}  // namespace aiolos::engine
