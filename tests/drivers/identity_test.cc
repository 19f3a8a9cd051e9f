// SPDX-License-Identifier: Apache-2.0
// What each driver says of itself: capabilities that tell the truth, thread model, and what Nova sets for its storage.
#include "services.h"

namespace aiolos::test {
namespace {

struct Identity {
  const char* type;
  const char* name;
  std::uint32_t capabilities;
  aiolos_thread_model thread_model;
  std::optional<AioMode> nova_driver_io;
};

constexpr std::uint32_t kMultiattach = AIOLOS_CAN_MULTIATTACH;

const Identity kIdentities[] = {
    {"iscsi", "iscsi", kMultiattach | AIOLOS_CAN_MULTIPATH | AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND, AIOLOS_PER_TARGET,
     AioMode::native},
    {"fibre_channel", "fibre_channel", kMultiattach | AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND | AIOLOS_CAN_MULTIPATH,
     AIOLOS_PER_TARGET, AioMode::native},
    {"nfs", "nfs", kMultiattach | AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND, AIOLOS_PER_TARGET, AioMode::native},
    {"quobyte", "quobyte", kMultiattach | AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND, AIOLOS_PER_TARGET, AioMode::native},
    {"rbd", "rbd", kMultiattach | AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND, AIOLOS_PER_TARGET, std::nullopt},
    {"nvmeof", "nvmeof", kMultiattach | AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND | AIOLOS_CAN_MULTIPATH,
     AIOLOS_PER_TARGET, std::nullopt},
    {"local", "local", kMultiattach | AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND, AIOLOS_PER_TARGET, std::nullopt},
    {"file", "local", kMultiattach | AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND, AIOLOS_PER_TARGET, std::nullopt},
};

TEST_F(Drivers, SayWhatTheyCanDo) {
  for (const Identity& expected : kIdentities) {
    SCOPED_TRACE(expected.type);
    const auto driver = registry_->find(expected.type);
    ASSERT_TRUE(driver.has_value()) << describe(driver.error());
    EXPECT_EQ((*driver)->name(), expected.name);
    EXPECT_EQ((*driver)->capabilities(), expected.capabilities);
    EXPECT_EQ((*driver)->thread_model(), expected.thread_model);
    EXPECT_EQ((*driver)->nova_driver_io(), expected.nova_driver_io);
    EXPECT_FALSE((*driver)->summary().empty());
    EXPECT_FALSE((*driver)->version().empty());
  }
}

TEST_F(Drivers, AreSevenForEightTypes) {
  std::size_t types = 0;
  for (const Driver* driver : registry_->drivers()) types += driver->types().size();
  EXPECT_EQ(registry_->drivers().size(), 7u);
  EXPECT_EQ(types, std::size(kIdentities));
}

}  // namespace
}  // namespace aiolos::test
