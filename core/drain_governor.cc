// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/drain_governor.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

namespace aiolos {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr std::chrono::milliseconds kWindow{100};
constexpr std::chrono::seconds kPeakMemory{10};
/// Drains between two adjustments, and how many of them may be longer than what is judged by: one request that the
/// storage forgot for a while says nothing of the others.
constexpr std::size_t kDrainsPerAdjustment = 20;
constexpr std::ptrdiff_t kOutliers = 2;
/// In flight while nothing is known of the storage.
constexpr unsigned kUnknownDepth = 4;
constexpr double kSmoothing = 0.2;

/// How long a latency counts that was not measured again: then a moment with few in flight shows what it is now.
constexpr std::chrono::seconds kLatencyMemory{30};
/// Transfers that tell it.
constexpr std::size_t kLatencySamples = 8;
/// Of the target, how much work makes a queue that does not account for it.
constexpr double kShallow = 0.25;

constexpr double kCut = 0.7;
constexpr double kRaise = 0.1;
constexpr double kLeastAllowance = 0.02;
/// Above 1, for work that overlaps in the storage is counted as if it did not, while the storage's best is not known.
constexpr double kMostAllowance = 4.0;
constexpr double kClamped = 0.5;

double seconds(DrainGovernor::Duration duration) { return Seconds(duration).count(); }

DrainGovernor::Duration duration(double seconds) {
  return std::chrono::duration_cast<DrainGovernor::Duration>(Seconds(seconds));
}

}  // namespace

void DrainGovernor::set_mode(Mode mode) {
  const bool was_bounded = bounded();
  mode_ = mode;
  if (bounded() && !was_bounded) unbounded_ = epochs_.advance();
}

bool DrainGovernor::admits(std::uint64_t bytes) {
  if (mode_ == Mode::free) return true;
  if (mode_ == Mode::stopped) return false;
  if (in_flight_ == 0) return true;
  const bool alone = mode_ == Mode::clamped && heavy_ > 0;
  const bool unknown = transfers_per_second_.value() == 0;
  const bool fits = unknown ? in_flight_ < kUnknownDepth : work_with(bytes) <= work_limit();
  if (fits && !alone) return true;
  held_back_ = true;
  return false;
}

DrainGovernor::Ticket DrainGovernor::start(Kind kind, std::uint64_t bytes, Time now) {
  const bool known = transfers_per_second_.value() > 0;
  const bool shallow = kind == Kind::transfer && (in_flight_ == 0 || (known && work_with(bytes) <= shallow_limit()));
  ++in_flight_;
  bytes_ += kind == Kind::transfer ? bytes : 0;
  heavy_ += kind == Kind::heavy ? 1 : 0;
  return {now, bytes, epochs_.begin(), kind, shallow};
}

void DrainGovernor::finish(const Ticket& ticket, Time now) {
  epochs_.end(ticket.epoch);
  --in_flight_;
  const double took = seconds(now - ticket.begun);
  if (ticket.kind == Kind::heavy) {
    --heavy_;
    heavy_seconds_ += kSmoothing * (took - heavy_seconds_);
  } else {
    bytes_ -= ticket.bytes;
    transferred_ = now;
    transfer_seconds_ += kSmoothing * (took - transfer_seconds_);
    ++window_transfers_;
    window_bytes_ += ticket.bytes;
    if (ticket.shallow) latencies_[latency_count_++ % latencies_.size()] = static_cast<float>(took);
  }
  settle_probes(now);
}

void DrainGovernor::tick(Time now) {
  measure(now);
  settle_probes(now);
  if (!probed_ || now - *probed_ >= settings_.target / 2) probe(now);
}

/// Seconds that the storage takes for so much: for the number of transfers or for their bytes, whichever is longer; not
/// the sum, for the most transfers a second were seen with bytes in them.
double DrainGovernor::work(std::uint64_t transfers, std::uint64_t bytes, unsigned heavy) const {
  double seconds = heavy * heavy_seconds_;
  if (transfers_per_second_.value() > 0)
    seconds += std::max(static_cast<double>(transfers) / transfers_per_second_.value(),
                        static_cast<double>(bytes) / bytes_per_second_.value());
  return seconds;
}

/// The target, or where one request alone takes longer, what can be kept.
double DrainGovernor::bound(double latency) const {
  return std::max(seconds(settings_.target), 1.25 * latency + seconds(settings_.overhead));
}

double DrainGovernor::shallow_limit() const { return kShallow * seconds(settings_.target - settings_.overhead); }

double DrainGovernor::work_limit() const {
  const double all = allowance_ * (bound() - seconds(settings_.overhead));
  if (mode_ == Mode::clamped) return kClamped * all;
  return exploring() ? std::min(all, shallow_limit()) : all;
}

DrainGovernor::Forecast DrainGovernor::forecast() const {
  Forecast forecast;
  forecast.bound = duration(bound(latency_p99_));
  forecast.feasible = forecast.bound <= settings_.target;
  // Requests overlap in the storage: the last one ends when the work has been done, and not before its own latency.
  // Where that is not known yet, what transfers take in their queue is not less.
  const double one = latency_known_since_ ? latency_ : transfer_seconds_;
  if (in_flight_ > 0) forecast.drain = duration(std::max(work(), one)) + settings_.overhead;
  return forecast;
}

std::optional<std::uint64_t> DrainGovernor::largest_piece() const {
  if (bytes_per_second_.value() == 0) return std::nullopt;
  return static_cast<std::uint64_t>(bytes_per_second_.value() * seconds(settings_.target) / 4);
}

void DrainGovernor::probe(Time now) {
  probed_ = now;
  probes_.push_back({epochs_.advance(), now});
  settle_probes(now);
}

void DrainGovernor::settle_probes(Time now) {
  while (!probes_.empty() && epochs_.finished(probes_.front().epoch)) {
    drains_.push_back(seconds(now - probes_.front().begun));
    probes_.pop_front();
    overdue_ = false;
  }
  // Neither what started before there was a bound nor what is measured just now says how good the bound is.
  if (!bounded() || exploring() || !epochs_.finished(unbounded_)) {
    drains_.clear();
    return;
  }
  const bool overdue =
      !probes_.empty() && seconds(now - probes_.front().begun) > bound() && epochs_.left(probes_.front().epoch) > 1;
  if (overdue && !std::exchange(overdue_, true)) return cut();
  if (drains_.size() >= kDrainsPerAdjustment) adjust();
}

/// The thresholds leave out the latency that the storage has by itself: fewer requests would not lower that.
void DrainGovernor::adjust() {
  const double slack = bound() - latency_;
  const auto judged = drains_.begin() + kOutliers;
  std::nth_element(drains_.begin(), judged, drains_.end(), std::greater<>());
  const double drain = *judged + seconds(settings_.overhead);
  if (drain > std::max(0.8 * bound(), latency_ + 0.6 * slack))
    cut();
  else if (held_back_ && drain < std::max(0.6 * bound(), latency_ + 0.2 * slack))
    allowance_ = std::min(kMostAllowance, allowance_ + kRaise);
  drains_.clear();
  held_back_ = false;
}

/// A drain took too long, so the storage is not what it was taken for: what is known of it is measured anew.
void DrainGovernor::cut() {
  allowance_ = std::max(kLeastAllowance, kCut * allowance_);
  transfers_per_second_.forget();
  bytes_per_second_.forget();
  forget_latency();
}

/// A window ends with an answer while there is something to wait for. So where the storage stands still for a moment
/// and then answers all at once, that moment and the answers are in the same window.
void DrainGovernor::measure(Time now) {
  if (!window_begun_) window_begun_ = peaks_begun_ = now;
  const Time end = in_flight_ > heavy_ ? transferred_ : now;
  if (end - *window_begun_ < kWindow) return;
  const double span = seconds(end - *window_begun_);
  transfers_per_second_.take(static_cast<double>(window_transfers_) / span);
  bytes_per_second_.take(static_cast<double>(window_bytes_) / span);
  if (now - peaks_begun_ >= kPeakMemory) {
    transfers_per_second_.rotate();
    bytes_per_second_.rotate();
    peaks_begun_ = now;
  }
  window_begun_ = end;
  window_transfers_ = window_bytes_ = 0;
  judge_latency(now);
}

void DrainGovernor::judge_latency(Time now) {
  if (latency_count_ - judged_count_ >= kLatencySamples) {
    const std::size_t count = std::min(latency_count_, latencies_.size());
    auto sorted = latencies_;
    std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count));
    latency_ = sorted[count / 2];
    latency_p99_ = sorted[(count - 1) * 99 / 100];
    latency_known_since_ = now;
    judged_count_ = latency_count_;
  } else if (latency_known_since_ && now - *latency_known_since_ >= kLatencyMemory) {
    forget_latency();
  }
}

void DrainGovernor::forget_latency() {
  latency_known_since_.reset();
  latency_ = latency_p99_ = 0;
  latency_count_ = judged_count_ = 0;
}

}  // namespace aiolos
