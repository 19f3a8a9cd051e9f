// SPDX-License-Identifier: Apache-2.0
// stock_forecast: forecasts drains of disks that QEMU serves as `aiolos migrate` does, for bench/drain.py. A line of JSON for each
// look: {"at_ns": 1, "disks": {"vdb": {"reads": [N, NS], "writes": [N, NS], "flushes": [N, NS], "in_flight": N}}}. Answers each by
// the milliseconds of the slowest disk, or null where nothing is known yet.
#include <exception>
#include <iostream>
#include <string>

#include "aiolos/core/json.h"
#include "aiolos/core/stock_drain.h"

namespace {

using aiolos::Json;

aiolos::RequestCount count(const Json& pair) {
  return {pair.at(0).get<std::uint64_t>(), std::chrono::nanoseconds(pair.at(1).get<std::int64_t>())};
}

aiolos::GuestCounters counters(const Json& disks) {
  aiolos::GuestCounters seen;
  for (const auto& [target, disk] : disks.items()) {
    seen.disks.push_back({target, count(disk.at("reads")), count(disk.at("writes")), count(disk.at("flushes")), {}});
    if (const auto asked = disk.find("in_flight"); asked != disk.end())
      seen.disks.back().in_flight = asked->get<unsigned>();
  }
  return seen;
}

void forecast_each_line() {
  aiolos::StockDrains drains;
  for (std::string line; std::getline(std::cin, line);) {
    const Json look = Json::parse(line);
    drains.see(aiolos::StockDrain::Time(std::chrono::nanoseconds(look.at("at_ns").get<std::int64_t>())),
               counters(look.at("disks")));
    Json slowest;
    for (const auto& [target, disk] : look.at("disks").items()) {
      const auto known = drains.of(target);
      const double drain = known ? static_cast<double>(known->drain.count()) / 1000 : 0;
      if (known && (slowest.is_null() || slowest.get<double>() < drain)) slowest = drain;
    }
    std::cout << slowest << std::endl;
  }
}

}  // namespace

int main() {
  try {
    forecast_each_line();
  } catch (const std::exception& error) {
    std::cerr << "stock_forecast: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
