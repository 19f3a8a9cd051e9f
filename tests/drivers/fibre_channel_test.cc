// SPDX-License-Identifier: Apache-2.0
// What the Fibre Channel driver makes of a connection_info and of a sysfs in a folder; real ports are in tests/storage.
#include <fstream>
#include <map>

#include "adapters.h"
#include "routes.h"
#include "services.h"
#include "volume_address.h"

namespace aiolos::test {
namespace {

using fibre_channel::Adapter;
using fibre_channel::Route;
using fibre_channel::TargetLun;
using fibre_channel::VolumeAddress;

constexpr const char* kFirstHba = "100000000000000a";
constexpr const char* kSecondHba = "100000000000000b";
constexpr const char* kFirstPort = "500000000000000a";
constexpr const char* kSecondPort = "500000000000000b";

// --- connection_info ---

Json volume_with(const Json& data) { return {{"driver_volume_type", "fibre_channel"}, {"data", data}}; }

class FibreChannelVolume : public Drivers {
 protected:
  /// The volume's first LUN, which is what it is locked by.
  Result<std::optional<std::string>> target(const Json& data) {
    const Json info = volume_with(data);
    return driver_of(info).target(info);
  }
  void expect_target(const Json& data, const std::string& expected) {
    SCOPED_TRACE(data.dump());
    const auto found = target(data);
    ASSERT_TRUE(found.has_value()) << describe(found.error());
    EXPECT_EQ(*found, "fibre_channel:" + expected);
  }
  void expect_error(const Json& data, const std::string& where, const std::string& message_part) {
    SCOPED_TRACE(data.dump());
    const auto found = target(data);
    ASSERT_FALSE(found.has_value());
    EXPECT_TRUE(is_error(found.error(), ErrorKind::bad_input, where, message_part));
  }
};

TEST_F(FibreChannelVolume, IsReadAsCindersDriversSpellIt) {
  const std::string lun_1 = "LUN 1 of target port 0x500000000000000a";
  expect_target({{"target_wwn", "500000000000000a"}, {"target_lun", 1}}, lun_1);
  expect_target({{"target_wwn", {"0x500000000000000A"}}, {"target_lun", 1}}, lun_1);
  expect_target({{"target_wwns", {"50:00:00:00:00:00:00:0a"}}, {"target_luns", {1}}}, lun_1);
  expect_target({{"target_wwns", {kSecondPort, kFirstPort}}, {"target_luns", {2, 1}}}, lun_1);
  expect_target({{"target_wwns", {kFirstPort}}, {"target_wwn", kSecondPort}, {"target_lun", 1}}, lun_1);
  expect_target({{"target_wwn", kFirstPort}}, "LUN 0 of target port 0x500000000000000a");
}

TEST_F(FibreChannelVolume, OrderOfPortsMakesNoOtherVolume) {
  expect_target({{"target_wwn", {kFirstPort, kSecondPort}}, {"target_lun", 7}},
                "LUN 7 of target port 0x500000000000000a");
  expect_target({{"target_wwn", {kSecondPort, kFirstPort}}, {"target_lun", 7}},
                "LUN 7 of target port 0x500000000000000a");
}

TEST_F(FibreChannelVolume, LunIsNumberedByTheAddressingMode) {
  const auto expect = [&](const char* mode, std::uint64_t lun, std::uint64_t expected) {
    expect_target({{"target_wwn", kFirstPort}, {"target_lun", lun}, {"addressing_mode", mode}},
                  "LUN " + std::to_string(expected) + " of target port 0x500000000000000a");
  };
  expect("SAM", 256, 256);
  expect("transparent", 16640, 16640);
  expect("SAM2", 255, 255);
  expect("SAM2", 256, 16640);
  expect("SAM3-flat", 1, 16385);
}

TEST_F(FibreChannelVolume, ThatOthersConnectedIsTakenAsItIs) {
  const Json data = {{"device_path", "/dev/mapper/volume"}};
  expect_target(data, "/dev/mapper/volume");
  const Json info = volume_with(data);
  const auto connected = driver_of(info).connect(info);  // no command is expected
  ASSERT_TRUE(connected.has_value()) << describe(connected.error());
  EXPECT_EQ(connected->source.path, "/dev/mapper/volume");
  EXPECT_TRUE(driver_of(info).verify(info, *connected).has_value());
  EXPECT_TRUE(driver_of(info).disconnect(info, &*connected, /*force=*/false).has_value());
}

TEST_F(FibreChannelVolume, SaysWhatIsWrong) {
  expect_error({{"target_lun", 1}}, "/data/target_wwn", "required and missing");
  expect_error({{"target_wwn", 5}}, "/data/target_wwn", "expected");
  expect_error({{"target_wwn", Json::array()}}, "/data/target_wwn", "empty");
  expect_error({{"target_wwn", {kFirstPort, "iqn.2026"}}}, "/data/target_wwn/1",
               "'iqn.2026' is no world wide port name");
  expect_error({{"target_wwn", "500000000000000"}}, "/data/target_wwn", "no world wide port name");
  expect_error({{"target_wwn", kFirstPort}, {"target_lun", "1"}}, "/data/target_lun", "expected");
  expect_error({{"target_wwn", kFirstPort}, {"target_lun", -1}}, "/data/target_lun", "-1 is no LUN");
  expect_error({{"target_wwns", {kFirstPort}}, {"target_luns", {1, 2}}}, "/data/target_luns",
               "2 LUNs for 1 target ports");
  expect_error({{"target_wwn", kFirstPort}, {"addressing_mode", "flat"}}, "/data/addressing_mode", "'flat'");
  expect_error({{"target_wwn", kFirstPort}, {"initiator_target_map", {{"host", {kFirstPort}}}}},
               "/data/initiator_target_map", "'host' is no world wide port name");
  expect_error({{"target_wwn", kFirstPort}, {"initiator_target_map", {{kFirstHba, {"x"}}}}},
               "/data/initiator_target_map/" + std::string(kFirstHba) + "/0", "'x' is no world wide port name");
  expect_error({{"target_wwn", kFirstPort}, {"enable_wildcard_scan", "no"}}, "/data/enable_wildcard_scan", "expected");
}

// --- sysfs ---

/// A sysfs with FC hosts and remote ports.
class FibreChannelHost : public testing::Test {
 protected:
  void write(const std::string& folder, const std::map<std::string, std::string>& attributes) const {
    std::filesystem::create_directories(folder_.path(folder));
    for (const auto& [name, value] : attributes) std::ofstream(folder_.path(folder + "/" + name)) << value << "\n";
  }
  void add_hba(const std::string& name, const std::string& port_name, const std::string& state) const {
    write("class/fc_host/" + name, {{"port_name", "0x" + port_name}, {"port_state", state}});
  }
  void add_port(const std::string& name, const std::string& port_name, const std::string& state,
                const std::string& target_id, const std::string& roles = "FCP Target, FCP Initiator") const {
    write("class/fc_remote_ports/" + name,
          {{"port_name", "0x" + port_name}, {"port_state", state}, {"scsi_target_id", target_id}, {"roles", roles}});
  }
  std::vector<Adapter> adapters() const { return fibre_channel::read_adapters(scsi::Sysfs(folder_.path("."))); }

  TemporaryFolder folder_;
  VolumeAddress volume_{{{kFirstPort, 3}, {kSecondPort, 3}}, {}, true};
};

TEST_F(FibreChannelHost, HasAdaptersInTheOrderOfTheirNumbersWithTheirPorts) {
  EXPECT_TRUE(adapters().empty());
  add_hba("host10", kSecondHba, "Linkdown");
  add_hba("host9", kFirstHba, "Online");
  add_port("rport-9:1-12", kFirstPort, "Online", "4");
  add_port("rport-10:0-0", kSecondPort, "Blocked", "0");
  add_port("rport-9:0-0", kSecondHba, "Online", "-1", "FCP Initiator");
  add_port("rport-11:0-0", kFirstPort, "Online", "0");  // its host has just gone
  const std::vector<Adapter> found = adapters();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].name(), "host9 (0x100000000000000a)");
  EXPECT_TRUE(found[0].is_online());
  EXPECT_FALSE(found[1].is_online());
  ASSERT_EQ(found[0].remote_ports.size(), 2u);
  const auto* port = found[0].find(kFirstPort);
  ASSERT_NE(port, nullptr);
  EXPECT_TRUE(port->is_target && port->is_online());
  EXPECT_EQ(port->channel, 1u);
  EXPECT_EQ(port->target_id, 4u);
  EXPECT_FALSE(found[0].find(kSecondHba)->is_target);
  EXPECT_EQ(found[0].find(kSecondHba)->target_id, std::nullopt);
  EXPECT_TRUE(found[1].find(kSecondPort)->is_blocked());
}

TEST_F(FibreChannelHost, RoutesSayWhichCanBeScannedAndWhyNot) {
  add_hba("host1", kFirstHba, "Online");
  add_hba("host2", kSecondHba, "Linkdown");
  add_port("rport-1:0-0", kFirstPort, "Online", "5");
  add_port("rport-1:0-1", kSecondPort, "Blocked", "6");
  add_port("rport-2:0-0", kFirstPort, "Not Present", "0");
  const std::vector<Route> routes = routes_to(volume_, adapters());
  ASSERT_EQ(routes.size(), 4u);
  EXPECT_EQ(routes[0].state, Route::State::open);
  EXPECT_EQ(to_string(routes[0].address.value()), "1:0:5:3");
  EXPECT_EQ(routes[0].name(), "target port 0x500000000000000a at host1 (0x100000000000000a)");
  EXPECT_EQ(routes[1].reason, "the HBA is Linkdown");
  EXPECT_EQ(to_string(routes[1].address.value()), "2:0:0:3") << "what was connected there can be found";
  EXPECT_EQ(routes[2].state, Route::State::blocked);
  EXPECT_EQ(routes[3].address, std::nullopt);
}

TEST_F(FibreChannelHost, AdaptersThatLogInAreWaitedForWhereNoneIsOnline) {
  const auto waits = [&] { return is_logging_in(volume_, adapters()); };
  EXPECT_FALSE(waits()) << "there is none";
  add_hba("host1", kFirstHba, "Linkdown");
  EXPECT_FALSE(waits());
  add_hba("host2", kSecondHba, "Bypassed");  // lpfc's word; libfc's is below
  EXPECT_TRUE(waits());
  volume_.initiators = {{kFirstHba, {kFirstPort}}};
  EXPECT_FALSE(waits()) << "host2 is not to reach the volume";
  add_hba("host1", kFirstHba, "Offline");
  EXPECT_TRUE(waits());
  volume_.initiators = {};
  add_hba("host2", kSecondHba, "Online");
  EXPECT_FALSE(waits()) << "host1 may be switched off";
}

TEST_F(FibreChannelHost, RoutesAreThoseOfTheInitiatorTargetMap) {
  add_hba("host1", kFirstHba, "Online");
  add_hba("host2", kSecondHba, "Online");
  volume_.initiators = {{kFirstHba, {kSecondPort}}};
  const std::vector<Route> routes = routes_to(volume_, adapters());
  ASSERT_EQ(routes.size(), 1u);
  EXPECT_EQ(routes[0].lun, (TargetLun{kSecondPort, 3}));
  EXPECT_EQ(routes[0].reason, "the HBA does not see it");
}

TEST_F(FibreChannelHost, PortThatIsNoTargetIsNotScanned) {
  add_hba("host1", kFirstHba, "Online");
  add_port("rport-1:0-0", kFirstPort, "Online", "-1", "FCP Initiator");
  EXPECT_EQ(routes_to(volume_, adapters())[0].reason, "it is no FCP target");
}

TEST_F(FibreChannelHost, WildcardsAreForAdaptersThatNameNoTargetPort) {
  add_hba("host1", kFirstHba, "Online");
  add_hba("host2", kSecondHba, "Online");
  add_port("rport-1:0-0", "50000000000000ff", "Online", "0");  // another array's
  add_port("rport-2:0-0", kFirstHba, "Online", "-1", "FCP Initiator");
  const std::vector<Adapter> found = without_target_ports(volume_, adapters());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].host, 2u);
  volume_.initiators = {{kFirstHba, {kFirstPort}}};
  EXPECT_TRUE(without_target_ports(volume_, adapters()).empty());
}

TEST_F(FibreChannelHost, AdaptersThatCannotReachTheVolumeAreNamedWithTheirStates) {
  const auto check = [&] { return check_adapters(volume_, adapters()); };
  EXPECT_TRUE(is_error(check().error(), ErrorKind::configuration, "", "no Fibre Channel HBA"));
  add_hba("host1", kFirstHba, "Linkdown");
  EXPECT_TRUE(is_error(check().error(), ErrorKind::storage, "", "host1 (0x100000000000000a) is Linkdown"));
  volume_.initiators = {{kSecondHba, {kFirstPort}}};
  EXPECT_TRUE(is_error(check().error(), ErrorKind::bad_input, "/data/initiator_target_map",
                       "none of this host's HBAs: host1 (0x100000000000000a) is Linkdown"));
  add_hba("host2", kSecondHba, "Online");
  EXPECT_TRUE(check().has_value());
}

}  // namespace
}  // namespace aiolos::test
