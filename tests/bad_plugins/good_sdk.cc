// SPDX-License-Identifier: Apache-2.0
// Nothing is wrong with this one either, in C++.
#include "aiolos/plugin.hpp"

class Good : public aiolos::sdk::BlockVolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{
      .name = "good_sdk", .version = "1.0", .types = {"good_sdk"}, .thread_model = aiolos::sdk::ThreadModel::parallel};
};

AIOLOS_PLUGIN(Good)
