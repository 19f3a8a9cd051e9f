// SPDX-License-Identifier: Apache-2.0
// Must not compile: what is connected must be disconnected.
#include "aiolos/plugin.hpp"

class Driver : public aiolos::sdk::BlockVolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{.name = "x", .types = {"x"}};
  aiolos::Result<aiolos::Attachment> connect(aiolos::sdk::Call&, const aiolos::sdk::Volume& volume) override {
    return describe(volume);
  }
};
AIOLOS_PLUGIN(Driver)
// EXPECT: connect and disconnect are overridden together
