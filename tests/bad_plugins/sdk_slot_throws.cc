// SPDX-License-Identifier: Apache-2.0
// C++ with the SDK: what data.throw names is thrown out of a slot.
#include <stdexcept>

#include "aiolos/plugin.hpp"

class Throwing : public aiolos::sdk::BlockVolumeDriver {
 public:
  static constexpr aiolos::sdk::DriverInfo kInfo{.name = "sdk_slot_throws", .types = {"sdk_slot_throws"}};

  aiolos::Result<aiolos::Attachment> describe(const aiolos::sdk::Volume& volume) const override {
    const auto what = volume.data().at("throw").string().value_or("");
    if (what == "exception") throw std::runtime_error("ring buffer is square");
    if (what == "int") throw 42;
    if (what == "bad_alloc") throw std::bad_alloc();
    return BlockVolumeDriver::describe(volume);
  }
};

AIOLOS_PLUGIN(Throwing)
