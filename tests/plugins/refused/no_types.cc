// SPDX-License-Identifier: Apache-2.0
// Must not compile: a driver that serves nothing.
#include "aiolos/plugin.hpp"

class Driver : public aiolos::sdk::BlockVolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{.name = "x"};
};
AIOLOS_PLUGIN(Driver)
// EXPECT: needs at least one driver_volume_type
