// SPDX-License-Identifier: Apache-2.0
#include "inflight_region.h"

#include <algorithm>
#include <atomic>

namespace aiolos::engine {
namespace {

/// The steps before happen before those after, also for who looks when this process has been killed in between. A
/// processor keeps the order of its own stores in shared memory, so it is the compiler alone that must.
void step() { std::atomic_signal_fence(std::memory_order_seq_cst); }

}  // namespace

InflightRing::InflightRing(std::byte* memory, unsigned ring_size)
    : header_(reinterpret_cast<InflightHeader*>(memory)), size_(ring_size) {
  header_->version = 1;
  header_->descriptors = static_cast<std::uint16_t>(ring_size);
}

std::vector<std::uint16_t> InflightRing::recover(std::uint16_t used_index) {
  if (!header_) return {};
  // The driver was shown a batch that is still noted as in flight.
  std::uint16_t batch = static_cast<std::uint16_t>(used_index - header_->used_index);
  for (std::uint16_t head = header_->last_batch_head; batch > 0 && batch <= size_ && head < size_; --batch) {
    descriptors()[head].in_flight = 0;
    head = descriptors()[head].next;
  }
  step();
  header_->used_index = used_index;

  std::vector<std::uint16_t> heads;
  for (unsigned head = 0; head < size_; ++head)
    if (descriptors()[head].in_flight == 1) heads.push_back(static_cast<std::uint16_t>(head));
  const auto counter = [this](std::uint16_t head) { return descriptors()[head].counter; };
  std::sort(heads.begin(), heads.end(), [&](auto a, auto b) { return counter(a) < counter(b); });
  counter_ = heads.empty() ? 0 : counter(heads.back()) + 1;
  return heads;
}

void InflightRing::began(std::uint16_t head) {
  if (!header_) return;
  descriptors()[head].counter = counter_++;
  step();
  descriptors()[head].in_flight = 1;
}

void InflightRing::completed(std::uint16_t head) {
  if (!header_) return;
  descriptors()[head].next = header_->last_batch_head;
  step();
  header_->last_batch_head = head;
}

void InflightRing::published(const std::vector<std::uint16_t>& heads, std::uint16_t used_index) {
  if (!header_) return;
  step();
  for (const std::uint16_t head : heads) descriptors()[head].in_flight = 0;
  step();
  header_->used_index = used_index;
}

}  // namespace aiolos::engine
