// SPDX-License-Identifier: Apache-2.0
// Must not compile: the two methods that every driver has.
#include "aiolos/plugin.hpp"

class Driver : public aiolos::sdk::VolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{.name = "x", .types = {"x"}};
};
AIOLOS_PLUGIN(Driver)
// EXPECT: a driver overrides describe and aio_mode
