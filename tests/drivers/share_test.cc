// SPDX-License-Identifier: Apache-2.0
// Volumes on shares: what the drivers ask the host to run, what they make of its answers, and what they hold. The host
// is a small model of mounts; tests/storage has real ones.
#include "services.h"

namespace aiolos::test {
namespace {

using testing::_;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Invoke;
using testing::IsEmpty;
using testing::Return;

Json nfs(const Json& more = Json::object()) {
  Json info{{"driver_volume_type", "nfs"}, {"serial", "v"}, {"data", {{"export", "nas:/export"}, {"name", "v"}}}};
  info["data"].update(more);
  return info;
}

Json quobyte() {
  return {{"driver_volume_type", "quobyte"},
          {"serial", "v"},
          {"data", {{"export", "quobyte://registry/volume"}, {"name", "v"}}}};
}

CommandResult answer(int status, std::string output, std::string errors = {}) {
  CommandResult result;
  result.status = status;
  result.output = std::move(output);
  result.errors = std::move(errors);
  return result;
}

class ShareTest : public Drivers {
 protected:
  void SetUp() override {
    load({{"nfs", {{"mount_point_base", base_}, {"mount_options", "vers=4.2"}}},
          {"quobyte", {{"mount_point_base", base_}, {"client_cfg", "/etc/quobyte/client.cfg"}}}});
    EXPECT_CALL(mounts_, list()).WillRepeatedly(Invoke([this] { return table_; }));
    EXPECT_CALL(commands_, run(_)).WillRepeatedly(Invoke([this](const Command& command) { return host(command); }));
    EXPECT_CALL(block_devices_, probe(_, _)).WillRepeatedly(Invoke([this](const std::string& path, const std::string&) {
      StorageFacts facts = facts_of(path, Allocation::full, kMiB);
      for (const std::string& backing : backing_)
        facts.chain.push_back(facts_of(backing, Allocation::full, kMiB).chain[0]);
      return Result<StorageFacts>(facts);
    }));
  }
  /// What this host does with a command.
  Result<CommandResult> host(const Command& command) {
    EXPECT_LE(command.timeout, std::chrono::seconds(10)) << command.argv[0];
    const std::vector<std::string>& argv = command.argv;
    if (argv[0] == "stat" && argv[1] == "--file-system") return share_answer_;
    if (argv[0] == "stat" && argv[1] == "--format=%s") return answer(0, root_size_ + "\n");
    if (argv[0] == "stat") return file_answer_;
    if (argv[0] == "realpath") return answer(0, real_paths(argv));
    if (argv[0] == "systemctl") return answer(1, "offline\n");
    ran_.push_back(argv);
    if (argv[0].starts_with("mount.")) return mount(argv);
    if (argv[0] == "umount") table_.pop_back();
    return answer(0, "");
  }
  Result<CommandResult> mount(const std::vector<std::string>& argv) {
    if (mount_answer_.status != 0) return mount_answer_;
    table_.push_back(argv[0] == "mount.nfs" ? Mount{argv[1], argv[2], "nfs4", "rw"}
                                            : Mount{"quobyte@" + argv[2], argv[3], "fuse.quobyte", "rw"});
    return answer(0, "");
  }
  static std::string real_paths(const std::vector<std::string>& argv) {
    std::string paths;
    for (std::size_t i = 2; i < argv.size(); ++i) paths += argv[i] + '\0';
    return paths;
  }

  Result<Attachment> connect(const Json& volume) { return driver_of(volume).connect(volume, &journal_); }
  Result<void> disconnect(const Json& volume) {
    return driver_of(volume).disconnect(volume, nullptr, false, &journal_);
  }

  TemporaryFolder folder_;
  const std::string base_ = folder_.path("mnt");
  const std::string nfs_point_ = base_ + "/2b4c10925391a8bf333a66a39612b4fe";      // md5 of nas:/export
  const std::string quobyte_point_ = base_ + "/8d0f04ee047638d21bba6eaceea9e7b5";  // md5 of registry/volume
  std::vector<Mount> table_;
  std::vector<std::vector<std::string>> ran_;  ///< What changes mounts.
  std::vector<std::string> backing_;
  CommandResult share_answer_ = answer(0, "nfs\n");
  CommandResult mount_answer_ = answer(0, "");
  Result<CommandResult> file_answer_ = answer(0, "81a4 7\n");
  std::string root_size_ = "0";
};

// --- mounting ---

TEST_F(ShareTest, MountsHoldsUnmountsAndReleases) {
  const auto connected = connect(nfs());
  ASSERT_TRUE(connected.has_value()) << describe(connected.error());
  EXPECT_EQ(connected->source.path, nfs_point_ + "/v");
  EXPECT_THAT(ran_, ElementsAre(ElementsAre("mount.nfs", "nas:/export", nfs_point_, "-o", "vers=4.2,fg,retry=0")));
  EXPECT_EQ(journal_.held.size(), 1u);
  ASSERT_TRUE(connect(nfs()).has_value()) << "idempotent";
  EXPECT_EQ(ran_.size(), 1u);

  ASSERT_TRUE(disconnect(nfs()).has_value());
  EXPECT_THAT(table_, IsEmpty());
  EXPECT_THAT(journal_.held, IsEmpty());
  EXPECT_THAT(journal_.unfinished, IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(nfs_point_));
  EXPECT_TRUE(disconnect(nfs()).has_value()) << "idempotent";
  EXPECT_THAT(journal_.effects,
              ElementsAre("make the folder " + nfs_point_, "mount nas:/export at " + nfs_point_,
                          "unmount nas:/export from " + nfs_point_, "remove the folder " + nfs_point_));
}

TEST_F(ShareTest, LeavesTheMountToOthersThatHoldIt) {
  ASSERT_TRUE(connect(nfs()).has_value());
  journal_.others = 1;
  ASSERT_TRUE(disconnect(nfs()).has_value());
  EXPECT_EQ(table_.size(), 1u);
  EXPECT_THAT(journal_.held, IsEmpty());
}

TEST_F(ShareTest, JoinsAMountThatOthersHold) {
  table_ = {{"nas:/export", nfs_point_, "nfs4", "rw"}};
  journal_.others = 1;
  ASSERT_TRUE(connect(nfs()).has_value());
  EXPECT_EQ(journal_.held.size(), 1u);
  EXPECT_THAT(ran_, IsEmpty());
}

TEST_F(ShareTest, UsesAMountThatWasThereAndNeverUnmountsIt) {
  table_ = {{"nas:/export/", nfs_point_, "nfs", "rw"}};
  ASSERT_TRUE(connect(nfs()).has_value());
  EXPECT_THAT(journal_.held, IsEmpty());
  ASSERT_TRUE(disconnect(nfs()).has_value());
  EXPECT_EQ(table_.size(), 1u);
}

TEST_F(ShareTest, RefusesAnotherMountInItsPlace) {
  const Mount others[] = {{"nas:/other", nfs_point_, "nfs4", "rw"}, {"nas:/export", nfs_point_, "tmpfs", "rw"}};
  for (const Mount& other : others) {
    table_ = {{"nas:/export", nfs_point_, "nfs4", "rw"}, other};  // the one on top counts
    const auto connected = connect(nfs());
    ASSERT_FALSE(connected.has_value());
    EXPECT_TRUE(is_error(connected.error(), ErrorKind::refused, "", other.source));
  }
}

struct Options {
  Json of_volume;
  const char* given;  // nullptr: refused
};

TEST_F(ShareTest, NfsTakesOptionsAsCinderGivesThemAndNothingElse) {
  const Options table[] = {{nullptr, "vers=4.2,fg,retry=0"},
                           {"-o vers=4.1,noac", "vers=4.1,noac,fg,retry=0"},
                           {"-onfsvers=3", "nfsvers=3,fg,retry=0"},
                           {"bg,v4.0,retry=9", "bg,v4.0,fg,retry=0"},
                           {"-o a  -o b", "vers=4.2,a,b,fg,retry=0"},
                           {"--move /", nullptr},
                           {"-f", nullptr}};
  for (const Options& row : table) {
    SCOPED_TRACE(row.of_volume.dump());
    table_.clear();
    ran_.clear();
    const auto connected = connect(nfs({{"options", row.of_volume}}));
    if (row.given == nullptr) {
      ASSERT_FALSE(connected.has_value());
      EXPECT_TRUE(is_error(connected.error(), ErrorKind::bad_input, "/data/options", "no option"));
    } else {
      ASSERT_TRUE(connected.has_value()) << describe(connected.error());
      EXPECT_EQ(ran_.back().back(), row.given);
    }
  }
}

TEST_F(ShareTest, NfsIsVersion4UnlessAnotherIsAskedFor) {
  load({{"nfs", {{"mount_point_base", base_}}}});
  ASSERT_TRUE(connect(nfs({{"options", nullptr}})).has_value());
  EXPECT_EQ(ran_.back().back(), "vers=4,fg,retry=0");
  table_.clear();
  ASSERT_TRUE(connect(nfs({{"options", "-o vers=3"}})).has_value());
  EXPECT_EQ(ran_.back().back(), "vers=3,fg,retry=0");
}

struct Complaint {
  const char* says;
  ErrorKind kind;
  const char* message;
};

TEST_F(ShareTest, NfsExplainsWhyAMountFailed) {
  const Complaint table[] = {
      {"mount.nfs: mounting nas:/export failed, reason given by server: No such file or directory\n",
       ErrorKind::storage, "no such path"},
      {"mount.nfs: access denied by server while mounting nas:/export\n", ErrorKind::storage, "does not export"},
      {"mount.nfs: Connection refused\n", ErrorKind::retry, "no NFS server listens"},
      {"mount.nfs: Connection timed out\n", ErrorKind::retry, "does not answer"},
      {"mount.nfs: Failed to resolve server nas: Name or service not known\n", ErrorKind::retry, "does not resolve"},
      {"mount.nfs: an incorrect mount option was specified\n", ErrorKind::configuration, "option is wrong"},
      {"mount.nfs: something new\n", ErrorKind::storage, "something new"}};
  for (const Complaint& row : table) {
    mount_answer_ = answer(32, "", row.says);
    const auto connected = connect(nfs());
    ASSERT_FALSE(connected.has_value());
    EXPECT_TRUE(is_error(connected.error(), row.kind, "/data/export", row.message));
    EXPECT_THAT(connected.error().message, HasSubstr("nas:/export"));
    EXPECT_EQ(journal_.unfinished.size(), 1u) << "it may have happened in part";
    ASSERT_TRUE(disconnect(nfs()).has_value());
    EXPECT_FALSE(std::filesystem::exists(nfs_point_));
    journal_ = {};
  }
}

// --- mounts that do not answer ---

TEST_F(ShareTest, ReplacesAStaleMountThatNobodyUses) {
  table_ = {{"nas:/export", nfs_point_, "nfs4", "rw"}};
  EXPECT_CALL(commands_, run(_)).WillRepeatedly(Invoke([this](const Command& command) -> Result<CommandResult> {
    const bool asks = command.argv[0] == "stat" && command.argv[1] == "--file-system";
    if (asks && ran_.empty())
      return answer(1, "", "stat: cannot read file system information for 'x': Stale file handle\n");
    return host(command);
  }));
  const auto connected = connect(nfs());
  ASSERT_TRUE(connected.has_value()) << describe(connected.error());
  ASSERT_EQ(ran_.size(), 2u);
  EXPECT_THAT(ran_[0], ElementsAre("umount", "--lazy", "--internal-only", "--no-canonicalize", nfs_point_));
  EXPECT_EQ(journal_.held.size(), 1u) << "the new mount is ours";
}

TEST_F(ShareTest, LeavesAStaleMountThatOthersHold) {
  table_ = {{"nas:/export", nfs_point_, "nfs4", "rw"}};
  journal_.others = 2;
  share_answer_ = answer(1, "", "stat: cannot read file system information for 'x': Stale file handle\n");
  const auto connected = connect(nfs());
  ASSERT_FALSE(connected.has_value());
  EXPECT_TRUE(is_error(connected.error(), ErrorKind::retry, "", "Stale file handle, and 2 other volumes"));
  EXPECT_THAT(ran_, IsEmpty());
}

TEST_F(ShareTest, TakesADeadMountAwayLazilyWithItsLastUser) {
  ASSERT_TRUE(connect(nfs()).has_value());
  share_answer_ = answer(1, "", "stat: Transport endpoint is not connected\n");
  ASSERT_TRUE(disconnect(nfs()).has_value());
  EXPECT_THAT(ran_.back(), ElementsAre("umount", "--lazy", "--internal-only", "--no-canonicalize", nfs_point_));
}

TEST_F(ShareTest, AMountThatIsGoneIsGoneEvenIfTheCallWaitsForItsServer) {
  ASSERT_TRUE(connect(nfs()).has_value());
  share_answer_ = answer(1, "", "stat: Transport endpoint is not connected\n");
  EXPECT_CALL(commands_, run(_)).WillRepeatedly(Invoke([this](const Command& command) -> Result<CommandResult> {
    if (command.argv[0] != "umount") return host(command);
    table_.pop_back();
    return fail(ErrorKind::retry, "umount did not end within 5 s", "try again");
  }));
  const auto gone = disconnect(nfs());
  EXPECT_TRUE(gone.has_value()) << describe(gone.error());
  EXPECT_THAT(journal_.held, IsEmpty());
}

TEST_F(ShareTest, AMountThatStaysThoughItIsUnmountedLazilyIsAnError) {
  ASSERT_TRUE(connect(nfs()).has_value());
  share_answer_ = answer(1, "", "stat: Transport endpoint is not connected\n");
  EXPECT_CALL(commands_, run(_)).WillRepeatedly(Invoke([this](const Command& command) -> Result<CommandResult> {
    if (command.argv[0] != "umount") return host(command);
    return fail(ErrorKind::retry, "umount did not end within 5 s", "try again");
  }));
  EXPECT_TRUE(is_error(disconnect(nfs()).error(), ErrorKind::retry, "", "cannot be unmounted"));
}

// --- the file ---

TEST_F(ShareTest, RefusesWhatIsNoFileOfTheShare) {
  file_answer_ = answer(1, "", "stat: cannot statx 'x': No such file or directory\n");
  EXPECT_TRUE(is_error(connect(nfs()).error(), ErrorKind::storage, "/data/name", "No such file"));
  file_answer_ = answer(0, "41ed 2\n");
  EXPECT_TRUE(is_error(connect(nfs()).error(), ErrorKind::bad_input, "/data/name", "no regular file"));
  file_answer_ = answer(0, "81a4 7\n");
  backing_ = {nfs_point_ + "/base", "/etc/shadow"};
  EXPECT_TRUE(is_error(connect(nfs()).error(), ErrorKind::refused, "/data/name", "/etc/shadow"));
  backing_.pop_back();
  EXPECT_TRUE(connect(nfs()).has_value());
  EXPECT_TRUE(is_error(connect(nfs({{"format", "vmdk"}})).error(), ErrorKind::bad_input, "/data/format", "vmdk"));
}

TEST_F(ShareTest, VerifyTellsTheFileAndTheMountFromOthers) {
  Driver& driver = driver_of(nfs());
  const Attachment connected = connect(nfs()).value();
  EXPECT_TRUE(driver.verify(nfs(), connected).has_value());
  file_answer_ = answer(0, "81a4 8\n");
  EXPECT_TRUE(is_error(driver.verify(nfs(), connected).error(), ErrorKind::refused, "", "inode 8"));
  file_answer_ = fail(ErrorKind::retry, "stat did not end within 5 s", "try again");
  EXPECT_TRUE(is_error(driver.verify(nfs(), connected).error(), ErrorKind::retry, "", "nas:/export"));
  table_[0].source = "nas:/other";
  EXPECT_TRUE(is_error(driver.verify(nfs(), connected).error(), ErrorKind::refused, "", "nas:/other"));
  table_.clear();
  EXPECT_TRUE(is_error(driver.verify(nfs(), connected).error(), ErrorKind::refused, "", "where nothing is"));
  EXPECT_TRUE(driver.verify(nfs(), driver.describe(nfs()).value()).has_value()) << "not connected by Aiolos";
}

TEST_F(ShareTest, TargetIsTheFile) {
  EXPECT_THAT(driver_of(nfs()).target(nfs()).value().value_or(""), testing::EndsWith("nas:/export/v"));
}

// --- Quobyte ---

TEST_F(ShareTest, QuobyteIsMountedAndValidatedAsByNova) {
  const auto connected = connect(quobyte());
  ASSERT_TRUE(connected.has_value()) << describe(connected.error());
  EXPECT_THAT(ran_, ElementsAre(ElementsAre("mount.quobyte", "--disable-xattrs", "registry/volume", quobyte_point_,
                                            "-c", "/etc/quobyte/client.cfg")));
  file_answer_ = answer(0, "81a4 8\n");
  EXPECT_TRUE(driver_of(quobyte()).verify(quobyte(), *connected).has_value()) << "FUSE numbers files anew";
}

TEST_F(ShareTest, QuobyteThatFailsValidationFailsToConnect) {
  root_size_ = "4096";
  EXPECT_TRUE(is_error(connect(quobyte()).error(), ErrorKind::storage, "/data/export", "size 4096 instead of 0"));
  ASSERT_TRUE(disconnect(quobyte()).has_value());
  EXPECT_THAT(table_, IsEmpty());
}

TEST_F(ShareTest, QuobyteKnowsItsMountsBySourceOrType) {
  struct Row {
    Mount mount;
    bool is_it;
  };
  const Row table[] = {{{"quobyte@other.registry/volume", quobyte_point_, "fuse", "rw"}, true},
                       {{"any", quobyte_point_, "fuse.quobyte", "rw"}, true},
                       {{"quobyte@registry/", quobyte_point_, "fuse.quobyte", "rw"}, true},
                       {{"quobyte@registry/other", quobyte_point_, "fuse.quobyte", "rw"}, false},
                       {{"registry/volume", quobyte_point_, "fuse", "rw"}, false}};
  for (const Row& row : table) {
    table_ = {row.mount};
    const auto connected = connect(quobyte());
    EXPECT_EQ(connected.has_value(), row.is_it) << row.mount.source << " of type " << row.mount.fstype;
    EXPECT_THAT(ran_, IsEmpty());
  }
}

}  // namespace
}  // namespace aiolos::test
