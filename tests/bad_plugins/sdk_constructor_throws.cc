// SPDX-License-Identifier: Apache-2.0
// C++ with the SDK: an exception out of the driver's constructor.
#include <stdexcept>

#include "aiolos/plugin.hpp"

class Throwing : public aiolos::sdk::BlockVolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{.name = "sdk_constructor_throws", .types = {"sdk_constructor_throws"}};
  Throwing() { throw std::runtime_error("no such device"); }
};

AIOLOS_PLUGIN(Throwing)
