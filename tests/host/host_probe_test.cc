// SPDX-License-Identifier: Apache-2.0
// Kernel facts from a folder that plays procfs, and from this host.
#include "aiolos/host/host_probe.h"

#include <cerrno>

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
