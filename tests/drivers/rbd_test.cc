// SPDX-License-Identifier: Apache-2.0
// RBD: what the driver makes of qemu-img's answers and of sysfs, and what it leaves on the host and in the journal.
#include <fstream>
#include <map>
#include <set>

#include "ceph_conf.h"
#include "mapping.h"
#include "question.h"
#include "services.h"

namespace aiolos::test {
namespace {

using rbd::Image;
using testing::_;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

constexpr std::chrono::seconds kPatience{5};

Image image_with_key() {
  return {"volumes", "v", {{"mon1", "6789", "", ""}, {"mon2", "", "", ""}}, SourceAuth{"cinder", "ceph", "u-u-i-d"}};
}

// --- qemu-img's answers ---

struct Answer {
  const char* output;
  const char* text;  ///< Behind the image's options.
  ErrorKind kind;
  const char* where;
  const char* message;
};

// As QEMU 7.2 with librbd 16.2 gives them.
const Answer kAnswers[] = {
    {"", "error connecting: Permission denied", ErrorKind::configuration, "",
     "Ceph refuses client.cinder with the key of the libvirt secret u-u-i-d"},
    {"", "error connecting: Invalid argument", ErrorKind::configuration, "", "holds no cephx key for client.cinder"},
    {"", "error connecting: Operation not supported", ErrorKind::configuration, "", "holds no cephx key"},
    {"server name not found: mon2 (Temporary failure in name resolution)\n", "error connecting: Invalid argument",
     ErrorKind::configuration, "/data/hosts", "the monitor's name 'mon2' cannot be resolved"},
    {"", "error connecting: Connection timed out", ErrorKind::retry, "",
     "no Ceph monitor has answered within 5 s: mon1:6789, mon2"},
    {"", "error opening pool volumes: No such file or directory", ErrorKind::storage, "/data/name",
     "Ceph has no pool 'volumes'"},
    {"", "error reading header from v: No such file or directory", ErrorKind::storage, "/data/name",
     "pool 'volumes' has no image 'v'"},
    {"", "error reading header from v: Operation not permitted", ErrorKind::configuration, "",
     "client.cinder may not use the image volumes/v"},
    {"", "error reading header from v: Connection timed out", ErrorKind::retry, "", "OSDs have not within 5 s"},
    {"", "error reading header from v: Input/output error", ErrorKind::storage, "",
     "cannot open the image volumes/v: error reading header from v: Input/output error"},
};

CommandResult failed_with(const Answer& answer) {
  CommandResult result;
  result.status = 1;
  result.output = answer.output;
  result.errors =
      R"(qemu-img: Could not open 'json:{"driver": "rbd", "user": "cinder"}': )" + std::string(answer.text) + "\n";
  return result;
}

TEST(RbdQuestion, EachAnswerSaysWhoCanMendIt) {
  for (const Answer& answer : kAnswers) {
    SCOPED_TRACE(answer.text);
    EXPECT_TRUE(is_error(rbd::explain(image_with_key(), failed_with(answer), kPatience), answer.kind, answer.where,
                         answer.message));
  }
}

TEST(RbdQuestion, WithoutCredentialsTheVolumeIsAtFault) {
  Image image = image_with_key();
  image.auth.reset();
  const Answer answer{"", "error connecting: Operation not supported", ErrorKind::bad_input, "", ""};
  EXPECT_TRUE(is_error(rbd::explain(image, failed_with(answer), kPatience), ErrorKind::bad_input, "/data/auth_enabled",
                       "wants authentication"));
}

TEST(RbdQuestion, WithoutMonitorsTheVolumeIsAtFault) {
  Image image = image_with_key();
  image.monitors.clear();
  const Answer answer{"", "error connecting: No such file or directory", ErrorKind::bad_input, "", ""};
  EXPECT_TRUE(is_error(rbd::explain(image, failed_with(answer), kPatience), ErrorKind::bad_input, "/data/hosts",
                       "no Ceph monitor is named"));
}

// --- ceph.conf ---

TEST(RbdConf, BoundsComeLastAndForTheVeryClient) {
  rbd::CephConf own;
  own.text = "[client]\nclient_mount_timeout = 299";
  const std::string disk = rbd::bounded(own, "client.cinder", kPatience, rbd::Waits::monitors).text;
  EXPECT_TRUE(disk.starts_with(own.text + "\n"));
  EXPECT_TRUE(disk.ends_with("[client.cinder]\nclient_mount_timeout = 5\nrados_mon_op_timeout = 5\n")) << disk;
  EXPECT_THAT(rbd::bounded(own, "client.cinder", kPatience, rbd::Waits::all).text,
              HasSubstr("rados_osd_op_timeout = 5\n"));
}

TEST(RbdConf, NamedFileHasToBeThere) {
  const auto read = rbd::read_conf("/nonexistent/ceph.conf");
  ASSERT_FALSE(read.has_value());
  EXPECT_TRUE(is_error(read.error(), ErrorKind::configuration, "", "/nonexistent/ceph.conf cannot be read"));
}

// --- what the kernel has mapped ---

class RbdMappings : public testing::Test {
 protected:
  void map(const std::string& number, const std::map<std::string, std::string>& attributes) {
    std::filesystem::create_directory(folder_.path(number));
    for (const auto& [name, value] : attributes) std::ofstream(folder_.path(number + "/" + name)) << value << "\n";
  }
  void map(const std::string& number, const std::string& fsid, const std::string& monitors) {
    map(number, {{"pool", "volumes"},
                 {"name", "v"},
                 {"current_snap", "-"},
                 {"pool_ns", ""},
                 {"cluster_fsid", fsid},
                 {"config_info", monitors + " name=cinder,key=client.cinder,noudev volumes v -"}});
  }
  std::vector<rbd::Mapping> all() const { return rbd::mappings(folder_.path("")); }

  TemporaryFolder folder_;
};

TEST_F(RbdMappings, AreNoneWithoutTheModule) { EXPECT_TRUE(rbd::mappings("/nonexistent").empty()); }

TEST_F(RbdMappings, OfTwoClustersAreToldApartByTheirMonitors) {
  map("0", "fsid-a", "192.0.2.1:6789,192.0.2.2:6789");
  map("1", "fsid-b", "192.0.2.9:6789");
  EXPECT_EQ(rbd::mapping_of_image(all(), image_with_key(), {"192.0.2.9:6789"})->identity(), "fsid-b/volumes/v");
  EXPECT_EQ(rbd::mapping_of_image(all(), image_with_key(), {"192.0.2.7:6789", "192.0.2.2:6789"})->device(),
            "/dev/rbd0");
  EXPECT_FALSE(rbd::mapping_of_image(all(), image_with_key(), {"192.0.2.7:6789"}).has_value());
}

TEST_F(RbdMappings, OfSnapshotsAndNamespacesAreNoVolumes) {
  map("0",
      {{"pool", "volumes"}, {"name", "v"}, {"current_snap", "s1"}, {"config_info", "192.0.2.1:6789 o volumes v s1"}});
  map("1", {{"pool", "volumes"}, {"name", "v"}, {"current_snap", "-"}, {"pool_ns", "tenant"}});
  EXPECT_TRUE(all().empty());
}

// --- the verbs, over a cluster of one answer ---

class PaperLocks : public HostLocks {
 public:
  Result<std::unique_ptr<Held>> acquire(std::string_view, std::chrono::milliseconds) override {
    return std::make_unique<Held>();
  }
};

class PaperSecrets : public SecretStore {
 public:
  Result<std::optional<std::string>> find(std::string_view, std::string_view) override { return std::nullopt; }
  Result<Secret> value(std::string_view) override { return Secret("the key"); }
  Result<std::map<std::string, std::string, std::less<>>> list(std::string_view) override { return {}; }
};

/// One volume's holds among those of others.
class PaperJournal : public VolumeJournal {
 public:
  Result<std::int64_t> begin_effect(std::string_view what) override {
    effects.emplace_back(what);
    return 1;
  }
  Result<void> end_effect(std::int64_t) override { return {}; }
  Result<void> hold(std::string_view resource) override {
    held.emplace(resource);
    return {};
  }
  Result<void> release(std::string_view resource) override {
    held.erase(std::string(resource));
    return {};
  }
  Result<Holders> holders(std::string_view resource) override {
    return Holders{held.contains(std::string(resource)), others};
  }
  std::vector<std::string> effects;
  std::set<std::string> held;
  std::size_t others = 0;
};

class RbdVerbs : public Drivers {
 protected:
  void SetUp() override { load({{"rbd", {{"conf_dir", folder_.path("conf")}}}}); }
  void add_services(PluginServices& services) override {
    services.locks = &locks_;
    services.secrets = &secrets_;
  }

  void cluster_says(std::uint64_t size) {
    EXPECT_CALL(commands_, run(_)).WillRepeatedly([this, size](const Command& command) -> Result<CommandResult> {
      asked_ = command;
      const Json options = Json::parse(command.argv.back().substr(std::string("json:").size()));
      std::ifstream conf(options.at("conf").get<std::string>());
      conf_asked_with_.assign(std::istreambuf_iterator<char>(conf), {});
      CommandResult result;
      result.output = R"({"virtual-size": )" + std::to_string(size) + "}";
      return result;
    });
  }
  Result<Attachment> connect() { return driver_of(volume_).connect(volume_, &journal_); }
  Result<void> disconnect(const Attachment* attachment) {
    return driver_of(volume_).disconnect(volume_, attachment, false, &journal_);
  }

  const Json volume_ = {{"driver_volume_type", "rbd"},
                        {"data",
                         {{"name", "volumes/v"},
                          {"hosts", {"192.0.2.1"}},
                          {"ports", {"6789"}},
                          {"auth_enabled", true},
                          {"auth_username", "cinder"},
                          {"secret_type", "ceph"},
                          {"secret_uuid", "u-u-i-d"}}}};
  TemporaryFolder folder_;
  PaperLocks locks_;
  PaperSecrets secrets_;
  PaperJournal journal_;
  Command asked_;
  std::string conf_asked_with_;
};

TEST_F(RbdVerbs, ConnectAsksWithAllBoundsAndTheKeyOnStandardInputOnly) {
  cluster_says(kMiB);
  ASSERT_TRUE(connect().has_value());
  EXPECT_EQ(asked_.input, "dGhlIGtleQ==\n");
  for (const std::string& argument : asked_.argv) EXPECT_THAT(argument, Not(HasSubstr("dGhlIGtleQ")));
  EXPECT_THAT(conf_asked_with_, HasSubstr("rados_osd_op_timeout = 5"));
  EXPECT_LT(asked_.timeout, std::chrono::seconds(10));
}

TEST_F(RbdVerbs, ConnectGivesTheDiskAFileThatDisconnectRemoves) {
  cluster_says(kMiB);
  const auto attachment = connect();
  ASSERT_TRUE(attachment.has_value()) << describe(attachment.error());
  const std::string file = attachment->source.config_file;
  ASSERT_EQ(journal_.held.size(), 1u);
  const std::string resource = *journal_.held.begin();
  EXPECT_THAT(resource, EndsWith(file));
  EXPECT_EQ(journal_.effects, std::vector<std::string>{"write " + file});
  EXPECT_EQ(connect()->source.config_file, file) << "connect is idempotent";
  EXPECT_EQ(journal_.effects.size(), 1u);

  journal_.others = 1;
  EXPECT_TRUE(disconnect(&*attachment).has_value());
  EXPECT_TRUE(std::filesystem::exists(file)) << "another volume holds it";
  journal_.others = 0;
  EXPECT_TRUE(disconnect(&*attachment).has_value());
  EXPECT_TRUE(std::filesystem::exists(file)) << "it is not this volume's any more";
  journal_.held.insert(resource);
  EXPECT_TRUE(disconnect(nullptr).has_value());
  EXPECT_FALSE(std::filesystem::exists(file)) << "after a crash there is no attachment";
  EXPECT_TRUE(disconnect(nullptr).has_value());
}

TEST_F(RbdVerbs, DisconnectRemovesWhatWasWrittenInPart) {
  cluster_says(kMiB);
  const std::string file = connect().value().source.config_file;
  std::filesystem::rename(file, file + ".new");
  EXPECT_TRUE(disconnect(nullptr).has_value());
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path("conf")));
}

TEST_F(RbdVerbs, ExtendAsksForThePresentSizeAndNeverShrinks) {
  cluster_says(2 * kMiB);
  const Attachment attachment = driver_of(volume_).describe(volume_).value();
  EXPECT_EQ(driver_of(volume_).extend(volume_, attachment, 3 * kMiB).value(), 3 * kMiB);
  const auto shrunk = driver_of(volume_).extend(volume_, attachment, kMiB);
  ASSERT_FALSE(shrunk.has_value());
  EXPECT_TRUE(is_error(shrunk.error(), ErrorKind::refused, "", "volumes/v has 2097152 bytes"));
}

// --- mapping by the kernel, over an `rbd` that fails ---

class RbdKernelVerbs : public RbdVerbs {
 protected:
  void SetUp() override { load({{"rbd", {{"conf_dir", folder_.path("conf")}, {"client", "kernel"}}}}); }

  /// The cluster knows the image, and `rbd map` ends so.
  void map_ends_with(int status, const std::string& output, const std::string& errors) {
    EXPECT_CALL(commands_, run(_)).WillRepeatedly([=, this](const Command& command) -> Result<CommandResult> {
      CommandResult result;
      if (command.argv.front() == "rbd") {
        mapped_with_ = command;
        result.status = status;
        result.output = output;
        result.errors = errors;
      } else {
        result.output = R"({"virtual-size": 1048576})";
      }
      return result;
    });
  }

  Command mapped_with_;
};

TEST_F(RbdKernelVerbs, MapGetsTheKeyOnStandardInputOnlyAndABound) {
  map_ends_with(1, "", "rbd: map failed: (110) Connection timed out\n");
  ASSERT_FALSE(connect().has_value());
  EXPECT_EQ(mapped_with_.input, "dGhlIGtleQ==\n");
  EXPECT_THAT(mapped_with_.argv,
              testing::IsSupersetOf({"map", "volumes/v", "--id", "cinder", "--keyfile", "/dev/stdin", "-m",
                                     "192.0.2.1:6789", "--options", "noudev,mount_timeout=5"}));
  EXPECT_THAT(mapped_with_.argv, testing::Each(Not(HasSubstr("dGhlIGtleQ"))));
  EXPECT_LT(mapped_with_.timeout, std::chrono::seconds(10));
}

TEST_F(RbdKernelVerbs, FailedMapSaysWhoCanMendIt) {
  map_ends_with(1, "", "modprobe: FATAL\nrbd: failed to load rbd kernel module (1)\n");
  EXPECT_TRUE(is_error(connect().error(), ErrorKind::configuration, "", "this host's kernel has no RBD client"));
  map_ends_with(6, "feature set mismatch, my 106 < server's 206", "rbd: map failed: (6) No such device or address\n");
  EXPECT_TRUE(is_error(connect().error(), ErrorKind::configuration, "", "cannot map the image volumes/v"));
  map_ends_with(110, "", "rbd: map failed: (110) Connection timed out\n");
  EXPECT_TRUE(is_error(connect().error(), ErrorKind::storage, "", "map failed: (110) Connection timed out"));
  map_ends_with(0, "/dev/rbd0\n", "");
  EXPECT_TRUE(is_error(connect().error(), ErrorKind::storage, "", "sysfs does not show it"));
}

TEST_F(RbdKernelVerbs, DisconnectAfterAFailedMapUnmapsNothingAndHoldsNothing) {
  map_ends_with(110, "", "rbd: map failed: (110) Connection timed out\n");
  ASSERT_FALSE(connect().has_value());
  EXPECT_EQ(journal_.effects, std::vector<std::string>{"map volumes/v to a block device"});
  EXPECT_EQ(journal_.held.size(), 1u);
  mapped_with_ = {};
  ASSERT_TRUE(disconnect(nullptr).has_value());
  EXPECT_TRUE(mapped_with_.argv.empty());
  EXPECT_TRUE(journal_.held.empty());
}

}  // namespace
}  // namespace aiolos::test
