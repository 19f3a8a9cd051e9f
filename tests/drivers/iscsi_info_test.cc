// SPDX-License-Identifier: Apache-2.0
// What the iSCSI driver makes of a connection_info: which volume it names, and what is wrong with it. No command is run
// and nothing is touched.
#include "services.h"

namespace aiolos::test {
namespace {

Json volume(const Json& changes = Json::object()) {
  Json data = {{"target_portal", "10.0.0.1:3260"}, {"target_iqn", "iqn.2026-01.example:t"}, {"target_lun", 1}};
  data.merge_patch(changes);
  return {{"driver_volume_type", "iscsi"}, {"serial", "v"}, {"data", data}};
}

std::string target_of(Driver& driver, const Json& info) {
  const auto target = driver.target(info);
  return target ? target->value_or("") : describe(target.error());
}

TEST_F(Drivers, IscsiTargetIsTheVolumeHoweverItsPathsAreGiven) {
  Driver& driver = driver_of(volume());
  const std::string one = target_of(driver, volume());
  EXPECT_THAT(one, testing::EndsWith("iqn.2026-01.example:t 1"));
  const Json lists = {{"target_portals", {"10.0.0.2:3260", "10.0.0.1:3260"}},
                      {"target_iqns", {"iqn.2026-01.example:t", "iqn.2026-01.example:t"}},
                      {"target_luns", {1, 1}}};
  EXPECT_EQ(target_of(driver, volume(lists)), one);
  EXPECT_NE(target_of(driver, volume({{"target_lun", 2}})), one);
  const Json connected = {{"driver_volume_type", "iscsi"}, {"data", {{"device_path", "/dev/sdq"}}}};
  EXPECT_THAT(target_of(driver, connected), testing::EndsWith("/dev/sdq"));
}

TEST_F(Drivers, IscsiRefusesWhatNamesNoVolume) {
  const struct {
    const char* what;
    Json changes;
    const char* where;
    const char* message;
  } table[] = {
      {"no portal", {{"target_portal", nullptr}}, "/data/target_portal", "required"},
      {"no LUN", {{"target_lun", nullptr}}, "/data/target_lun", "required"},
      {"a portal of an unknown form", {{"target_portal", "10.0.0.1:iscsi"}}, "/data/target_portal", "no portal"},
      {"a name that leads elsewhere", {{"target_iqn", "iqn.2026-01.example:../x"}}, "/data/target_iqn", "iSCSI name"},
      {"a name of another kind", {{"target_iqn", "nqn.2026-01.example:t"}}, "/data/target_iqn", "iSCSI name"},
      {"a negative LUN", {{"target_lun", -1}}, "/data/target_lun", "'-1' is no LUN"},
      {"an addressing mode that is none", {{"addressing_mode", "SAM9"}}, "/data/addressing_mode", "SAM9"},
      {"lists of two lengths",
       {{"target_portals", {"10.0.0.1:3260", "10.0.0.2:3260"}}, {"target_iqns", {"iqn.2026-01.example:t"}}},
       "/data/target_iqns",
       "1 targets for 2 portals"},
      {"too few LUNs",
       {{"target_portals", {"10.0.0.1:3260"}}, {"target_iqns", {"iqn.2026-01.example:t"}}, {"target_luns", {1, 2}}},
       "/data/target_luns",
       "2 LUNs for 1 portals"},
      {"an empty list",
       {{"target_portals", Json::array()}, {"target_iqns", Json::array()}},
       "/data/target_portals",
       ""},
  };
  for (const auto& row : table) {
    SCOPED_TRACE(row.what);
    const Json info = volume(row.changes);
    const auto target = driver_of(info).target(info);
    ASSERT_FALSE(target.has_value());
    EXPECT_TRUE(is_error(target.error(), ErrorKind::bad_input, row.where, row.message));
  }
}

TEST_F(Drivers, IscsiRefusesCredentialsBeforeItTouchesAnything) {
  const struct {
    Json changes;
    const char* where;
  } table[] = {
      {{{"auth_method", "SRP"}}, "/data/auth_method"},
      {{{"auth_method", "CHAP"}}, "/data/auth_username"},
      {{{"auth_method", "CHAP"}, {"auth_username", "u"}}, "/data/auth_password"},
      {{{"auth_method", "CHAP"}, {"auth_username", "u"}, {"auth_password", "hidden\nx = y"}}, "/data/auth_password"},
      {{{"auth_method", "CHAP"}, {"auth_username", "u"}, {"auth_password", " hidden"}}, "/data/auth_password"},
      {{{"auth_method", "CHAP"}, {"auth_username", "u"}, {"auth_password", std::string(256, 'x')}},
       "/data/auth_password"},
  };
  for (const auto& row : table) {
    SCOPED_TRACE(row.changes.dump());
    const Json info = volume(row.changes);
    const auto connected = driver_of(info).connect(info);
    ASSERT_FALSE(connected.has_value());
    EXPECT_TRUE(is_error(connected.error(), ErrorKind::bad_input, row.where, ""));
    EXPECT_EQ(describe(connected.error()).find("hidden"), std::string::npos);
  }
}

TEST_F(Drivers, IscsiTakesAVolumeThatOthersConnectedAsItIs) {
  const Json info = {{"driver_volume_type", "iscsi"}, {"data", {{"device_path", "/dev/sdq"}}}};
  Driver& driver = driver_of(info);
  const auto connected = driver.connect(info);
  ASSERT_TRUE(connected.has_value()) << describe(connected.error());
  EXPECT_EQ(connected->source.path, "/dev/sdq");
  EXPECT_TRUE(driver.verify(info, *connected).has_value());
  const auto extended = driver.extend(info, *connected, 1 << 20);
  ASSERT_FALSE(extended.has_value());
  EXPECT_EQ(extended.error().kind, ErrorKind::refused);
  EXPECT_TRUE(driver.disconnect(info, &*connected, false).has_value());
}

}  // namespace
}  // namespace aiolos::test
