// SPDX-License-Identifier: Apache-2.0
// Requests in flight, counted by the epoch they began in. How long the last one of an epoch takes after its end is what
// a drain at that end would have waited for: a drain is so measured without one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace aiolos {

/// For one thread. All calls but left() take constant time, amortised.
class InFlightEpochs {
 public:
  using Epoch = std::uint64_t;

  /// A request begins. @return its epoch, for end().
  Epoch begin() {
    ++counts_.back();
    return current();
  }

  void end(Epoch epoch) {
    --counts_[static_cast<std::size_t>(epoch - first_)];
    while (counts_.size() > 1 && counts_.front() == 0) {
      counts_.pop_front();
      ++first_;
    }
  }

  /// Begins the next epoch. @return the one that is over now.
  Epoch advance() {
    const Epoch over = current();
    if (counts_.size() == 1 && counts_.front() == 0)
      ++first_;
    else
      counts_.push_back(0);
    return over;
  }

  /// How many of `epoch` and before are still in flight.
  unsigned left(Epoch epoch) const {
    unsigned sum = 0;
    for (Epoch each = first_; each <= epoch && each <= current(); ++each) sum += counts_[each - first_];
    return sum;
  }

  Epoch current() const { return first_ + counts_.size() - 1; }
  /// Whether nothing that began in `epoch` or before is still in flight.
  bool finished(Epoch epoch) const {
    return first_ > epoch || (first_ == epoch && counts_.size() == 1 && counts_.front() == 0);
  }

 private:
  std::deque<unsigned> counts_{0};  ///< Of epochs first_, first_ + 1, ..., current().
  Epoch first_ = 0;
};

}  // namespace aiolos
