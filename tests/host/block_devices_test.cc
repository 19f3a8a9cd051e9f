// SPDX-License-Identifier: Apache-2.0
// Probing real images and devices: every way of preallocating, chains, snapshots, loop devices, what is refused.
#include "aiolos/host/block_devices.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "aiolos/host/mount_table.h"
#include "bounded.h"
#include "support.h"

namespace aiolos {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr const char* kSize = "4M";
constexpr std::uint64_t kBytes = 4 * 1024 * 1024;

class BlockDevicesTest : public testing::Test {
 protected:
  std::string create(const std::string& name, const std::string& options = "", const std::string& backing = "",
                     const std::string& backing_format = "") {
    std::vector<std::string> argv{"qemu-img", "create", "-q", "-f", "qcow2"};
    if (!options.empty()) argv.insert(argv.end(), {"-o", options});
    if (!backing.empty()) argv.insert(argv.end(), {"-b", backing});
    if (!backing_format.empty()) argv.insert(argv.end(), {"-F", backing_format});
    argv.push_back(dir_ / name);
    argv.push_back(kSize);
    must_run(argv);
    return dir_ / name;
  }
  std::string raw(const std::string& name, bool preallocated) {
    if (preallocated)
      must_run({"fallocate", "-l", kSize, dir_ / name});
    else
      must_run({"truncate", "-s", kSize, dir_ / name});
    return dir_ / name;
  }
  StorageFacts probe(const std::string& path, const std::string& format) {
    Result<StorageFacts> facts = devices_->probe(path, format);
    EXPECT_TRUE(facts) << describe(facts.error());
    if (!facts || facts->chain.empty()) return StorageFacts{{LayerFacts{}}};
    return *facts;
  }
  Error refusal(const std::string& path, const std::string& format) {
    const Result<StorageFacts> facts = devices_->probe(path, format);
    EXPECT_FALSE(facts) << path << " was accepted as " << format;
    return facts ? Error{} : facts.error();
  }
  /// Allocation and sentences of the outermost layer.
  static std::string allocation(const StorageFacts& facts) { return std::string(to_string(facts.chain[0].allocation)); }
  static std::string said(const StorageFacts& facts) { return joined(facts.chain[0].probes); }

  TempDir dir_;
  std::unique_ptr<CommandRunner> runner_ = make_command_runner();
  std::unique_ptr<MountTable> mounts_ = make_mount_table();
  std::unique_ptr<BlockDevices> devices_ = make_block_devices(*runner_, *mounts_);
};

TEST_F(BlockDevicesTest, SparseRaw) {
  const StorageFacts facts = probe(raw("x", false), "raw");
  EXPECT_EQ(allocation(facts), "sparse") << said(facts);
  EXPECT_EQ(facts.chain[0].kind, SourceKind::file);
  EXPECT_EQ(facts.chain[0].virtual_size, kBytes);
  EXPECT_EQ(facts.chain[0].allocated, 0U);
  EXPECT_EQ(facts.chain[0].filesystem, mounts_->holding(dir_.path())->fstype);
}

TEST_F(BlockDevicesTest, FallocatedRaw) {
  const StorageFacts facts = probe(raw("x", true), "raw");
  EXPECT_EQ(allocation(facts), "full") << said(facts);
  EXPECT_EQ(facts.chain[0].allocated, kBytes);
}

TEST_F(BlockDevicesTest, FreshlyWrittenRawIsFullWithoutWaitingForWriteback) {
  write_file(dir_ / "x", std::string(kBytes, 'x'));
  const StorageFacts facts = probe(dir_ / "x", "raw");
  EXPECT_EQ(allocation(facts), "full") << said(facts);
}

TEST_F(BlockDevicesTest, OneHoleMakesItSparse) {
  raw("x", true);
  must_run({"fallocate", "-p", "-o", "1M", "-l", "64K", dir_ / "x"});
  const StorageFacts facts = probe(dir_ / "x", "raw");
  EXPECT_EQ(allocation(facts), "sparse");
  EXPECT_THAT(said(facts), HasSubstr("64.0 KiB (65536 bytes)"));
}

TEST_F(BlockDevicesTest, DirectIoIsReallyTried) {
  const StorageFacts facts = probe(raw("x", true), "raw");
  ASSERT_TRUE(facts.chain[0].o_direct.has_value());
  if (*facts.chain[0].o_direct) {
    EXPECT_GE(facts.chain[0].logical_block_size.value_or(0), 512U);
  }
  EXPECT_THAT(said(facts), HasSubstr("O_DIRECT: "));
}

TEST_F(BlockDevicesTest, FileShorterThanAnyAlignment) {
  write_file(dir_ / "x", "tiny");
  const StorageFacts facts = probe(dir_ / "x", "raw");
  EXPECT_TRUE(facts.chain[0].o_direct.has_value());
}

TEST_F(BlockDevicesTest, EmptyFileIsUnknown) {
  write_file(dir_ / "x", "");
  EXPECT_EQ(allocation(probe(dir_ / "x", "raw")), "unknown");
}

TEST_F(BlockDevicesTest, Tmpfs) {
  TempDir shm("/dev/shm");
  must_run({"fallocate", "-l", kSize, shm / "full"});
  must_run({"truncate", "-s", kSize, shm / "sparse"});
  const StorageFacts full = probe(shm / "full", "raw");
  if (full.chain[0].filesystem != "tmpfs") GTEST_SKIP() << "/dev/shm is " << full.chain[0].filesystem;
  EXPECT_EQ(allocation(full), "full") << said(full);
  EXPECT_THAT(said(full), HasSubstr("no FIEMAP here"));
  EXPECT_EQ(allocation(probe(shm / "sparse", "raw")), "sparse");
}

TEST_F(BlockDevicesTest, Qcow2ByPreallocation) {
  for (const auto& [mode, expected] : std::vector<std::pair<std::string, std::string>>{
           {"off", "sparse"}, {"metadata", "sparse"}, {"falloc", "full"}, {"full", "full"}}) {
    const StorageFacts facts = probe(create(mode, "preallocation=" + mode), "qcow2");
    EXPECT_EQ(allocation(facts), expected) << mode << "\n" << said(facts);
    EXPECT_EQ(facts.chain[0].virtual_size, kBytes);
    EXPECT_EQ(facts.chain[0].format, "qcow2");
  }
}

TEST_F(BlockDevicesTest, Qcow2WithExtendedL2) {
  EXPECT_EQ(allocation(probe(create("f", "preallocation=falloc,extended_l2=on"), "qcow2")), "full");
  EXPECT_EQ(allocation(probe(create("o", "extended_l2=on"), "qcow2")), "sparse");
}

TEST_F(BlockDevicesTest, InternalSnapshotSharesClusters) {
  const std::string path = create("x", "preallocation=full");
  must_run({"qemu-img", "snapshot", "-c", "s1", path});
  const StorageFacts facts = probe(path, "qcow2");
  EXPECT_EQ(allocation(facts), "sparse");
  EXPECT_THAT(said(facts), HasSubstr("1 internal snapshot share clusters"));
}

TEST_F(BlockDevicesTest, CompressedClustersAreNotFull) {
  write_file(dir_ / "data", std::string(kBytes, 'x'));
  must_run({"qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", dir_ / "data", dir_ / "x"});
  const StorageFacts facts = probe(dir_ / "x", "qcow2");
  EXPECT_EQ(allocation(facts), "sparse");
  EXPECT_THAT(said(facts), HasSubstr("compressed clusters"));
}

TEST_F(BlockDevicesTest, HalfWrittenQcow2IsSparse) {
  const std::string path = create("x", "preallocation=off");
  must_run({"qemu-io", "-f", "qcow2", "-c", "write -P 7 0 2M", path});
  const StorageFacts facts = probe(path, "qcow2");
  EXPECT_EQ(allocation(facts), "sparse");
  EXPECT_THAT(said(facts), HasSubstr("2.0 MiB (2097152 bytes) of the guest's disk have no cluster"));
  must_run({"qemu-io", "-f", "qcow2", "-c", "write -P 7 2M 2M", path});
  EXPECT_EQ(allocation(probe(path, "qcow2")), "full");
}

TEST_F(BlockDevicesTest, EncryptedQcow2IsUnknown) {
  const Result<CommandResult> made =
      runner_->run({{"qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=abc", "-o",
                     "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", dir_ / "x", kSize},
                    {},
                    milliseconds(30'000)});
  if (!made || made->status != 0) GTEST_SKIP() << "qemu-img cannot make LUKS here: " << (made ? made->errors : "");
  const StorageFacts facts = probe(dir_ / "x", "qcow2");
  EXPECT_EQ(allocation(facts), "unknown");
  EXPECT_THAT(said(facts), HasSubstr("encrypted"));
}

TEST_F(BlockDevicesTest, ExternalDataFileIsUnknown) {
  const StorageFacts facts = probe(create("x", "data_file=" + (dir_ / "d")), "qcow2");
  EXPECT_EQ(allocation(facts), "unknown");
  EXPECT_THAT(said(facts), HasSubstr("external data file"));
}

TEST_F(BlockDevicesTest, ChainIsListedOutermostFirst) {
  raw("base", true);
  create("middle", "", dir_ / "base", "raw");
  create("top", "", "middle", "qcow2");  // relative to its own folder
  const StorageFacts facts = probe(dir_ / "top", "qcow2");
  ASSERT_EQ(facts.chain.size(), 3U);
  EXPECT_EQ(facts.chain[0].path, dir_ / "top");
  EXPECT_EQ(facts.chain[1].path, dir_ / "middle");
  EXPECT_EQ(facts.chain[2].path, dir_ / "base");
  EXPECT_EQ(facts.chain[1].format, "qcow2");
  EXPECT_EQ(facts.chain[2].format, "raw");
  EXPECT_EQ(allocation(facts), "sparse");
  EXPECT_EQ(facts.chain[2].allocation, Allocation::full);
  EXPECT_TRUE(facts.o_direct().has_value());
}

TEST_F(BlockDevicesTest, AFullLayerOverABackingImageIsFull) {
  raw("base", true);
  const std::string path = create("top", "", dir_ / "base", "raw");
  must_run({"qemu-io", "-f", "qcow2", "-c", "write -P 7 0 4M", path});
  EXPECT_EQ(allocation(probe(path, "qcow2")), "full");
}

TEST_F(BlockDevicesTest, MissingBackingImageNamesBoth) {
  raw("base", true);
  create("top", "", dir_ / "base", "raw");
  std::filesystem::remove(dir_ / "base");
  const Error error = refusal(dir_ / "top", "qcow2");
  EXPECT_EQ(error.kind, ErrorKind::storage);
  EXPECT_EQ(error.message, "backing image of '" + (dir_ / "top") + "': cannot find '" + (dir_ / "base") +
                               "': No such file or directory");
}

TEST_F(BlockDevicesTest, ALoopInTheChainIsAnError) {
  create("a");
  create("b", "", dir_ / "a", "qcow2");
  must_run({"qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", dir_ / "b", dir_ / "a"});
  const Error error = refusal(dir_ / "b", "qcow2");
  EXPECT_EQ(error.kind, ErrorKind::storage);
  EXPECT_THAT(error.message, HasSubstr("comes back to"));
}

TEST_F(BlockDevicesTest, BackingFormatIsNeverGuessed) {
  // An old image names no format for its backing image. raw content is taken as raw, anything else refused.
  raw("base", true);
  create("inner");
  const std::string path = create("top", "compat=0.10", dir_ / "base", "raw");
  const auto forget_format = [&](const std::string& backing) {
    must_run({"qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", backing, path});
    // The name of the backing format is a header extension (0xE2792ACA): make it an unknown one.
    must_run({"python3", "-c",
              "import sys; p=sys.argv[1]; d=open(p,'r+b').read(); i=d.find(bytes.fromhex('e2792aca'));"
              "assert i>0; f=open(p,'r+b'); f.seek(i); f.write(bytes.fromhex('0a0b0c0d'))",
              path});
  };
  forget_format(dir_ / "base");
  const StorageFacts facts = probe(path, "qcow2");
  ASSERT_EQ(facts.chain.size(), 2U);
  EXPECT_EQ(facts.chain[1].format, "raw");

  forget_format(dir_ / "inner");
  const Error error = refusal(path, "qcow2");
  EXPECT_THAT(error.message, HasSubstr("does not say which format"));
  EXPECT_THAT(error.next, HasSubstr("rebase -u -F qcow2"));
}

TEST_F(BlockDevicesTest, NetworkBackingIsALayerAndNoFailure) {
  create("top");
  must_run(
      {"qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "nbd://user:pw@server.invalid/x", dir_ / "top"});
  const StorageFacts facts = probe(dir_ / "top", "qcow2");
  ASSERT_EQ(facts.chain.size(), 2U);
  EXPECT_EQ(facts.chain[1].kind, SourceKind::network);
  EXPECT_EQ(facts.chain[1].path, "nbd://server.invalid/x");
  EXPECT_EQ(facts.chain[1].allocation, Allocation::unknown);
}

TEST_F(BlockDevicesTest, RawWithAnImageHeaderStaysRaw) {
  const std::string path = create("x", "preallocation=full");
  const StorageFacts facts = probe(path, "raw");
  EXPECT_EQ(facts.chain.size(), 1U);
  EXPECT_EQ(facts.chain[0].format, "raw");
  EXPECT_GT(facts.chain[0].virtual_size.value_or(0), kBytes);
}

TEST_F(BlockDevicesTest, ContentOfAnotherFormatIsBadInput) {
  const Error error = refusal(raw("x", true), "qcow2");
  EXPECT_EQ(error.kind, ErrorKind::bad_input);
  EXPECT_EQ(error.message, "'" + (dir_ / "x") + "' is not a qcow2 image");
}

TEST_F(BlockDevicesTest, FormatMustBeNamed) {
  EXPECT_EQ(refusal(raw("x", true), "").kind, ErrorKind::bad_input);
  EXPECT_EQ(refusal(dir_ / "x", "auto").kind, ErrorKind::bad_input);
}

TEST_F(BlockDevicesTest, WhatIsNoImageIsRefusedClearly) {
  EXPECT_EQ(refusal("relative", "raw").kind, ErrorKind::bad_input);
  EXPECT_EQ(refusal(dir_.path(), "raw").kind, ErrorKind::bad_input);
  EXPECT_EQ(refusal(dir_ / "none", "raw").message, "cannot find '" + (dir_ / "none") + "': No such file or directory");
  ASSERT_EQ(::mkfifo((dir_ / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(refusal(dir_ / "fifo", "raw").kind, ErrorKind::bad_input);  // and is not opened, which would wait
  EXPECT_EQ(refusal("/dev/null", "raw").kind, ErrorKind::bad_input);
}

TEST_F(BlockDevicesTest, TruncatedQcow2IsAStorageError) {
  create("x");
  std::filesystem::resize_file(dir_ / "x", 64);
  const Error error = refusal(dir_ / "x", "qcow2");
  EXPECT_EQ(error.kind, ErrorKind::storage);
  EXPECT_THAT(error.message, HasSubstr("qemu-img cannot read '" + (dir_ / "x") + "'"));
}

TEST_F(BlockDevicesTest, SymbolicLinkIsFollowedAndNamed) {
  raw("x", true);
  std::filesystem::create_symlink(dir_ / "x", dir_ / "link");
  const StorageFacts facts = probe(dir_ / "link", "raw");
  EXPECT_EQ(facts.chain[0].path, dir_ / "link");
  EXPECT_THAT(said(facts), HasSubstr("'" + (dir_ / "link") + "' is '" + (dir_ / "x") + "'"));
}

TEST_F(BlockDevicesTest, MissingQemuImgNamesThePackage) {
  CommandRunnerOptions options;
  options.path = {"/nonexistent"};
  const auto poor = make_command_runner(options);
  const auto devices = make_block_devices(*poor, *mounts_);
  const std::string path = create("x");
  const Result<StorageFacts> facts = devices->probe(path, "qcow2");
  ASSERT_FALSE(facts);
  EXPECT_EQ(facts.error().kind, ErrorKind::configuration);
  EXPECT_THAT(facts.error().next, HasSubstr("qemu-utils"));
  EXPECT_TRUE(devices->probe(raw("r", true), "raw"));  // needs no command
}

/// A loop device over a file, detached when it goes.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& file) {
    const auto result = make_command_runner()->run({{"losetup", "--find", "--show", file}, {}, milliseconds(10'000)});
    if (result && result->status == 0) path_ = result->output.substr(0, result->output.find('\n'));
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  ~LoopDevice() {
    if (!path_.empty()) (void)make_command_runner()->run({{"losetup", "-d", path_}, {}, milliseconds(10'000)});
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST_F(BlockDevicesTest, LoopDeviceIsAsItsBackingFile) {
  const LoopDevice full(raw("full", true));
  const LoopDevice sparse(raw("sparse", false));
  if (full.path().empty() || sparse.path().empty()) GTEST_SKIP() << "no loop device can be made here (needs root)";
  const StorageFacts facts = probe(full.path(), "raw");
  EXPECT_EQ(facts.chain[0].kind, SourceKind::block);
  EXPECT_EQ(allocation(facts), "full") << said(facts);
  EXPECT_EQ(facts.chain[0].virtual_size, kBytes);
  EXPECT_EQ(facts.chain[0].logical_block_size, 512U);
  EXPECT_EQ(facts.chain[0].o_direct, true);
  EXPECT_EQ(facts.chain[0].filesystem, "");
  EXPECT_EQ(allocation(probe(sparse.path(), "raw")), "sparse");
}

TEST_F(BlockDevicesTest, Qcow2OnABlockDevice) {
  must_run({"truncate", "-s", "8M", dir_ / "x"});
  must_run({"fallocate", "-l", "8M", dir_ / "x"});
  const LoopDevice loop(dir_ / "x");
  if (loop.path().empty()) GTEST_SKIP() << "no loop device can be made here (needs root)";
  must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", loop.path(), kSize});
  const StorageFacts facts = probe(loop.path(), "qcow2");
  EXPECT_EQ(allocation(facts), "full") << said(facts);
  EXPECT_EQ(facts.chain[0].virtual_size, kBytes);
  must_run({"qemu-img", "create", "-q", "-f", "qcow2", loop.path(), kSize});
  EXPECT_EQ(allocation(probe(loop.path(), "qcow2")), "sparse");
}

TEST_F(BlockDevicesTest, ManyThreadsProbeAtOnce) {
  const std::string path = create("x", "preallocation=falloc");
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      const Result<StorageFacts> facts = devices_->probe(path, "qcow2");
      if (facts && facts->allocation() == Allocation::full) ++good;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 4);
}

TEST(Bounded, GivesUpOnAHangingProbeAndCountsIt) {
  const int before = abandoned_probes();
  auto released = std::make_shared<std::atomic<bool>>(false);
  const Result<int> result =
      run_bounded<int>(milliseconds(50), "probing '/nfs/x'", [released](const std::atomic<bool>& gone) {
        while (!released->load()) std::this_thread::sleep_for(milliseconds(1));
        EXPECT_TRUE(gone.load());
        return Result<int>(1);
      });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::retry);
  EXPECT_EQ(result.error().message, "probing '/nfs/x' did not end within 50 ms");
  EXPECT_EQ(abandoned_probes(), before + 1);
  *released = true;
  for (int i = 0; i < 1000 && abandoned_probes() != before; ++i) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(abandoned_probes(), before);
}

TEST(Bounded, GivesTheResultOfWorkThatEnds) {
  const Result<int> result =
      run_bounded<int>(milliseconds(5000), "x", [](const std::atomic<bool>&) { return Result<int>(42); });
  ASSERT_TRUE(result);
  EXPECT_EQ(*result, 42);
}

}  // namespace
}  // namespace aiolos
