// SPDX-License-Identifier: Apache-2.0
#include "split_ring.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

namespace aiolos::engine {
namespace {

// What the driver writes while the device reads, and the other way round.
std::uint16_t load(const std::uint16_t& shared, std::memory_order order = std::memory_order_relaxed) {
  return std::atomic_ref(const_cast<std::uint16_t&>(shared)).load(order);
}
void store(std::uint16_t& shared, std::uint16_t value, std::memory_order order = std::memory_order_relaxed) {
  std::atomic_ref(shared).store(value, order);
}

constexpr std::uint64_t available_bytes(unsigned size) {
  return sizeof(vring_avail) + (size + 1) * sizeof(std::uint16_t);
}
constexpr std::uint64_t used_bytes(unsigned size) {
  return sizeof(vring_used) + size * sizeof(vring_used_elem) + sizeof(std::uint16_t);
}

/// The driver asked to be woken when index `event` is passed: has the step from `before` to `now` done so?
bool passes(std::uint16_t event, std::uint16_t now, std::uint16_t before) {
  return static_cast<std::uint16_t>(now - event - 1) < static_cast<std::uint16_t>(now - before);
}

}  // namespace

Result<void> SplitRing::set_size(std::uint32_t size) {
  if (started_) return fail(ErrorKind::bad_input, "a running ring was given another size", kBadFrontEnd);
  if (!std::has_single_bit(size) || size > kLargestSize)
    return fail(ErrorKind::bad_input, fmt::format("a ring of {} entries", size),
                fmt::format("use a queue size that is a power of 2 up to {}", kLargestSize));
  size_ = size;
  return {};
}

Result<void> SplitRing::set_base(std::uint32_t available_index) {
  if (started_) return fail(ErrorKind::bad_input, "a running ring was given another base", kBadFrontEnd);
  next_available_ = static_cast<std::uint16_t>(available_index);
  return {};
}

Result<void> SplitRing::resolve(const GuestMemory& memory) {
  if (size_ == 0) return fail(ErrorKind::bad_input, "a ring has no size yet", kBadFrontEnd);
  const auto place = [&](std::uint64_t address, std::uint64_t bytes, std::uint64_t alignment) {
    std::byte* const found = memory.at_user_address(address, bytes);
    return reinterpret_cast<std::uintptr_t>(found) % alignment == 0 ? found : nullptr;
  };
  descriptors_ = place(addresses_.descriptors, size_ * sizeof(vring_desc), 16);
  available_ = reinterpret_cast<vring_avail*>(place(addresses_.available, available_bytes(size_), 2));
  used_ = reinterpret_cast<vring_used*>(place(addresses_.used, used_bytes(size_), 4));
  if (descriptors_ && available_ && used_) return {};
  started_ = false;
  return fail(ErrorKind::bad_input,
              fmt::format("a ring of {} entries (at {:#x}, {:#x}, {:#x}) is not in the guest's memory", size_,
                          addresses_.descriptors, addresses_.available, addresses_.used),
              kBadFrontEnd);
}

Result<void> SplitRing::start(const GuestMemory& memory, bool event_index) {
  if (auto found = resolve(memory); !found) return found;
  if (inflight_ && inflight_.size() < size_)
    return fail(ErrorKind::bad_input,
                fmt::format("an inflight region of {} entries for a ring of {}", inflight_.size(), size_),
                kBadFrontEnd);
  event_index_ = event_index;
  broken_ = false;
  breakage_.clear();
  notified_ = false;
  taken_.assign(size_, false);
  in_flight_ = 0;
  unpublished_.clear();
  used_index_ = published_index_ = load(used_->idx);
  started_ = true;
  draining_ = false;
  recover();
  seen_available_ = next_available_;
  return {};
}

/// What an earlier process took and did not finish is taken again. What the driver has put there behind it comes after.
/// The front end's base does not count here: where the connection broke, it is the used index as QEMU read it then,
/// and the requests that were finished after that would be done, and given back, twice.
void SplitRing::recover() {
  resubmit_.clear();
  if (!inflight_) return;
  resubmit_ = inflight_.recover(used_index_);
  next_available_ = static_cast<std::uint16_t>(used_index_ + resubmit_.size());
  std::reverse(resubmit_.begin(), resubmit_.end());
}

std::uint16_t SplitRing::available_index() const { return load(available_->idx, std::memory_order_acquire); }

bool SplitRing::has_request() {
  if (!started_ || broken_) return false;
  if (!resubmit_.empty()) return true;
  if (!enabled || draining_) return false;
  if (seen_available_ == next_available_) seen_available_ = available_index();
  return seen_available_ != next_available_;
}

std::optional<std::uint16_t> SplitRing::pop() {
  if (!has_request()) return std::nullopt;
  const bool again = !resubmit_.empty();
  if (!again && static_cast<std::uint16_t>(seen_available_ - next_available_) > size_) {
    break_ring(fmt::format("its available index went from {} to {}", next_available_, seen_available_));
    return std::nullopt;
  }
  const std::uint16_t head = again ? resubmit_.back() : load(available_->ring[next_available_ % size_]);
  if (!take(head)) return std::nullopt;
  if (again) {
    resubmit_.pop_back();
  } else {
    ++next_available_;
    inflight_.began(head);
  }
  ++in_flight_;
  return head;
}

bool SplitRing::take(std::uint16_t head) {
  if (head >= size_) {
    break_ring(fmt::format("descriptor {} does not exist", head));
    return false;
  }
  if (taken_[head]) {
    break_ring(fmt::format("descriptor {} came again before it was done", head));
    return false;
  }
  taken_[head] = true;
  return true;
}

bool SplitRing::read_chain(const GuestMemory& memory, std::uint16_t head, DescriptorChain& chain) {
  chain.readable.clear();
  chain.writable.clear();
  return walk(memory, {descriptors_, size_ * sizeof(vring_desc)}, head, false, chain);
}

/// Follows a chain through `table`, at most as many steps as it has descriptors, so that none is met twice.
bool SplitRing::walk(const GuestMemory& memory, std::span<const std::byte> table, std::uint16_t head, bool indirect,
                     DescriptorChain& chain) {
  const std::size_t count = table.size() / sizeof(vring_desc);
  std::size_t index = head;
  for (std::size_t steps = 0; steps < count; ++steps) {
    if (index >= count) {
      break_ring(fmt::format("a chain leads to descriptor {} of {}", index, count));
      return false;
    }
    vring_desc descriptor;
    std::memcpy(&descriptor, table.data() + index * sizeof(descriptor), sizeof(descriptor));
    if ((descriptor.flags & VRING_DESC_F_INDIRECT) != 0) {
      const bool alone = !indirect && steps == 0 && (descriptor.flags & VRING_DESC_F_NEXT) == 0;
      indirect_.clear();
      if (!alone || descriptor.len == 0 || descriptor.len % sizeof(vring_desc) != 0 ||
          descriptor.len > kLargestSize * sizeof(vring_desc) ||
          !memory.translate(descriptor.addr, descriptor.len, indirect_) || indirect_.size() != 1) {
        break_ring(
            fmt::format("an indirect table of {} bytes at {:#x} cannot be read", descriptor.len, descriptor.addr));
        return false;
      }
      return walk(memory, {static_cast<const std::byte*>(indirect_[0].iov_base), descriptor.len}, 0, true, chain);
    }
    if (!add_buffer(memory, descriptor, chain)) return false;
    if ((descriptor.flags & VRING_DESC_F_NEXT) == 0) return true;
    index = descriptor.next;
  }
  break_ring("a chain of descriptors has no end");
  return false;
}

bool SplitRing::add_buffer(const GuestMemory& memory, const vring_desc& descriptor, DescriptorChain& chain) {
  const bool writable = (descriptor.flags & VRING_DESC_F_WRITE) != 0;
  if (!writable && !chain.writable.empty()) {
    break_ring("a buffer to read came after one to write");
    return false;
  }
  if (!memory.translate(descriptor.addr, descriptor.len, writable ? chain.writable : chain.readable)) {
    break_ring(
        fmt::format("a buffer of {} bytes at {:#x} is not in the guest's memory", descriptor.len, descriptor.addr));
    return false;
  }
  if (chain.readable.size() + chain.writable.size() > kLargestSize) {
    break_ring("a request has too many buffers");
    return false;
  }
  return true;
}

void SplitRing::complete(std::uint16_t head, std::uint32_t written) {
  taken_[head] = false;
  --in_flight_;
  if (!started_) return;  // it lost its place in the guest's memory
  const vring_used_elem element{head, written};
  std::memcpy(&used_->ring[used_index_ % size_], &element, sizeof(element));
  ++used_index_;
  inflight_.completed(head);
  unpublished_.push_back(head);
}

bool SplitRing::publish(const DirtyLog* log) {
  if (unpublished_.empty()) return false;
  const std::uint16_t before = published_index_;
  for (std::uint16_t index = before; index != used_index_; ++index)
    log_used(log, offsetof(vring_used, ring) + index % size_ * sizeof(vring_used_elem), sizeof(vring_used_elem));
  store(used_->idx, used_index_, std::memory_order_release);
  log_used(log, offsetof(vring_used, idx), sizeof(used_->idx));
  published_index_ = used_index_;
  inflight_.published(unpublished_, used_index_);
  unpublished_.clear();

  std::atomic_thread_fence(std::memory_order_seq_cst);  // the index is out before it is read what the driver wants
  if (!event_index_) return (load(available_->flags) & VRING_AVAIL_F_NO_INTERRUPT) == 0;
  const bool first = !std::exchange(notified_, true);
  return first || passes(load(available_->ring[size_]), used_index_, before);
}

bool SplitRing::arm(const DirtyLog* log) {
  if (!started_ || broken_) return false;
  if (event_index_) {
    auto* const end =
        reinterpret_cast<std::byte*>(used_) + offsetof(vring_used, ring) + size_ * sizeof(vring_used_elem);
    store(*reinterpret_cast<std::uint16_t*>(end), next_available_);  // avail_event
    log_used(log, offsetof(vring_used, ring) + size_ * sizeof(vring_used_elem), sizeof(std::uint16_t));
  } else {
    store(used_->flags, 0);
    log_used(log, offsetof(vring_used, flags), sizeof(used_->flags));
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // the wish is out before it is looked whether it came too late
  return has_request();
}

void SplitRing::disarm() {
  if (started_ && !broken_ && !event_index_) store(used_->flags, VRING_USED_F_NO_NOTIFY);
}

void SplitRing::log_used(const DirtyLog* log, std::uint64_t offset, std::uint64_t size) const {
  if (log && (addresses_.flags & kVringLog) != 0) log->mark(addresses_.log + offset, size);
}

void SplitRing::break_ring(std::string why) {
  broken_ = true;
  breakage_ = std::move(why);
}

}  // namespace aiolos::engine
