// SPDX-License-Identifier: Apache-2.0
// What crosses the ABI arrives as it left: values, attachments, advice; and where Nova mounts shares.
#include "aiolos/plugin.hpp"
#include "testing.h"

namespace aiolos::testing {
namespace {

using ::testing::ElementsAre;

class Crossing : public ::testing::Test {
 protected:
  Result<Attachment> describe(Json data) {
    return driver(*registry_, "everything")->describe(volume("everything", std::move(data)));
  }
  std::unique_ptr<Registry> registry_ = load({kFixtures});
};

TEST_F(Crossing, AFile) {
  const auto attachment = describe({{"name", "größe"}, {"format", "qcow2"}});
  ASSERT_TRUE(attachment.has_value()) << aiolos::describe(attachment.error());
  EXPECT_EQ(to_json(*attachment),
            Json::parse(R"({"source": {"type": "file", "path": "/srv/größe"}, "format": "qcow2"})"));
}

TEST_F(Crossing, ANetworkSourceWithAll) {
  const auto attachment = describe({{"kind", "network"}});
  ASSERT_TRUE(attachment.has_value()) << aiolos::describe(attachment.error());
  EXPECT_EQ(to_json(*attachment), Json::parse(R"({"source": {"type": "network", "protocol": "rbd", "name": "",
      "hosts": [{"name": "a", "port": "1", "transport": "tcp"}, {"name": "b", "transport": "unix", "socket": "/run/s"}],
      "auth": {"username": "user", "secret_type": "ceph", "secret_uuid": "uuid"},
      "config_file": "/etc/ceph/x.conf"}, "format": "raw"})"));
}

TEST_F(Crossing, StateOfAnyShapeSurvives) {
  const Json state = Json::parse(R"({"a": [1, -2, 2.5, true, null, "x", {}, []], "0": {"-": "odd keys"}, "a/b~c": 1,
                                     "big": 9223372036854775807, "deep": {"d": {"e": {"p": [[[1]]]}}}})");
  const auto attachment = describe({{"name", "v"}, {"state", state}});
  ASSERT_TRUE(attachment.has_value()) << aiolos::describe(attachment.error());
  EXPECT_EQ(attachment->state, state);
}

TEST_F(Crossing, AMissingKeyIsNamed) {
  const auto missing = describe({{"nmae", "v"}});
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error(),
            (Error{ErrorKind::bad_input, "this key is required and missing", "add /data/name", "/data/name"}));
}

TEST_F(Crossing, AMissingKeyOfSomethingMissingIsNamedWhole) {
  const auto missing = driver(*registry_, "everything")->describe({{"driver_volume_type", "everything"}});
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error(),
            (Error{ErrorKind::bad_input, "this key is required and missing", "add /data/name", "/data/name"}));
}

TEST_F(Crossing, AMissingKeyOfWhatIsNoObjectNamesThat) {
  const Json info = {{"driver_volume_type", "everything"}, {"data", Json::array({1})}};
  const auto wrong = driver(*registry_, "everything")->describe(info);
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().where, "/data");
  EXPECT_EQ(wrong.error().message, "expected an object, found an array");
}

TEST_F(Crossing, AMistypedKeyIsNamedAndItsValueIsNot) {
  const auto wrong = describe({{"name", 123456}});
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().where, "/data/name");
  EXPECT_EQ(wrong.error().message, "expected a string, found an integer");
}

TEST_F(Crossing, NullIsAbsent) {
  EXPECT_EQ(describe({{"name", nullptr}}).error().message, "this key is required and missing");
  EXPECT_EQ(describe({{"name", "v"}, {"format", nullptr}})->format, "raw");
}

TEST_F(Crossing, AConnectionInfoThatIsNoObject) {
  for (const Json& odd : {Json(), Json(5), Json::array({1}), Json("data")})
    EXPECT_EQ(driver(*registry_, "everything")->describe(odd).error().kind, ErrorKind::bad_input) << odd;
}

TEST_F(Crossing, AdviceWithAndWithoutFacts) {
  Attachment attachment;
  attachment.source.kind = SourceKind::block;
  attachment.source.path = "/dev/sdx";
  StorageFacts facts;
  facts.chain.resize(2);
  const auto advice = driver(*registry_, "everything")->aio_mode(attachment, &facts);
  ASSERT_TRUE(advice.has_value()) << aiolos::describe(advice.error());
  EXPECT_THAT(advice->permitted, ElementsAre(AioMode::io_uring, AioMode::native));
  EXPECT_EQ(advice->preferred, AioMode::native);
  EXPECT_THAT(advice->reasons, ElementsAre("path /dev/sdx", "layers 2"));
  EXPECT_THAT(advice->rejected, ElementsAre(Rejection{AioMode::threads, "because"}));
  EXPECT_THAT(driver(*registry_, "everything")->aio_mode(attachment, nullptr)->reasons,
              ElementsAre("path /dev/sdx", "no facts"));
}

TEST_F(Crossing, DisconnectGetsWhatConnectGaveOrNothing) {
  Log log;
  PluginServices services;
  services.log = log.sink();
  const auto registry = load({kFixtures}, services);
  Driver* everything = driver(*registry, "everything");
  const Json info = volume("everything", {{"name", "v"}, {"state", {{"session", 4}}}});
  const auto attachment = everything->connect(info);
  ASSERT_TRUE(attachment.has_value());
  EXPECT_TRUE(everything->disconnect(info, &*attachment, false).has_value());
  EXPECT_TRUE(everything->disconnect(info, nullptr, true).has_value());
  EXPECT_THAT(log.lines(), ElementsAre("everything: init", "everything: " + to_json(*attachment).dump(),
                                       "everything: nothing by force"));
}

TEST_F(Crossing, ExtendGivesTheNewSize) {
  Attachment attachment;
  attachment.source.path = "/srv/v";
  EXPECT_EQ(driver(*registry_, "everything")->extend({}, attachment, 1024).value(), 1536u);
}

TEST_F(Crossing, ValueFunctionsAsCSeesThem) {
  const Json data = Json::parse(R"({"list": [1, [true], 2.5, "text", null, {"a": 1}, 18446744073709551615]})");
  const auto attachment = driver(*registry_, "reader")->describe(volume("reader", data));
  ASSERT_TRUE(attachment.has_value()) << aiolos::describe(attachment.error());
  EXPECT_EQ(attachment->state,
            (Json{{"string", "untouched"},
                  {"integer", -7},
                  {"truth", -7},
                  {"real", true},
                  {"size", 7},
                  {"data", data},
                  {"key", "list"},
                  {"pointer", "/data/list/1"},
                  {"types",
                   {AIOLOS_INTEGER, AIOLOS_ARRAY, AIOLOS_REAL, AIOLOS_STRING, AIOLOS_NULL, AIOLOS_OBJECT, AIOLOS_REAL}},
                  {"a/b~c", 5}}));
}

TEST(MountedPath, IsNovas) {
  // python3 -c 'import hashlib; print(hashlib.md5(b"192.168.1.1:/nfs/share1").hexdigest())'
  EXPECT_EQ(sdk::md5_hex("192.168.1.1:/nfs/share1"), "7238cae27f24b2984e2f10903a9c78a6");
  EXPECT_EQ(sdk::md5_hex(""), "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(sdk::mounted_path("/mnt", "", "volume-1").value(), "/mnt/d41d8cd98f00b204e9800998ecf8427e/volume-1");
  EXPECT_EQ(sdk::mount_point_path("/mnt/", ""), "/mnt/d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(sdk::mounted_path("/mnt", "", "a/b..c").value(), "/mnt/d41d8cd98f00b204e9800998ecf8427e/a/b..c");
}

TEST(MountedPath, StaysBelowTheMountPoint) {
  for (const std::string_view name : {"", "/etc/passwd", "..", "../x", "a/../../x", "a/.."}) {
    const auto path = sdk::mounted_path("/mnt", "h:/e", name);
    ASSERT_FALSE(path.has_value()) << name;
    EXPECT_EQ(path.error().kind, ErrorKind::bad_input);
  }
}

}  // namespace
}  // namespace aiolos::testing
