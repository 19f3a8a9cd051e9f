// SPDX-License-Identifier: Apache-2.0
// This machine's clocks.
#include "aiolos/host/clock.h"

#include <thread>

namespace aiolos {
namespace {

class SystemClock final : public Clock {
 public:
  std::chrono::steady_clock::time_point now() const override { return std::chrono::steady_clock::now(); }
  std::chrono::system_clock::time_point wall() const override { return std::chrono::system_clock::now(); }
  void sleep_until(std::chrono::steady_clock::time_point deadline) override { std::this_thread::sleep_until(deadline); }
};

}  // namespace

std::unique_ptr<Clock> make_clock() { return std::make_unique<SystemClock>(); }

}  // namespace aiolos
