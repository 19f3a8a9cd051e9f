// SPDX-License-Identifier: Apache-2.0
// C++ with the SDK: an exception out of init.
#include <stdexcept>

#include "aiolos/plugin.hpp"

class Throwing : public aiolos::sdk::BlockVolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{.name = "sdk_init_throws", .types = {"sdk_init_throws"}};
  aiolos::Result<void> init(aiolos::sdk::Call&) override { throw std::logic_error("sum of angles is not 180"); }
};

AIOLOS_PLUGIN(Throwing)
