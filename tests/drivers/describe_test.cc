// SPDX-License-Identifier: Apache-2.0
// Where each driver says a volume is, from its connection_info alone. The mocks are strict: nothing may be touched.
#include <map>

#include "services.h"

namespace aiolos::test {
namespace {

/// A connection_info that works, what it means, and which of its keys must be there and of which type.
struct Volume {
  const char* name;
  Json connection_info;
  Json attachment;                    ///< As to_json(Attachment) has it.
  std::vector<std::string> required;  ///< JSON pointers of keys without which there is no answer.
  std::vector<std::string> typed;     ///< JSON pointers of keys whose type is checked.
};

Json info(const char* type, Json data) {
  return {{"driver_volume_type", type}, {"serial", "v"}, {"data", std::move(data)}};
}

Json attachment(DiskSource source, std::string format = "raw") {
  Attachment made;
  made.source = std::move(source);
  made.format = std::move(format);
  return to_json(made);
}

DiskSource block(std::string path) {
  DiskSource source;
  source.kind = SourceKind::block;
  source.path = std::move(path);
  return source;
}

DiskSource file(std::string path) {
  DiskSource source = block(std::move(path));
  source.kind = SourceKind::file;
  return source;
}

DiskSource rbd(std::vector<SourceHost> hosts, std::optional<SourceAuth> auth) {
  DiskSource source;
  source.kind = SourceKind::network;
  source.protocol = "rbd";
  source.name = "volumes/v";
  source.hosts = std::move(hosts);
  source.auth = std::move(auth);
  return source;
}

const std::vector<Volume>& volumes() {
  static const std::vector<Volume> table{
      {"iscsi",
       info("iscsi", {{"device_path", "/dev/sdb"}, {"target_lun", 1}}),
       attachment(block("/dev/sdb")),
       {"/data/device_path"},
       {"/data/device_path"}},
      {"fibre_channel",
       info("fibre_channel", {{"device_path", "/dev/dm-3"}}),
       attachment(block("/dev/dm-3")),
       {"/data/device_path"},
       {"/data/device_path"}},
      {"local",
       info("local", {{"device_path", "/dev/vg0/v"}}),
       attachment(block("/dev/vg0/v")),
       {"/data/device_path"},
       {"/data/device_path"}},
      {"file",
       info("file", {{"path", "/images/v.img"}}),
       attachment(file("/images/v.img")),
       {"/data/path"},
       {"/data/path"}},
      {"file_qcow2",
       info("file", {{"path", "/images/v"}, {"format", "qcow2"}}),
       attachment(file("/images/v"), "qcow2"),
       {"/data/path"},
       {"/data/path", "/data/format"}},
      // echo -n nas:/export | md5sum
      {"nfs",
       info("nfs", {{"export", "nas:/export"}, {"name", "volume-v"}, {"format", "qcow2"}}),
       attachment(file("/var/lib/aiolos/mnt/2b4c10925391a8bf333a66a39612b4fe/volume-v"), "qcow2"),
       {"/data/export", "/data/name"},
       {"/data/export", "/data/name", "/data/format"}},
      {"nfs_connected",
       info("nfs", {{"export", "nas:/export"}, {"name", "volume-v"}, {"device_path", "/mnt/x/volume-v"}}),
       attachment(file("/mnt/x/volume-v")),
       {},
       {"/data/device_path"}},
      // echo -n registry/volume | md5sum
      {"quobyte",
       info("quobyte", {{"export", "quobyte://registry/volume"}, {"name", "volume-v"}}),
       attachment(file("/var/lib/aiolos/mnt/8d0f04ee047638d21bba6eaceea9e7b5/volume-v")),
       {"/data/export", "/data/name"},
       {"/data/export", "/data/name"}},
      {"rbd",
       info(
           "rbd",
           {{"name", "volumes/v"}, {"hosts", {"mon1", "mon2"}}, {"ports", {"6789", nullptr}}, {"auth_enabled", false}}),
       attachment(rbd({{"mon1", "6789", "", ""}, {"mon2", "", "", ""}}, std::nullopt)),
       {"/data/name"},
       {"/data/name", "/data/hosts", "/data/ports", "/data/hosts/0", "/data/auth_enabled"}},
      {"rbd_auth",
       info("rbd", {{"name", "volumes/v"},
                    {"auth_enabled", true},
                    {"auth_username", "cinder"},
                    {"secret_type", "ceph"},
                    {"secret_uuid", "u-u-i-d"}}),
       attachment(rbd({}, SourceAuth{"cinder", "ceph", "u-u-i-d"})),
       {"/data/name", "/data/auth_username", "/data/secret_type", "/data/secret_uuid"},
       {"/data/auth_enabled", "/data/auth_username", "/data/secret_type", "/data/secret_uuid"}},
  };
  return table;
}

using DescribeTest = Drivers;

TEST_F(DescribeTest, GivesTheSourceAndFormat) {
  for (const Volume& volume : volumes()) {
    SCOPED_TRACE(volume.name);
    const auto described = driver_of(volume.connection_info).describe(volume.connection_info);
    ASSERT_TRUE(described.has_value()) << describe(described.error());
    EXPECT_EQ(to_json(*described), volume.attachment);
  }
}

TEST_F(DescribeTest, NamesEachMissingKey) {
  for (const Volume& volume : volumes()) {
    for (const std::string& key : volume.required) {
      SCOPED_TRACE(std::string(volume.name) + " without " + key);
      const Json::json_pointer pointer(key);
      Json without = volume.connection_info;
      without[pointer.parent_pointer()].erase(pointer.back());
      const auto absent = driver_of(without).describe(without);
      ASSERT_FALSE(absent.has_value());
      EXPECT_TRUE(is_error(absent.error(), ErrorKind::bad_input, key, ""));

      Json with_null = volume.connection_info;
      with_null[pointer] = nullptr;
      const auto null = driver_of(with_null).describe(with_null);
      ASSERT_FALSE(null.has_value());
      EXPECT_EQ(null.error(), absent.error()) << "null must read as absent";
    }
  }
}

TEST_F(DescribeTest, NamesEachMistypedKey) {
  const Json wrong_values[] = {Json::array({1}), {{"a", "b"}}, 1.5, "not this"};
  for (const Volume& volume : volumes()) {
    for (const std::string& key : volume.typed) {
      const Json::json_pointer pointer(key);
      for (const Json& wrong : wrong_values) {
        Json mistyped = volume.connection_info;
        if (mistyped[pointer].type() == wrong.type()) continue;
        mistyped[pointer] = wrong;
        SCOPED_TRACE(std::string(volume.name) + " with " + key + " = " + wrong.dump());
        const auto described = driver_of(mistyped).describe(mistyped);
        ASSERT_FALSE(described.has_value()) << to_json(*described);
        EXPECT_TRUE(is_error(described.error(), ErrorKind::bad_input, described.error().where, ""));
        EXPECT_TRUE(described.error().where.starts_with(key)) << described.error().where;
      }
    }
  }
}

TEST_F(DescribeTest, NamesTheKeyItNeedsWhereAllDataAreMissing) {
  const std::map<std::string, std::string> needed{{"iscsi", "device_path"}, {"fibre_channel", "device_path"},
                                                  {"local", "device_path"}, {"file", "path"},
                                                  {"nfs", "export"},        {"quobyte", "export"},
                                                  {"rbd", "name"}};
  for (const auto& [type, key] : needed) {
    SCOPED_TRACE(type);
    const Json without = {{"driver_volume_type", type}};
    const auto described = driver_of(without).describe(without);
    ASSERT_FALSE(described.has_value());
    EXPECT_TRUE(is_error(described.error(), ErrorKind::bad_input, "/data/" + key, ""));
  }
}

struct DescribeRefusal {
  const char* name;
  Json connection_info;
  const char* where;
  const char* message;
};

TEST_F(DescribeTest, RefusesWhatCannotWork) {
  Json shared_qcow2 = info("file", {{"path", "/images/v"}, {"format", "qcow2"}});
  shared_qcow2["multiattach"] = true;
  const DescribeRefusal refusals[] = {
      {"an iSCSI volume that is not connected", info("iscsi", {{"target_lun", 1}}), "/data/device_path",
       "not connected"},
      {"a relative iSCSI path", info("iscsi", {{"device_path", "sdb"}}), "/data/device_path",
       "'sdb' is no absolute path"},
      {"a relative FC path", info("fibre_channel", {{"device_path", "sdb"}}), "/data/device_path", "'sdb'"},
      {"an empty path", info("local", {{"device_path", ""}}), "/data/device_path", "'' is no absolute path"},
      {"a path with a NUL", info("file", {{"path", std::string("/a\0b", 4)}}), "/data/path", "NUL"},
      {"a relative NFS path", info("nfs", {{"device_path", "x/v"}}), "/data/device_path", "'x/v'"},
      {"an unknown image format", info("file", {{"path", "/v"}, {"format", "vmdk"}}), "/data/format", "'vmdk'"},
      {"a shared qcow2", shared_qcow2, "/multiattach", "cannot be shared"},
      {"a file above the export", info("nfs", {{"export", "nas:/e"}, {"name", "../v"}}), "/data/name", "../v"},
      {"a file elsewhere", info("quobyte", {{"export", "r/v"}, {"name", "/etc/shadow"}}), "/data/name", "/etc/shadow"},
      {"an RBD port of no type", info("rbd", {{"name", "p/v"}, {"hosts", {"m"}}, {"ports", {{{"a", 1}}}}}),
       "/data/ports/0", "expected a string or an integer"},
      {"RBD auth without any secret",
       info("rbd", {{"name", "p/v"}, {"auth_enabled", true}, {"auth_username", "u"}, {"secret_type", "ceph"}}),
       "/data/secret_uuid", "no secret_uuid"},
      {"RBD auth with another's secret",
       info("rbd", {{"name", "p/v"}, {"auth_enabled", true}, {"secret_type", "iscsi"}}), "/data/secret_type",
       "'iscsi'"},
  };
  for (const DescribeRefusal& refusal : refusals) {
    SCOPED_TRACE(refusal.name);
    const auto described = driver_of(refusal.connection_info).describe(refusal.connection_info);
    ASSERT_FALSE(described.has_value()) << to_json(*described);
    EXPECT_TRUE(is_error(described.error(), ErrorKind::bad_input, refusal.where, refusal.message));
  }
}

TEST_F(DescribeTest, OfAnUnsharedQcow2IsFine) {
  Json unshared = info("file", {{"path", "/images/v"}, {"format", "qcow2"}});
  unshared["multiattach"] = false;
  EXPECT_TRUE(driver_of(unshared).describe(unshared).has_value());
}

TEST_F(DescribeTest, MountPointsFollowTheConfiguration) {
  load({{"nfs", {{"mount_point_base", "/srv/mounts/"}}}});
  const Json nfs = info("nfs", {{"export", "nas:/export"}, {"name", "v"}});
  const auto described = driver_of(nfs).describe(nfs);
  ASSERT_TRUE(described.has_value()) << describe(described.error());
  EXPECT_EQ(described->source.path, "/srv/mounts/2b4c10925391a8bf333a66a39612b4fe/v");
}

TEST_F(DescribeTest, QuobyteMountsOneVolumeOnceHoweverItIsSpelled) {
  const Json with = info("quobyte", {{"export", "quobyte://r/v"}, {"name", "n"}});
  const Json without = info("quobyte", {{"export", "r/v"}, {"name", "n"}});
  EXPECT_EQ(to_json(driver_of(with).describe(with).value()), to_json(driver_of(without).describe(without).value()));
}

/// Which credentials an RBD volume gets, as Nova's _set_auth_config_rbd has it.
struct Credentials {
  const char* name;
  Json of_volume;
  const char* configured_user;
  const char* configured_secret;
  std::optional<SourceAuth> expected;
};

TEST_F(DescribeTest, RbdCredentialsComeFromOnePlace) {
  const Json own = {
      {"auth_enabled", true}, {"auth_username", "cinder"}, {"secret_type", "ceph"}, {"secret_uuid", "theirs"}};
  Json no_secret = own, disabled = own;
  no_secret["secret_uuid"] = nullptr;
  disabled["auth_enabled"] = false;
  const SourceAuth theirs{"cinder", "ceph", "theirs"}, ours{"nova", "ceph", "ours"};
  const Credentials table[] = {
      {"the volume's own", own, "", "", theirs},
      {"the volume's own before the configured", own, "nova", "ours", theirs},
      {"user and secret from the configuration if the secret is null", no_secret, "nova", "ours", ours},
      {"the configured if the volume has none", disabled, "nova", "ours", ours},
      {"none", disabled, "", "", std::nullopt},
      {"none if only a user is configured", disabled, "nova", "", std::nullopt},
  };
  for (const Credentials& row : table) {
    SCOPED_TRACE(row.name);
    load({{"rbd", {{"user", row.configured_user}, {"secret_uuid", row.configured_secret}}}});
    Json volume = info("rbd", row.of_volume);
    volume["data"]["name"] = "volumes/v";
    const auto described = driver_of(volume).describe(volume);
    ASSERT_TRUE(described.has_value()) << describe(described.error());
    EXPECT_EQ(to_json(*described), attachment(rbd({}, row.expected)));
  }
}

TEST_F(DescribeTest, AConfiguredRbdSecretNeedsAUser) {
  load({{"rbd", {{"secret_uuid", "ours"}}}});
  const Json volume = info("rbd", {{"name", "volumes/v"}, {"secret_type", "ceph"}});
  const auto described = driver_of(volume).describe(volume);
  ASSERT_FALSE(described.has_value());
  EXPECT_TRUE(is_error(described.error(), ErrorKind::configuration, "", "rbd.user"));
}

}  // namespace
}  // namespace aiolos::test
