// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/stock_drain.h"

#include <algorithm>
#include <array>

namespace aiolos {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;
using std::chrono::nanoseconds;

// Disks that are idle at one look may be busy at the switchover: the longest of this time counts; and of a disk whose
// requests take longer than that, for as long as two of them.
constexpr auto kLately = 1s;
// Shorter windows would take answers that come together for a rate.
constexpr auto kRateWindow = 100ms;
// What the storage could do so long ago it can do still.
constexpr auto kRateKept = 20s;

std::array<const RequestCount*, 3> kinds_of(const DiskCounters& counters) {
  return {&counters.reads, &counters.writes, &counters.flushes};
}

RequestCount sum(const DiskCounters& counters) {
  RequestCount all;
  for (const RequestCount* const kind : kinds_of(counters)) {
    all.requests += kind->requests;
    all.time += kind->time;
  }
  return all;
}

/// What was answered between two looks.
struct Answered {
  std::uint64_t requests = 0;
  double seconds = 0;       ///< That passed.
  double in_flight = 0;     ///< On average, by Little's law: the time of all of them, by the time that passed.
  microseconds latency{0};  ///< Of the slowest kind, on average: a drain waits for the last request, whatever it is.

  double rate() const { return static_cast<double>(requests) / seconds; }
};

Answered answered_between(StockDrain::Time from, const DiskCounters& before, StockDrain::Time to,
                          const DiskCounters& after) {
  Answered answered;
  answered.requests = sum(after).requests - sum(before).requests;
  answered.seconds = std::chrono::duration<double>(to - from).count();
  answered.in_flight = std::chrono::duration<double>(sum(after).time - sum(before).time).count() / answered.seconds;
  for (std::size_t i = 0; i < kinds_of(after).size(); ++i) {
    const std::uint64_t requests = kinds_of(after)[i]->requests - kinds_of(before)[i]->requests;
    const nanoseconds time = kinds_of(after)[i]->time - kinds_of(before)[i]->time;
    if (requests > 0)
      answered.latency = std::max(answered.latency,
                                  std::chrono::duration_cast<microseconds>(time / static_cast<std::int64_t>(requests)));
  }
  return answered;
}

bool went_back(const DiskCounters& before, const DiskCounters& after) {
  for (std::size_t i = 0; i < kinds_of(after).size(); ++i)
    if (kinds_of(after)[i]->requests < kinds_of(before)[i]->requests ||
        kinds_of(after)[i]->time < kinds_of(before)[i]->time)
      return true;
  return false;
}

}  // namespace

/// The most requests a second of windows in which something was in flight all the time: then the storage, and not the
/// guest, says how many there are, or the guest gets as many as it wants.
void StockDrain::learn_rate(Time now, const DiskCounters& counters) {
  if (now - window_->when < kRateWindow) return;
  const Answered window = answered_between(window_->when, window_->counters, now, counters);
  if (window.in_flight >= 1) rates_.push_back({now, window.rate()});
  std::erase_if(rates_, [&](const Rate& rate) { return rate.when < now - kRateKept; });
  window_ = Seen{now, counters};
}

/// A request's latency, with all that it waits behind others. Where nothing was answered since the last look, the
/// answers before it count until others would have come, as they come together now and then.
microseconds StockDrain::from_answers(Time now, const DiskCounters& counters) const {
  const Answered answered = answered_between(last_->when, last_->counters, now, counters);
  if (answered.requests > 0) return answered.latency;
  return now - answered_ <= std::max<nanoseconds>(kRateWindow, 2 * nanoseconds(usual_)) ? usual_ : 0us;
}

/// By the answers; and, if QEMU says what is in flight now, how long the storage takes for that many. By the answers
/// alone it would be known only after those requests that there are more of them, or none.
microseconds StockDrain::estimate(Time now, const DiskCounters& counters) const {
  if (!counters.in_flight) return from_answers(now, counters);
  if (*counters.in_flight == 0) return 0us;
  microseconds latency = from_answers(now, counters);
  // Storage that has answered nothing for long stands still: nobody knows until when, and it has for so long.
  const auto silent = std::chrono::duration_cast<microseconds>(now - answered_);
  const bool is_silent = sum(counters).requests == sum(last_->counters).requests;
  if (is_silent && silent > 2 * usual_) latency = std::max(latency, silent);
  if (rates_.empty() || *counters.in_flight == 1) return std::max(latency, usual_);
  const auto fastest = std::max_element(rates_.begin(), rates_.end(), [](const Rate& a, const Rate& b) {
    return a.requests_a_second < b.requests_a_second;
  });
  const std::chrono::duration<double> all(*counters.in_flight / fastest->requests_a_second);
  return std::max({latency, usual_, std::chrono::duration_cast<microseconds>(all)});
}

void StockDrain::see(Time now, const DiskCounters& counters) {
  if (last_ && went_back(last_->counters, counters)) *this = StockDrain();
  if (!last_) {
    last_ = window_ = Seen{now, counters};
    answered_ = now;
    return;
  }
  if (now <= last_->when) return;
  learn_rate(now, counters);
  const Answered answered = answered_between(last_->when, last_->counters, now, counters);
  lately_.push_back({now, estimate(now, counters)});
  std::erase_if(lately_, [&](const Estimate& each) {
    return each.when < now - std::max<nanoseconds>(kLately, 2 * nanoseconds(each.drain));
  });
  if (answered.requests > 0 || counters.in_flight == 0U) answered_ = now;
  if (answered.requests > 0) usual_ = answered.latency;
  Forecast forecast{answered.rate(), answered.in_flight, usual_, lately_.back().drain, 0us};
  if (counters.in_flight) forecast.in_flight = *counters.in_flight;
  for (const Estimate& each : lately_) forecast.longest = std::max(forecast.longest, each.drain);
  forecast_ = forecast;
  last_ = Seen{now, counters};
}

void StockDrains::see(StockDrain::Time now, const GuestCounters& seen) {
  if (seen.switching_over) return;
  for (const DiskCounters& disk : seen.disks) disks_[disk.target].see(now, disk);
}

std::optional<microseconds> StockDrains::longest() const {
  std::optional<microseconds> longest;
  for (const auto& [target, disk] : disks_)
    if (disk.forecast()) longest = std::max(longest.value_or(0us), disk.forecast()->longest);
  return longest;
}

std::optional<StockDrain::Forecast> StockDrains::of(const std::string& target) const {
  const auto found = disks_.find(target);
  return found == disks_.end() ? std::nullopt : found->second.forecast();
}

}  // namespace aiolos
