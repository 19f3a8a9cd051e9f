// SPDX-License-Identifier: Apache-2.0
// Kernel facts from a folder that plays procfs, and from this host.
#include "aiolos/host/host_probe.h"

#include <cerrno>
#include <filesystem>

#include "support.h"

namespace aiolos {
namespace {

class HostProbeTest : public testing::Test {
 protected:
  HostFacts facts(int io_uring_error) {
    HostProbeOptions options{dir_.path(), "6.1.0-18-amd64", [io_uring_error] { return io_uring_error; }};
    const Result<HostFacts> result = make_host_probe(options)->facts();
    EXPECT_TRUE(result);
    return result.value_or(HostFacts{});
  }
  TempDir dir_;
};

TEST_F(HostProbeTest, ReadsVersionAndBudget) {
  write_file(dir_ / "sys/fs/aio-nr", "2048\n");
  write_file(dir_ / "sys/fs/aio-max-nr", "65536\n");
  write_file(dir_ / "sys/kernel/io_uring_disabled", "1\n");
  const HostFacts found = facts(0);
  EXPECT_EQ(found.kernel, version(6, 1, 0));
  EXPECT_EQ(found.aio_nr, 2048U);
  EXPECT_EQ(found.aio_max_nr, 65536U);
  EXPECT_EQ(found.io_uring_disabled, 1);
  EXPECT_EQ(found.io_uring_works, true);
}

TEST_F(HostProbeTest, CountsWhatAProcessReallyHas) {
  write_file(dir_ / "77/cmdline", std::string("qemu-system-x86_64\0-uuid\0some-uuid", 35));
  write_file(dir_ / "77/maps",
             "7f00-7f01 rw-s 00000000 00:0e 1  /[aio] (deleted)\n7f02-7f03 r--p 00000000 08:01 2  /usr/lib/libc.so\n"
             "7f04-7f05 rw-s 00000000 00:0e 3  /[aio] (deleted)\n");
  std::filesystem::create_directories(dir_ / "77/fd");
  std::filesystem::create_symlink("anon_inode:[io_uring]", dir_ / "77/fd/9");
  std::filesystem::create_symlink("/dev/null", dir_ / "77/fd/0");
  HostProbeOptions options{dir_.path(), "6.1.0", [] { return 0; }};
  const auto probe = make_host_probe(options);
  const auto found = probe->process_aio(77, "some-uuid");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->contexts, 2U);
  EXPECT_EQ(found->io_urings, 1U);
  EXPECT_FALSE(probe->process_aio(77, "another-uuid")) << "the number is another process's by now";
  EXPECT_FALSE(probe->process_aio(78, "some-uuid"));
}

TEST_F(HostProbeTest, WithoutTheSysctlWhatWorksIsNotDisabled) {
  EXPECT_EQ(facts(0).io_uring_disabled, 0);
  const HostFacts old = facts(ENOSYS);
  EXPECT_EQ(old.io_uring_disabled, std::nullopt);
  EXPECT_EQ(old.io_uring_works, false);
}

TEST_F(HostProbeTest, NonsenseIsAbsent) {
  write_file(dir_ / "sys/fs/aio-nr", "many\n");
  write_file(dir_ / "sys/fs/aio-max-nr", "\n");
  const HostFacts found = facts(EPERM);
  EXPECT_EQ(found.aio_nr, std::nullopt);
  EXPECT_EQ(found.aio_max_nr, std::nullopt);
}

TEST(HostProbeOfThisHost, KnowsKernelAndBudget) {
  const Result<HostFacts> found = make_host_probe()->facts();
  ASSERT_TRUE(found);
  EXPECT_GE(found->kernel.value_or(0), version(4, 0));
  EXPECT_GT(found->aio_max_nr.value_or(0), 0U);
  EXPECT_TRUE(found->io_uring_works.has_value());
}

}  // namespace
}  // namespace aiolos
