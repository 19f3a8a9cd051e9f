// SPDX-License-Identifier: Apache-2.0
// Must not compile: a thread model without its method.
#include "aiolos/plugin.hpp"

class Driver : public aiolos::sdk::BlockVolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{
      .name = "x", .types = {"x"}, .thread_model = aiolos::sdk::ThreadModel::per_target};
};
AIOLOS_PLUGIN(Driver)
// EXPECT: per_target promises target, which is not overridden
