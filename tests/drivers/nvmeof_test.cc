// SPDX-License-Identifier: Apache-2.0
// NVMe-oF: what a connection_info may say. What happens to a host is in tests/storage/test_nvmeof.py.
#include "services.h"

namespace aiolos::test {
namespace {

constexpr const char* kUuid = "5a1d6d1c-2b6e-4b4c-9a5a-6a1f4b6f1a4e";

Json portal(const char* address, const Json& port, const char* transport) {
  return Json::array({address, port, transport});
}

/// As Cinder has it, with other members of data; null removes one.
Json nvmeof_volume(const Json& changes = Json::object()) {
  Json data = {{"target_nqn", "nqn.2014-08.org.example:subsystem"},
               {"vol_uuid", kUuid},
               {"portals", Json::array({portal("10.0.0.1", 4420, "tcp")})}};
  data.merge_patch(changes);
  return {{"driver_volume_type", "nvmeof"}, {"data", data}};
}

struct WrongVolume {
  const char* name;
  Json changes;
  ErrorKind kind;
  const char* where;
  const char* message;
};

const WrongVolume kWrong[] = {
    {"no subsystem", {{"target_nqn", nullptr}}, ErrorKind::bad_input, "/data/nqn", "required"},
    {"no name of a subsystem",
     {{"target_nqn", "iqn.2026-01.example:x"}},
     ErrorKind::bad_input,
     "/data/target_nqn",
     "no NVMe Qualified Name"},
    {"no namespace", {{"vol_uuid", nullptr}}, ErrorKind::bad_input, "/data/vol_uuid", "which namespace"},
    {"no UUID", {{"vol_uuid", "volume-1"}}, ErrorKind::bad_input, "/data/vol_uuid", "'volume-1' is no UUID"},
    {"no NGUID", {{"volume_nguid", "12"}}, ErrorKind::bad_input, "/data/volume_nguid", "'12' is no UUID or NGUID"},
    {"no number", {{"ns_id", "one"}}, ErrorKind::bad_input, "/data/ns_id", "no namespace number"},
    {"no portals", {{"portals", Json::array()}}, ErrorKind::bad_input, "/data/portals", "a list of [address, port"},
    {"a name for an address",
     {{"portals", Json::array({portal("storage", 4420, "tcp")})}},
     ErrorKind::bad_input,
     "/data/portals/0/0",
     "no IP address"},
    {"no port",
     {{"portals", Json::array({portal("fd00::1", "nvme", "tcp")})}},
     ErrorKind::bad_input,
     "/data/portals/0/1",
     "no port"},
    {"RDMA",
     {{"portals", Json::array({portal("10.0.0.1", 4420, "RoCEv2")})}},
     ErrorKind::refused,
     "/data/portals/0/2",
     "only tcp"},
    {"the older form by RDMA",
     {{"portals", nullptr}, {"transport_type", "rdma"}, {"target_portal", "10.0.0.1"}, {"target_port", 4420}},
     ErrorKind::refused,
     "/data/transport_type",
     "only tcp"},
    {"the older form without a port",
     {{"portals", nullptr}, {"target_portal", "10.0.0.1"}},
     ErrorKind::bad_input,
     "/data/target_port",
     "required"},
    {"replicas", {{"volume_replicas", Json::array({1, 2})}}, ErrorKind::refused, "/data/volume_replicas", "replicas"},
    {"authentication", {{"dhchap_key", "DHHC-1:00:key:"}}, ErrorKind::refused, "/data/dhchap_key", "DH-HMAC-CHAP"},
};

TEST_F(Drivers, NvmeofRefusesWhatItCannotConnectBeforeItTouchesTheHost) {
  for (const WrongVolume& wrong : kWrong) {
    SCOPED_TRACE(wrong.name);
    const Json info = nvmeof_volume(wrong.changes);
    const auto attachment = driver_of(info).connect(info);
    ASSERT_FALSE(attachment.has_value());
    EXPECT_TRUE(is_error(attachment.error(), wrong.kind, wrong.where, wrong.message));
    EXPECT_EQ(attachment.error().message.find("DHHC-1"), std::string::npos);
  }
}

TEST_F(Drivers, NvmeofTargetIsTheNamespaceHoweverItIsWritten) {
  const auto target = [&](const Json& changes) {
    const Json info = nvmeof_volume(changes);
    return driver_of(info).target(info).value().value_or("");
  };
  const std::string known = target(Json::object());
  EXPECT_NE(known.find(kUuid), std::string::npos);
  EXPECT_EQ(target({{"vol_uuid", "5A1D6D1C2B6E4B4C9A5A6A1F4B6F1A4E"}}), known);
  EXPECT_EQ(target({{"target_nqn", nullptr}, {"nqn", "nqn.2014-08.org.example:subsystem"}}), known);
  EXPECT_NE(target({{"vol_uuid", nullptr}, {"ns_id", 1}}), known);
}

}  // namespace
}  // namespace aiolos::test
