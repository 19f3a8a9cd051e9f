// SPDX-License-Identifier: Apache-2.0
// The local driver's verbs on real files and devices of a temporary folder. The host's probe is mocked, and what the
// driver asks the host to run is run for real where a test looks at what it did.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "loop_device.h"
#include "services.h"

namespace aiolos::test {
namespace {

using testing::_;
using testing::Field;
using testing::Invoke;
using testing::Return;

Json image(const std::string& path, const std::string& format = "raw") {
  return {{"driver_volume_type", "file"}, {"serial", "v"}, {"data", {{"path", path}, {"format", format}}}};
}

Json device(const std::string& path) {
  return {{"driver_volume_type", "local"}, {"serial", "v"}, {"data", {{"device_path", path}}}};
}

class LocalTest : public Drivers {
 protected:
  void load_preallocating() { load({{"images", {{"preallocate", "space"}}}}); }
  void probe_gives(const std::string& path, const std::string& format, Allocation allocation, std::uint64_t size) {
    EXPECT_CALL(block_devices_, probe(path, format)).WillRepeatedly(Return(facts_of(path, allocation, size)));
  }
  /// The host's word on whatever is not a volume. The driver's own is to be shown.
  void probe_fails() {
    EXPECT_CALL(block_devices_, probe(_, _))
        .WillRepeatedly(Return(fail(ErrorKind::storage, "the probe's own words", "ask the host")));
  }
  void run_commands_for_real() { EXPECT_CALL(commands_, run(_)).WillRepeatedly(Invoke(run_for_real)); }
  Attachment describe_it(const Json& volume) { return driver_of(volume).describe(volume).value(); }

  TemporaryFolder folder_;
};

// --- connect ---

TEST_F(LocalTest, ConnectOfAnImageGivesWhatDescribeGivesAndTouchesNothing) {
  const Json volume = image(folder_.sparse_file("v.img", kMiB));
  probe_gives(volume["data"]["path"], "raw", Allocation::sparse, kMiB);
  for (int time = 0; time < 2; ++time) {  // idempotent
    const auto connected = driver_of(volume).connect(volume, &journal_);
    ASSERT_TRUE(connected.has_value()) << describe(connected.error());
    EXPECT_EQ(to_json(*connected), to_json(describe_it(volume)));
  }
  EXPECT_EQ(allocated_bytes(volume["data"]["path"]), 0u);
}

TEST_F(LocalTest, ConnectOfADeviceGivesItsPath) {
  const LoopDevice loop(folder_.sparse_file("disk", kMiB));
  if (loop.path().empty()) GTEST_SKIP() << "no loop devices on this machine";
  const Json volume = device(loop.path());
  probe_gives(loop.path(), "raw", Allocation::full, kMiB);
  const auto connected = driver_of(volume).connect(volume, &journal_);
  ASSERT_TRUE(connected.has_value()) << describe(connected.error());
  EXPECT_EQ(connected->source.kind, SourceKind::block);
  EXPECT_EQ(connected->source.path, loop.path());
  EXPECT_EQ(connected->format, "raw");
}

TEST_F(LocalTest, ConnectOfAReadOnlyDeviceNeedsReadOnlyAccess) {
  const LoopDevice loop(folder_.sparse_file("disk", kMiB), "--read-only");
  if (loop.path().empty()) GTEST_SKIP() << "no loop devices on this machine";
  Json volume = device(loop.path());
  probe_gives(loop.path(), "raw", Allocation::full, kMiB);
  const auto writable = driver_of(volume).connect(volume, &journal_);
  ASSERT_FALSE(writable.has_value());
  EXPECT_TRUE(is_error(writable.error(), ErrorKind::storage, "/data/device_path", "read-only"));
  volume["data"]["access_mode"] = "ro";
  EXPECT_TRUE(driver_of(volume).connect(volume, &journal_).has_value());
}

TEST_F(LocalTest, ConnectOfAQcow2AsksTheHostWhetherItIsOne) {
  const Json volume = image(folder_.sparse_file("v.qcow2", kMiB), "qcow2");
  const std::string path = volume["data"]["path"];
  EXPECT_CALL(block_devices_, probe(path, "qcow2"))
      .WillOnce(Return(fail(ErrorKind::bad_input, path + " is no qcow2 image", "give its real format")))
      .WillOnce(Return(facts_of(path, Allocation::sparse, kMiB)));
  const auto wrong = driver_of(volume).connect(volume, &journal_);
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(wrong.error().message, path + " is no qcow2 image");
  EXPECT_TRUE(driver_of(volume).connect(volume, &journal_).has_value());
}

TEST_F(LocalTest, VolumeThatDoesNotAnswerIsNotTouchedOnceTheProbeHasGivenUp) {
  // Were one of these paths looked at, the error would be another: there is nothing.
  const Json raw = image("/dead/v.img"), qcow2 = image("/dead/v.qcow2", "qcow2"), dev = device("/dead/disk");
  EXPECT_CALL(block_devices_, probe(_, _))
      .WillRepeatedly(Return(fail(ErrorKind::retry, "looking at it did not end within 10000 ms", "check its server")));
  for (const Json& volume : {raw, qcow2, dev}) {
    SCOPED_TRACE(volume.dump());
    const auto connected = driver_of(volume).connect(volume, &journal_);
    ASSERT_FALSE(connected.has_value());
    EXPECT_TRUE(is_error(connected.error(), ErrorKind::retry, "", "did not end"));
    const auto extended = driver_of(volume).extend(volume, describe_it(volume), kMiB, &journal_);
    ASSERT_FALSE(extended.has_value());
    EXPECT_TRUE(is_error(extended.error(), ErrorKind::retry, "", "did not end"));
  }
}

TEST_F(LocalTest, ConnectFailsWhereTheProbeOfAGoodFileDoes) {
  const Json volume = image(folder_.sparse_file("v.img", kMiB));
  probe_fails();
  const auto connected = driver_of(volume).connect(volume, &journal_);
  ASSERT_FALSE(connected.has_value());
  EXPECT_TRUE(is_error(connected.error(), ErrorKind::storage, "", "the probe's own words"));
}

struct ConnectRefusal {
  const char* name;
  Json volume;
  ErrorKind kind;
  const char* where;
  const char* message;
  const char* next;
};

TEST_F(LocalTest, ConnectRefusesWhatIsNotTheVolume) {
  const std::string file = folder_.sparse_file("v.img", kMiB);
  const std::string fifo = folder_.path("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const std::string dangling = folder_.path("dangling");
  std::filesystem::create_symlink(folder_.path("gone"), dangling);
  const ConnectRefusal table[] = {
      {"an image that is not there", image(folder_.path("gone")), ErrorKind::storage, "/data/path", "No such file",
       "exist"},
      {"a link to nowhere", image(dangling), ErrorKind::storage, "/data/path", "No such file", "exist"},
      {"a path through a file", image(file + "/x"), ErrorKind::storage, "/data/path", "Not a directory",
       "check the path"},
      {"a directory as an image", image(folder_.path("")), ErrorKind::bad_input, "/data/path", "is a directory",
       "image"},
      {"a FIFO as an image", image(fifo), ErrorKind::bad_input, "/data/path", "is a FIFO", "image"},
      {"a device that is not there", device("/dev/aiolos-gone"), ErrorKind::storage, "/data/device_path",
       "No such file", ""},
      {"a file as a device", device(file), ErrorKind::bad_input, "/data/device_path", "is a regular file", "\"file\""},
      {"a character device", device("/dev/null"), ErrorKind::bad_input, "/data/device_path", "is a character device",
       ""},
      {"a directory as a device", device("/dev"), ErrorKind::bad_input, "/data/device_path", "is a directory", ""},
  };
  probe_fails();
  for (const ConnectRefusal& row : table) {
    SCOPED_TRACE(row.name);
    const auto connected = driver_of(row.volume).connect(row.volume, &journal_);
    ASSERT_FALSE(connected.has_value());
    EXPECT_TRUE(is_error(connected.error(), row.kind, row.where, row.message));
    EXPECT_NE(connected.error().next.find(row.next), std::string::npos) << connected.error().next;
  }
}

TEST_F(LocalTest, ConnectOfADeviceAsAnImageNamesTheOtherType) {
  const LoopDevice loop(folder_.sparse_file("disk", kMiB));
  if (loop.path().empty()) GTEST_SKIP() << "no loop devices on this machine";
  const Json volume = image(loop.path());
  probe_gives(loop.path(), "raw", Allocation::full, kMiB);
  const auto connected = driver_of(volume).connect(volume, &journal_);
  ASSERT_FALSE(connected.has_value());
  EXPECT_TRUE(is_error(connected.error(), ErrorKind::bad_input, "/data/path", "is a block device"));
  EXPECT_NE(connected.error().next.find("\"local\""), std::string::npos);
}

// --- preallocation ---

TEST_F(LocalTest, ConnectPreallocatesASparseRawImageIfAskedTo) {
  load_preallocating();
  const Json volume = image(folder_.sparse_file("v.img", 4 * kMiB));
  const std::string path = volume["data"]["path"];
  probe_gives(path, "raw", Allocation::sparse, 4 * kMiB);
  const std::vector<std::string> as_nova{"fallocate", "-n", "-l", std::to_string(4 * kMiB), path};
  EXPECT_CALL(commands_, run(Field(&Command::argv, as_nova))).WillOnce(Invoke(run_for_real));
  const auto connected = driver_of(volume).connect(volume, &journal_);
  ASSERT_TRUE(connected.has_value()) << describe(connected.error());
  EXPECT_GE(allocated_bytes(path), 4 * kMiB);
  EXPECT_EQ(std::filesystem::file_size(path), 4 * kMiB);
}

TEST_F(LocalTest, ConnectLeavesAloneWhatIsFullOrQcow2OrReadOnly) {
  load_preallocating();
  const std::string path = folder_.sparse_file("v.img", kMiB);
  probe_gives(path, "raw", Allocation::full, kMiB);
  EXPECT_TRUE(driver_of(image(path)).connect(image(path), &journal_).has_value());

  const std::string qcow2 = folder_.sparse_file("v.qcow2", kMiB);
  probe_gives(qcow2, "qcow2", Allocation::sparse, kMiB);
  EXPECT_TRUE(driver_of(image(qcow2, "qcow2")).connect(image(qcow2, "qcow2"), &journal_).has_value());

  Json read_only = image(folder_.sparse_file("ro.img", kMiB));
  probe_gives(read_only["data"]["path"], "raw", Allocation::sparse, kMiB);
  read_only["data"]["access_mode"] = "ro";
  EXPECT_TRUE(driver_of(read_only).connect(read_only, &journal_).has_value());
}

TEST_F(LocalTest, ConnectWarnsWhereTheFileSystemCannotPreallocate) {
  load_preallocating();
  const Json volume = image(folder_.sparse_file("v.img", kMiB));
  probe_gives(volume["data"]["path"], "raw", Allocation::sparse, kMiB);
  CommandResult unsupported;
  unsupported.status = 1;
  unsupported.errors = "fallocate: fallocate failed: Operation not supported\n";
  EXPECT_CALL(commands_, run(_)).WillOnce(Return(unsupported));
  EXPECT_TRUE(driver_of(volume).connect(volume, &journal_).has_value());
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_NE(warnings_[0].find("Operation not supported"), std::string::npos) << warnings_[0];
}

TEST_F(LocalTest, ConnectTakesNothingFromAFileSystemWithoutTheRoom) {
  load_preallocating();
  constexpr std::uint64_t kMoreThanThereIs = std::uint64_t{1} << 43;  // 8 TiB
  const Json volume = image(folder_.path("v.img"));
  const std::string path = volume["data"]["path"];
  std::ofstream(path).close();
  std::error_code error;
  std::filesystem::resize_file(path, kMoreThanThereIs, error);
  if (error || std::filesystem::space(path).available > kMoreThanThereIs)
    GTEST_SKIP() << "cannot be tried on this file system";
  probe_gives(path, "raw", Allocation::sparse, kMoreThanThereIs);
  const auto connected = driver_of(volume).connect(volume, &journal_);
  ASSERT_FALSE(connected.has_value());
  EXPECT_TRUE(is_error(connected.error(), ErrorKind::storage, "", "bytes more"));
  EXPECT_NE(connected.error().next.find("images.preallocate"), std::string::npos) << connected.error().next;
  EXPECT_EQ(allocated_bytes(path), 0u);
}

// --- logical volumes: what LVM is asked for. That it does it is for tests/storage/test_local.py. ---

class LogicalVolumeTest : public LocalTest {
 protected:
  /// LVM knows of the volume that it is inactive, or says `complaint`.
  void lvm_answers(const std::string& complaint = {}) {
    EXPECT_CALL(commands_, run(_)).WillRepeatedly([this, complaint](const Command& command) -> Result<CommandResult> {
      std::string line;
      for (const std::string& argument : command.argv) line += (line.empty() ? "" : " ") + argument;
      lines_.push_back(line);
      return complaint.empty() ? CommandResult{0, "   \n", "", {}} : CommandResult{5, "", complaint, {}};
    });
  }
  std::vector<std::string> lines_;
};

TEST_F(LogicalVolumeTest, AnInactiveOneIsActivatedAndHeld) {
  lvm_answers();
  const Json volume = device("/dev/no-such-group/volume");
  const auto connected = driver_of(volume).connect(volume, &journal_);
  ASSERT_FALSE(connected.has_value()) << "no device appears: that is an error of its own";
  EXPECT_TRUE(is_error(connected.error(), ErrorKind::storage, "/data/device_path",
                       "no-such-group/volume is active, but there is no /dev/no-such-group/volume"));
  EXPECT_EQ(lines_,
            (std::vector<std::string>{"lvs --noheadings --options lv_active,lv_device_open no-such-group/volume",
                                      "lvchange --activate y --ignoreactivationskip no-such-group/volume"}));
  EXPECT_EQ(journal_.effects, std::vector<std::string>{"activate logical volume no-such-group/volume"});
  EXPECT_EQ(journal_.held, std::set<std::string>{"local: active logical volume no-such-group/volume"});
}

TEST_F(LogicalVolumeTest, OneThatLvmDoesNotHaveIsAnError) {
  lvm_answers("  Failed to find logical volume \"no-such-group/volume\"\n");
  const Json volume = device("/dev/no-such-group/volume");
  EXPECT_TRUE(is_error(driver_of(volume).connect(volume, &journal_).error(), ErrorKind::storage, "/data/device_path",
                       "there is no logical volume no-such-group/volume"));
  EXPECT_TRUE(journal_.effects.empty());
  EXPECT_TRUE(journal_.held.empty());
}

TEST_F(LogicalVolumeTest, MapperNamesDoubleTheDashesOfNames) {
  lvm_answers();
  const Json volume = device("/dev/mapper/no--such--group-my--volume");
  EXPECT_FALSE(driver_of(volume).connect(volume, &journal_).has_value());
  ASSERT_FALSE(lines_.empty());
  EXPECT_TRUE(lines_.front().ends_with(" no-such-group/my-volume")) << lines_.front();
}

TEST_F(LogicalVolumeTest, OtherPathsAreNoneOfLvms) {
  for (const char* path : {"/dev/no-such-disk", "/dev/mapper/36001405", "/dev/mapper/vg-pool-tdata", "/dev/disk/by-id",
                           "/dev/vg/a/b", "/dev/vg/..", "/dev/-vg/lv", "/srv/vg/lv"}) {
    const Json volume = device(path);
    probe_fails();
    EXPECT_FALSE(driver_of(volume).connect(volume, &journal_).has_value()) << path;
    EXPECT_TRUE(driver_of(volume).disconnect(volume, nullptr, false, &journal_).has_value()) << path;
  }
}

TEST_F(LogicalVolumeTest, OnlyWhatIsHeldIsDeactivated) {
  const Json volume = device("/dev/no-such-group/volume");
  EXPECT_TRUE(driver_of(volume).disconnect(volume, nullptr, false, &journal_).has_value()) << "nothing is asked";
  ASSERT_TRUE(journal_.hold("local: active logical volume no-such-group/volume").has_value());
  EXPECT_CALL(commands_, run(_)).WillOnce(Return(CommandResult{0, "  active open\n", "", {}}));
  EXPECT_TRUE(driver_of(volume).disconnect(volume, nullptr, false, &journal_).has_value());
  EXPECT_EQ(warnings_,
            std::vector<std::string>{"logical volume no-such-group/volume stays active: somebody has it open"});
  EXPECT_TRUE(journal_.effects.empty());
  EXPECT_TRUE(journal_.held.empty());
}

// --- disconnect ---

TEST_F(LocalTest, DisconnectOfWhatIsGoneIsSuccess) {
  const Json volume = image(folder_.path("gone.img"));
  Driver& driver = driver_of(volume);
  const Attachment attachment = describe_it(volume);
  EXPECT_TRUE(driver.disconnect(volume, &attachment, false).has_value());
  EXPECT_TRUE(driver.disconnect(volume, nullptr, false).has_value()) << "after a crash there is no attachment";
  EXPECT_TRUE(driver.disconnect(volume, &attachment, true).has_value());
}

// --- target ---

TEST_F(LocalTest, TargetIsOneForAllSpellingsOfAPathAndTouchesNothing) {
  const Json volume = image("/gone/v.img"), roundabout = image("/gone/x/.././/v.img"), other = image("/gone/x/v.img");
  const auto target = driver_of(volume).target(volume);
  ASSERT_TRUE(target.has_value()) << describe(target.error());
  EXPECT_THAT(target->value_or(""), testing::EndsWith("/gone/v.img"));
  EXPECT_EQ(driver_of(roundabout).target(roundabout).value(), *target);
  EXPECT_NE(driver_of(other).target(other).value(), *target);
}

// --- extend ---

TEST_F(LocalTest, ExtendKeepsAFullRawImageFull) {
  const Json volume = image(folder_.path("v.img"));
  const std::string path = volume["data"]["path"];
  std::ofstream(path) << std::string(kMiB, 'x');
  probe_gives(path, "raw", Allocation::full, kMiB);
  run_commands_for_real();
  EXPECT_EQ(driver_of(volume).extend(volume, describe_it(volume), 3 * kMiB, &journal_).value(), 3 * kMiB);
  EXPECT_EQ(std::filesystem::file_size(path), 3 * kMiB);
  EXPECT_GE(allocated_bytes(path), 3 * kMiB);
}

TEST_F(LocalTest, ExtendKeepsASparseRawImageSparse) {
  const Json volume = image(folder_.sparse_file("v.img", kMiB));
  const std::string path = volume["data"]["path"];
  probe_gives(path, "raw", Allocation::sparse, kMiB);
  run_commands_for_real();
  EXPECT_EQ(driver_of(volume).extend(volume, describe_it(volume), 8 * kMiB, &journal_).value(), 8 * kMiB);
  EXPECT_EQ(std::filesystem::file_size(path), 8 * kMiB);
  EXPECT_EQ(allocated_bytes(path), 0u);
}

TEST_F(LocalTest, ExtendToThePresentSizeIsSuccess) {
  const Json volume = image(folder_.sparse_file("v.img", kMiB));
  probe_gives(volume["data"]["path"], "raw", Allocation::sparse, kMiB);
  EXPECT_EQ(driver_of(volume).extend(volume, describe_it(volume), kMiB, &journal_).value(), kMiB);
}

TEST_F(LocalTest, ExtendLeavesAQcow2ToTheQemuThatHasItOpen) {
  const Json volume = image(folder_.sparse_file("v.qcow2", kMiB), "qcow2");
  probe_gives(volume["data"]["path"], "qcow2", Allocation::sparse, 4 * kMiB);
  EXPECT_EQ(driver_of(volume).extend(volume, describe_it(volume), 8 * kMiB, &journal_).value(), 8 * kMiB);
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(LocalTest, ExtendRefusesAFullQcow2WhichWouldNotStayFull) {
  const Json volume = image(folder_.sparse_file("v.qcow2", kMiB), "qcow2");
  probe_gives(volume["data"]["path"], "qcow2", Allocation::full, 4 * kMiB);
  const auto grown = driver_of(volume).extend(volume, describe_it(volume), 8 * kMiB, &journal_);
  ASSERT_FALSE(grown.has_value());
  EXPECT_TRUE(is_error(grown.error(), ErrorKind::refused, "", "fully allocated"));
  EXPECT_NE(grown.error().next.find("qemu-img resize"), std::string::npos) << grown.error().next;
  EXPECT_EQ(driver_of(volume).extend(volume, describe_it(volume), 4 * kMiB, &journal_).value(), 4 * kMiB)
      << "the present size";
}

TEST_F(LocalTest, ExtendOfAFullRawImageTakesNothingWithoutTheRoom) {
  const Json volume = image(folder_.sparse_file("v.img", kMiB));
  const std::string path = volume["data"]["path"];
  probe_gives(path, "raw", Allocation::full, kMiB);
  const auto grown =
      driver_of(volume).extend(volume, describe_it(volume), std::uint64_t{1} << 60, &journal_);  // an exbibyte
  ASSERT_FALSE(grown.has_value());
  EXPECT_TRUE(is_error(grown.error(), ErrorKind::storage, "", "bytes more"));
  EXPECT_EQ(grown.error().next.find("preallocate"), std::string::npos) << grown.error().next;
  EXPECT_EQ(std::filesystem::file_size(path), kMiB);
}

TEST_F(LocalTest, ExtendOfADeviceGivesTheSizeItHas) {
  const Json volume = device("/dev/vg0/v");
  const Attachment attachment = describe_it(volume);
  probe_gives("/dev/vg0/v", "raw", Allocation::full, 4 * kMiB);
  EXPECT_EQ(driver_of(volume).extend(volume, attachment, 4 * kMiB, &journal_).value(), 4 * kMiB);
  EXPECT_EQ(driver_of(volume).extend(volume, attachment, 2 * kMiB, &journal_).value(), 4 * kMiB) << "rounded up by LVM";
  const auto smaller = driver_of(volume).extend(volume, attachment, 8 * kMiB, &journal_);
  ASSERT_FALSE(smaller.has_value());
  EXPECT_TRUE(is_error(smaller.error(), ErrorKind::storage, "", "less than the 8388608 asked for"));
}

TEST_F(LocalTest, ExtendRefusesSizesThatCannotBe) {
  const Json raw = image(folder_.sparse_file("v.img", kMiB));
  const Json qcow2 = image(folder_.sparse_file("v.qcow2", kMiB), "qcow2");
  probe_gives(raw["data"]["path"], "raw", Allocation::sparse, kMiB);
  probe_gives(qcow2["data"]["path"], "qcow2", Allocation::sparse, kMiB);
  for (const Json& volume : {raw, qcow2}) {
    SCOPED_TRACE(volume.dump());
    const Attachment attachment = describe_it(volume);
    const auto odd = driver_of(volume).extend(volume, attachment, 2 * kMiB + 100, &journal_);
    ASSERT_FALSE(odd.has_value());
    EXPECT_TRUE(is_error(odd.error(), ErrorKind::bad_input, "", "multiple of 512"));
    const auto nothing = driver_of(volume).extend(volume, attachment, 0, &journal_);
    ASSERT_FALSE(nothing.has_value());
    EXPECT_TRUE(is_error(nothing.error(), ErrorKind::bad_input, "", "multiple of 512"));
    const auto shrunk = driver_of(volume).extend(volume, attachment, kMiB / 2, &journal_);
    ASSERT_FALSE(shrunk.has_value());
    EXPECT_TRUE(is_error(shrunk.error(), ErrorKind::refused, "", "cut off"));
  }
}

TEST_F(LocalTest, ExtendThatFailsLeavesTheImageAsItWas) {
  const Json volume = image(folder_.path("v.img"));
  const std::string path = volume["data"]["path"];
  std::ofstream(path) << std::string(kMiB, 'x');
  probe_gives(path, "raw", Allocation::full, kMiB);
  EXPECT_CALL(commands_, run(_))
      .WillOnce(Invoke([&](const Command&) -> Result<CommandResult> {
        std::filesystem::resize_file(path, kMiB + kMiB / 2);  // a part was done
        CommandResult result;
        result.status = 1;
        result.errors = "fallocate: fallocate failed: Disk quota exceeded\n";
        return result;
      }))
      .WillOnce(Invoke(run_for_real));
  const auto extended = driver_of(volume).extend(volume, describe_it(volume), 2 * kMiB, &journal_);
  ASSERT_FALSE(extended.has_value());
  EXPECT_TRUE(is_error(extended.error(), ErrorKind::storage, "", "Disk quota exceeded"));
  EXPECT_EQ(std::filesystem::file_size(path), kMiB);
}

TEST_F(LocalTest, ExtendOfAnImageThatIsGoneSaysSo) {
  const Json volume = image(folder_.path("gone.img"));
  probe_fails();
  const auto extended = driver_of(volume).extend(volume, describe_it(volume), kMiB, &journal_);
  ASSERT_FALSE(extended.has_value());
  EXPECT_TRUE(is_error(extended.error(), ErrorKind::storage, "", "No such file"));
}

}  // namespace
}  // namespace aiolos::test
