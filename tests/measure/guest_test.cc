// SPDX-License-Identifier: Apache-2.0
// A guest without the guest: what QEMU and the guest are told, and what is made of the guest's answers.
#include "guest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "aiolos/core/json.h"
#include "guest_shell.h"

namespace aiolos::measure {
namespace {

using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

const GuestMachine kEmulated{"/image/vmlinuz", "/image/initrd", false};

std::vector<Json> devices(const std::vector<std::string>& argv) {
  std::vector<Json> found;
  for (std::size_t i = 0; i + 1 < argv.size(); ++i)
    if (argv[i] == "--device") found.push_back(Json::parse(argv[i + 1]));
  return found;
}

GuestOptions options(std::size_t disks, unsigned iothreads) {
  return {std::vector<QemuDisk>(disks, {"/a,b", "raw", false, true}), AioMode::native, iothreads, 384, "/s"};
}

TEST(GuestCommand, IsAnEmulatedMachineThatMayHaveASecondProcessor) {
  const auto argv = guest_command(kEmulated, options(1, 0));
  EXPECT_THAT(argv, IsSupersetOf({"tcg", "max", "cpus=1,maxcpus=2", "/image/vmlinuz", "/image/initrd", "384"}));
  EXPECT_THAT(argv, Contains("socket,id=control,path=/s,server=on,wait=off"));
}

TEST(GuestCommand, UsesKvmWhereItBootsAGuest) {
  EXPECT_THAT(guest_command({"/k", "/i", true}, options(1, 0)), IsSupersetOf({"kvm", "host"}));
}

TEST(GuestCommand, HasADiskForEachImageThatTheGuestCanTellApart) {
  const auto disks = devices(guest_command(kEmulated, options(10, 0)));
  ASSERT_EQ(disks.size(), 10U);
  EXPECT_EQ(disks[9], Json::parse(R"({"driver": "virtio-blk-pci", "drive": "disk9", "serial": "disk9", "num-queues": 1,
      "multifunction": true, "addr": "5.1"})"));
}

TEST(GuestCommand, SpreadsTheDisksOverItsIothreads) {
  std::vector<std::string> served_by;
  for (const Json& each : devices(guest_command(kEmulated, options(3, 2)))) served_by.push_back(each["iothread"]);
  EXPECT_THAT(served_by, ElementsAre("iothread0", "iothread1", "iothread0"));
}

TEST(GuestMemory, HasRoomForWhatIsInFlight) {
  EXPECT_EQ(guest_memory_mib({Operation::read, Pattern::random, 4096, 1, 1}), 384U);
  EXPECT_EQ(guest_memory_mib({Operation::read, Pattern::random, 1U << 20, 64, 4}), 384U + 256U);
}

TEST(GuestScript, RunsFioOnAllDisks) {
  const std::string script = guest_script({Operation::write, Pattern::random, 4096, 8, 2}, {});
  for (const char* part : {"fio ", "--filename=/dev/disk0 ", "--filename=/dev/disk1 ", "--rw=randwrite", "libaio"})
    EXPECT_THAT(script, HasSubstr(part));
}

TEST(GuestRequest, IsOneLineWhateverTheScriptHolds) {
  EXPECT_EQ(guest_request("7", seconds(30), "echo 'a\nb'\n"), "\nAIOLOS-RUN 7 30 echo 'a\1b'\1\n");
}

TEST(GuestAnswer, IsTheOneToTheRequest) {
  const std::string_view said = "AIOLOS-READY\r\nAIOLOS-END 6 0 eA==\r\nAIOLOS-END 7 3 ZWNobyAnYQpiJwo=\r\n";
  EXPECT_EQ(find_guest_answer(said, "7"), (GuestAnswer{3, "echo 'a\nb'\n"}));
  EXPECT_EQ(find_guest_answer(said, "8"), std::nullopt);
}

TEST(GuestAnswer, IsNoneBeforeItIsWhole) {
  const std::string said = "AIOLOS-END 7 0 ZWNobyAnYQpiJwo=\n";
  for (std::size_t length = 0; length < said.size(); ++length)
    EXPECT_EQ(find_guest_answer(std::string_view(said).substr(0, length), "7"), std::nullopt) << length;
  EXPECT_EQ(find_guest_answer(said, "7")->status, 0);
}

TEST(GuestAnswer, IsAFailureWhereItCannotBeRead) {
  for (const char* said : {"AIOLOS-END 7 zero eA==\n", "AIOLOS-END 7 0 e*==\n", "AIOLOS-END 7 0\n", "AIOLOS-END 7 \n"})
    EXPECT_EQ(find_guest_answer(said, "7")->status, -1) << said;
  EXPECT_EQ(find_guest_answer("AIOLOS-END 7 0 \n", "7"), (GuestAnswer{0, ""}));
}

class AskGuest : public ::testing::Test {
 protected:
  /// Asks a process in a guest's place.
  Result<GuestAnswer> ask(const std::string& script, bool stop = false) {
    const auto guest = BackgroundProcess::start({"sh", "-c", script}, folder_ / "guest");
    return guest ? ask_guest(**guest, folder_ / "control", "true", seconds(1), [stop] { return stop; })
                 : tl::unexpected(guest.error());
  }

  TemporaryFolder folder_ = *TemporaryFolder::make(std::filesystem::temp_directory_path());
};

TEST_F(AskGuest, NamesTheLastWordsOfOneThatEnds) {
  const auto answer = ask("echo Kernel panic; exit 3");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::hypervisor);
  EXPECT_EQ(answer.error().message, "the guest ended (3) before it had booted: Kernel panic");
}

TEST_F(AskGuest, EndsWhenItIsToldTo) {
  const auto answer = ask("sleep 60", /*stop=*/true);
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("stopped"));
}

TEST(FindGuestMachine, SaysHowToMakeTheImage) {
  const auto folder = *TemporaryFolder::make(std::filesystem::temp_directory_path());
  const auto machine = find_guest_machine("/no/such/image", folder, [] { return false; });
  ASSERT_FALSE(machine);
  EXPECT_EQ(machine.error().kind, ErrorKind::configuration);
  EXPECT_THAT(machine.error().message, HasSubstr("'/no/such/image/vmlinuz'"));
  EXPECT_THAT(machine.error().next, HasSubstr("scripts/guest-image /no/such/image"));
}

}  // namespace
}  // namespace aiolos::measure
