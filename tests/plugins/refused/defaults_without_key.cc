// SPDX-License-Identifier: Apache-2.0
// Must not compile: defaults of a configuration that has no name.
#include "aiolos/plugin.hpp"

class Driver : public aiolos::sdk::BlockVolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{.name = "x", .types = {"x"}, .configuration_defaults = "{}"};
};
AIOLOS_PLUGIN(Driver)
// EXPECT: configuration_defaults are given together
