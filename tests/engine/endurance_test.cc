// SPDX-License-Identifier: Apache-2.0
// A guest that checks all it writes, while the daemon is killed and started again, and while it is stopped and goes on.
// AIOLOS_ENDURANCE sets how many rounds each AIO mode goes; the bar is 200 in all.
#include <gmock/gmock.h>
#include <linux/virtio_config.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "loop_device.h"
#include "served.h"

namespace aiolos::engine {
namespace {

using namespace std::chrono_literals;

constexpr unsigned kDepth = 24;
constexpr unsigned kBlocks = 512;

int rounds() {
  const char* set = std::getenv("AIOLOS_ENDURANCE");
  return set ? std::atoi(set) : 4;
}

/// aiolos-engine as a process that serves one disk.
class EngineProcess {
 public:
  EngineProcess(std::string disk) : disk_(std::move(disk)) { start(); }
  ~EngineProcess() { kill(); }

  void start() {
    child_ = ::fork();
    if (child_ != 0) return;
    ::execl(AIOLOS_ENGINE, "aiolos-engine", "--disk", disk_.c_str(), nullptr);
    std::_Exit(127);
  }
  void kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }

 private:
  std::string disk_;
  pid_t child_ = -1;
};

/// Writes blocks with their number and a version, reads them back, and knows which version each must have.
class CheckingGuest {
 public:
  explicit CheckingGuest(FrontEnd& front_end)
      : driver_(front_end, 0, kDepth, kBlock), versions_(kBlocks, 0), jobs_(kDepth) {}

  /// Keeps the ring full for a while.
  void run(std::chrono::microseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      fill();
      while (const auto done = driver_.poll()) check(*done);
    }
  }

  /// Waits for all that is in flight.
  void settle() {
    while (in_flight_ > 0) {
      const auto done = driver_.wait(20s);
      ASSERT_TRUE(done.has_value()) << in_flight_ << " requests were lost";
      check(*done);
    }
  }

  /// Every block once more.
  void read_all() {
    for (unsigned block = 0; block < kBlocks; ++block) {
      ASSERT_EQ(driver_.run(VIRTIO_BLK_T_IN, block * kSectors, kBlock), VIRTIO_BLK_S_OK);
      expect_content(*driver_.free_slot(), block, versions_[block]);
    }
  }

  std::uint64_t completed = 0;

 private:
  struct Job {
    bool busy = false;
    bool write = false;
    unsigned block = 0;
    std::uint64_t version = 0;
  };

  void fill() {
    bool any = false;
    while (const auto slot = driver_.free_slot()) {
      const auto block = static_cast<unsigned>(random_() % kBlocks);
      if (busy_[block]) break;
      Job& job = jobs_[*slot];
      job = {true, random_() % 2 == 0, block, versions_[block] + 1};
      auto* words = reinterpret_cast<std::uint64_t*>(driver_.buffer(*slot).data());
      for (unsigned i = 0; i < kBlock / 16; ++i) {
        words[2 * i] = job.write ? block : ~0ULL;
        words[2 * i + 1] = job.write ? job.version : ~0ULL;
      }
      driver_.start(*slot, job.write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, block * kSectors, kBlock);
      busy_[block] = true;
      ++in_flight_;
      any = true;
    }
    if (any) driver_.kick();
  }

  void check(const BlockDriver::Completion& done) {
    Job& job = jobs_[done.slot];
    EXPECT_TRUE(job.busy) << "a request was completed twice";
    EXPECT_EQ(done.status, VIRTIO_BLK_S_OK);
    if (job.write)
      versions_[job.block] = job.version;
    else
      expect_content(done.slot, job.block, versions_[job.block]);
    job.busy = busy_[job.block] = false;
    --in_flight_;
    ++completed;
  }

  void expect_content(unsigned slot, unsigned block, std::uint64_t version) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(driver_.buffer(slot).data());
    if (version == 0) return;  // never written
    for (unsigned i = 0; i < kBlock / 16; ++i)
      ASSERT_TRUE(words[2 * i] == block && words[2 * i + 1] == version)
          << "block " << block << " has version " << words[2 * i + 1] << " of block " << words[2 * i] << ", not "
          << version;
  }

  BlockDriver driver_;
  std::mt19937 random_{3};
  std::vector<std::uint64_t> versions_;
  std::vector<Job> jobs_;
  std::array<bool, kBlocks> busy_{};
  unsigned in_flight_ = 0;
};

class EnduranceTest : public testing::TestWithParam<AioMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, EnduranceTest, testing::Values(AioMode::threads, AioMode::native, AioMode::io_uring),
                         [](const auto& mode) { return std::string(to_string(mode.param)); });

/// Little memory, for it is compared as a whole.
FrontEndOptions small_memory() {
  FrontEndOptions options;
  options.memory = 1U << 20;
  return options;
}

std::unique_ptr<FrontEnd> connect_eventually(const std::string& socket) {
  std::unique_ptr<FrontEnd> front_end;
  eventually([&] {
    auto made = FrontEnd::connect(socket, small_memory());
    if (made) front_end = std::move(*made);
    return made.has_value();
  });
  return front_end;
}

TEST_P(EnduranceTest, NothingIsLostOrDoneTwiceWhenTheDaemonIsKilled) {
  const Folder folder;
  const std::string socket = folder / "sock";
  EngineProcess engine("path=" + folder.file("disk", kBlocks * kBlock) + ",socket=" + socket +
                       ",aio=" + std::string(to_string(GetParam())));
  const auto front_end = connect_eventually(socket);
  ASSERT_NE(front_end, nullptr);
  ASSERT_TRUE(front_end->start().has_value());
  CheckingGuest guest(*front_end);
  std::mt19937 random(11);
  for (int round = 0; round < rounds(); ++round) {
    guest.run(std::chrono::microseconds(2000 + random() % 30'000));
    engine.kill();
    engine.start();
    ASSERT_TRUE(eventually([&] { return front_end->reconnect().has_value(); })) << "round " << round;
    ASSERT_TRUE(front_end->start().has_value()) << "round " << round;
    if (round % 4 == 0) guest.settle();
    if (HasFatalFailure() || HasNonfatalFailure()) FAIL() << "in round " << round;
  }
  guest.settle();
  guest.read_all();
  EXPECT_GT(guest.completed, 10U * static_cast<unsigned>(rounds()));
}

TEST_P(EnduranceTest, AKilledDaemonsWritesDoNotComeAfterTheNextOnes) {
  const Folder folder;
  SlowFile slow(folder, kBlocks * kBlock, "delay 1000000");
  const std::string socket = folder / "sock";
  EngineProcess engine("path=" + slow.path() + ",socket=" + socket + ",aio=" + std::string(to_string(GetParam())));
  const auto front_end = connect_eventually(socket);
  ASSERT_NE(front_end, nullptr);
  ASSERT_TRUE(front_end->start().has_value());
  BlockDriver driver(*front_end, 0, 1, kBlock);
  const auto write = [&](char letter) {
    std::memset(driver.buffer(0).data(), letter, kBlock);
    return driver.start(0, VIRTIO_BLK_T_OUT, 0, kBlock);
  };
  ASSERT_TRUE(write('a'));
  driver.kick();
  std::this_thread::sleep_for(100ms);  // it is with the storage
  slow.control("delay 0");
  engine.kill();
  engine.start();
  ASSERT_TRUE(eventually([&] { return front_end->reconnect().has_value(); }));
  ASSERT_TRUE(front_end->start().has_value());
  ASSERT_TRUE(driver.wait().has_value());
  ASSERT_TRUE(write('b'));
  driver.kick();
  ASSERT_TRUE(driver.wait().has_value());
  std::this_thread::sleep_for(1200ms);  // when the first one is done at the latest
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
  EXPECT_EQ(static_cast<char>(driver.buffer(0)[17]), 'b');
}

/// Requests to a block device, which the kernel has io_uring not wait for.
TEST_P(EnduranceTest, TheLockIsHeldUntilAKilledDaemonsRequestsAreDone) {
  const Folder folder;
  SlowFile slow(folder, kBlocks * kBlock, "delay 0");
  const test::LoopDevice loop(slow.path(), "--direct-io=on");
  if (loop.path().empty()) GTEST_SKIP() << "this machine allows no loop device";
  const std::string socket = folder / "sock";
  EngineProcess engine("path=" + loop.path() + ",socket=" + socket + ",aio=" + std::string(to_string(GetParam())));
  const auto front_end = connect_eventually(socket);
  ASSERT_NE(front_end, nullptr);
  ASSERT_TRUE(front_end->start().has_value());
  BlockDriver driver(*front_end, 0, 1, kBlock);
  slow.control("delay 1000000");
  ASSERT_TRUE(driver.start(0, VIRTIO_BLK_T_OUT, 0, kBlock));
  driver.kick();
  std::this_thread::sleep_for(100ms);  // it is with the storage
  const auto killed = std::chrono::steady_clock::now();
  engine.kill();
  const UniqueFd lock = open_file(socket + ".lock");
  ASSERT_TRUE(eventually([&] { return ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0; }));
  EXPECT_GT(std::chrono::steady_clock::now() - killed, 600ms);
}

TEST_P(EnduranceTest, NothingIsLostOrWrittenLateWhenTheGuestIsStopped) {
  const Folder folder;
  const SlowFile slow(folder, kBlocks * kBlock, "delay 700");
  Served served;
  DiskSettings settings;
  settings.path = slow.path();
  settings.socket = folder / "sock";
  settings.aio = GetParam();
  const auto statistics = served.add(settings);
  const auto front_end = connect(settings.socket, small_memory());
  CheckingGuest guest(*front_end);
  std::mt19937 random(13);
  std::vector<std::byte> before(front_end->region().size);
  for (int round = 0; round < 2 * rounds(); ++round) {
    guest.run(std::chrono::microseconds(1000 + random() % 10'000));
    ASSERT_TRUE(front_end->stop(0).has_value());
    std::memcpy(before.data(), front_end->at(FrontEnd::kGuestBase), before.size());
    std::this_thread::sleep_for(3ms);
    ASSERT_EQ(std::memcmp(before.data(), front_end->at(FrontEnd::kGuestBase), before.size()), 0)
        << "the guest's memory was written after the stop, in round " << round;
    ASSERT_TRUE(front_end->start().has_value());
  }
  guest.settle();
  guest.read_all();
  EXPECT_EQ(statistics->drains.get(), 2U * static_cast<unsigned>(rounds()));
}

}  // namespace
}  // namespace aiolos::engine
