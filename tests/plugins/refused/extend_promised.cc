// SPDX-License-Identifier: Apache-2.0
// Must not compile: a capability without its method.
#include "aiolos/plugin.hpp"

class Driver : public aiolos::sdk::BlockVolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{.name = "x", .types = {"x"}, .capabilities = AIOLOS_CAN_EXTEND};
};
AIOLOS_PLUGIN(Driver)
// EXPECT: AIOLOS_CAN_EXTEND, but extend is not overridden
