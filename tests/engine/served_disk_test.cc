// SPDX-License-Identifier: Apache-2.0
// A whole disk: a front end and its guest's driver on one side, a file on the other.
#include <gmock/gmock.h>
#include <linux/virtio_config.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <cstring>
#include <numeric>
#include <random>
#include <thread>

#include "served.h"

namespace aiolos::engine {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

class ServedDiskTest : public testing::TestWithParam<AioMode> {
 protected:
  std::shared_ptr<DiskStatistics> serve(std::uint64_t size = 1U << 20, DiskSettings settings = {}) {
    if (settings.path.empty()) settings.path = folder_.file("disk", size);
    settings.socket = socket_;
    settings.aio = GetParam();
    return served_.add(settings);
  }

  /// The file's content, as the host sees it.
  std::string content(std::uint64_t offset, std::size_t size) const {
    std::string bytes(size, '?');
    std::ifstream file(folder_ / "disk");
    file.seekg(static_cast<std::streamoff>(offset)).read(bytes.data(), static_cast<std::streamsize>(size));
    return bytes;
  }

  Folder folder_;
  Served served_;
  const std::string socket_ = folder_ / "sock";
};

INSTANTIATE_TEST_SUITE_P(Modes, ServedDiskTest, testing::Values(AioMode::threads, AioMode::native, AioMode::io_uring),
                         [](const auto& mode) { return std::string(to_string(mode.param)); });

void fill(std::span<std::byte> buffer, int value) { std::memset(buffer.data(), value, buffer.size()); }
std::string_view text(std::span<const std::byte> buffer) {
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

TEST_P(ServedDiskTest, ShowsWhatTheDiskIs) {
  serve(10 * kBlock);
  const auto front_end = connect(socket_, {}, false);
  const auto config = front_end->config();
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->capacity, 80U);
  EXPECT_EQ(config->num_queues, 4);
  EXPECT_EQ(config->wce, 1);
  EXPECT_TRUE(front_end->features() & (1ULL << VIRTIO_BLK_F_MQ));
  EXPECT_FALSE(front_end->features() & (1ULL << VIRTIO_BLK_F_RO));
}

TEST_P(ServedDiskTest, WritesReadsAndFlushes) {
  const auto statistics = serve();
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 4, kBlock);
  fill(driver.buffer(0), 'w');
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_OUT, 3 * kSectors, kBlock), VIRTIO_BLK_S_OK);
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
  EXPECT_EQ(content(3 * kBlock, kBlock), std::string(kBlock, 'w'));
  fill(driver.buffer(0), 0);
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_IN, 3 * kSectors, kBlock), VIRTIO_BLK_S_OK);
  EXPECT_EQ(text(driver.buffer(0)), std::string(kBlock, 'w'));
  EXPECT_EQ(statistics->of(Operation::write).bytes.get(), kBlock);
  EXPECT_EQ(statistics->pops.get(), 3U);
}

TEST_P(ServedDiskTest, DiscardsAndZeroes) {
  serve();
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 1, 16 * kBlock);
  fill(driver.buffer(0), 'w');
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_OUT, 0, 16 * kBlock), VIRTIO_BLK_S_OK);
  const auto range = [&](std::uint32_t type, std::uint64_t block, std::uint32_t blocks, std::uint32_t flags) {
    const virtio_blk_discard_write_zeroes asked{block * kSectors, static_cast<std::uint32_t>(blocks * kSectors), flags};
    std::memcpy(driver.buffer(0).data(), &asked, sizeof(asked));
    return driver.run(type, 0, sizeof(asked));
  };
  EXPECT_EQ(range(VIRTIO_BLK_T_DISCARD, 0, 2, 0), VIRTIO_BLK_S_OK);
  EXPECT_EQ(range(VIRTIO_BLK_T_WRITE_ZEROES, 4, 2, 0), VIRTIO_BLK_S_OK);
  EXPECT_EQ(range(VIRTIO_BLK_T_WRITE_ZEROES, 8, 2, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP), VIRTIO_BLK_S_OK);
  std::string expected(16 * kBlock, 'w');
  for (const unsigned block : {0U, 4U, 8U}) expected.replace(block * kBlock, 2 * kBlock, 2 * kBlock, '\0');
  EXPECT_TRUE(content(0, 16 * kBlock) == expected);
  EXPECT_EQ(range(VIRTIO_BLK_T_DISCARD, 255, 2, 0), VIRTIO_BLK_S_IOERR) << "over the end";
  EXPECT_EQ(range(VIRTIO_BLK_T_DISCARD, 0, 1, 4), VIRTIO_BLK_S_UNSUPP) << "an unknown flag";
}

TEST_P(ServedDiskTest, WritesZeroesWhereTheStorageCannotMakeThem) {
  const SmallFileSystem small(folder_, 700);  // tmpfs punches holes, but knows no FALLOC_FL_ZERO_RANGE
  const std::string path = small / "disk";
  std::ofstream(path) << std::string(2U << 20, 'w');
  DiskSettings settings;
  settings.path = path;
  settings.direct = false;
  serve(0, settings);
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  const virtio_blk_discard_write_zeroes range{kSectors, static_cast<std::uint32_t>(400 * kSectors), 0};
  std::memcpy(driver.buffer(0).data(), &range, sizeof(range));
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(range)), VIRTIO_BLK_S_OK);
  std::string bytes(2U << 20, '?');
  std::ifstream(path).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  std::string expected(2U << 20, 'w');
  expected.replace(kBlock, 400 * kBlock, 400 * kBlock, '\0');
  EXPECT_TRUE(bytes == expected);
}

TEST_P(ServedDiskTest, GivesItsSerialNumber) {
  DiskSettings settings;
  settings.serial = "5a1d6d1c-2b6e-4b4c-9a5a-6a1f4b6f1a4e";
  serve(1U << 20, settings);
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_GET_ID, 0, VIRTIO_BLK_ID_BYTES), VIRTIO_BLK_S_OK);
  EXPECT_EQ(text(driver.buffer(0)).substr(0, VIRTIO_BLK_ID_BYTES), settings.serial.substr(0, VIRTIO_BLK_ID_BYTES));
}

TEST_P(ServedDiskTest, AnswersWhatItCannotDo) {
  serve(8 * kBlock);
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 1, 16 * kBlock);
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, 7 * kSectors, 2 * kBlock), VIRTIO_BLK_S_IOERR) << "over the end";
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, ~0ULL, kBlock), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_OUT, 0, 100), VIRTIO_BLK_S_IOERR) << "no whole sector";
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_SCSI_CMD, 0, kBlock), VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(driver.run(12345, 0, kBlock), VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
}

TEST_P(ServedDiskTest, AReadOnlyDiskIsNotWritten) {
  DiskSettings settings;
  settings.read_only = true;
  serve(8 * kBlock, settings);
  const auto front_end = connect(socket_);
  EXPECT_TRUE(front_end->features() & (1ULL << VIRTIO_BLK_F_RO));
  BlockDriver driver(*front_end, 0, 1, kBlock);
  fill(driver.buffer(0), 'w');
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_OUT, 0, kBlock), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(content(0, kBlock), std::string(kBlock, '\0'));
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
}

TEST_P(ServedDiskTest, TakesBuffersInOddPiecesAndIndirectTables) {
  serve();
  const auto front_end = connect(socket_);
  DriverRing& ring = front_end->ring(0);
  const std::uint64_t header = front_end->allocate(64), data = front_end->allocate(4 * kBlock) + 1,
                      table = front_end->allocate(kBlock);
  std::memset(front_end->at(data), 'o', 3 * kBlock);
  *front_end->at<virtio_blk_outhdr>(header) = {VIRTIO_BLK_T_OUT, 0, 0};
  // The header in two pieces, the data in three of odd lengths: O_DIRECT takes none of it as it is.
  const GuestBuffer buffers[] = {{header, 5, false},
                                 {header + 5, 11, false},
                                 {data, 1000, false},
                                 {data + 1000, 3, false},
                                 {data + 1003, kBlock - 1003, false},
                                 {header + 32, 1, true}};
  *front_end->at(header + 32) = std::byte{0xff};
  ASSERT_TRUE(ring.add_indirect(buffers, table, front_end->at(table)).has_value());
  front_end->kick(0);
  ASSERT_TRUE(front_end->wait(0, 10s));
  EXPECT_EQ(*front_end->at(header + 32), std::byte{VIRTIO_BLK_S_OK});
  EXPECT_EQ(content(0, kBlock), std::string(kBlock, 'o'));

  *front_end->at<virtio_blk_outhdr>(header) = {VIRTIO_BLK_T_IN, 0, 0};
  const std::uint64_t into = front_end->allocate(2 * kBlock) + 7;
  const GuestBuffer reading[] = {
      {header, 16, false}, {into, 100, true}, {into + 100, kBlock - 100, true}, {header + 32, 1, true}};
  ASSERT_TRUE(ring.take_used().has_value());
  ASSERT_TRUE(ring.add(reading).has_value());
  front_end->kick(0);
  ASSERT_TRUE(front_end->wait(0, 10s));
  EXPECT_EQ(text({front_end->at(into), kBlock}), std::string(kBlock, 'o'));
  EXPECT_EQ(ring.take_used()->len, kBlock + 1);
}

TEST_P(ServedDiskTest, WorksWithoutEventIndexAndOnManyQueues) {
  serve();
  FrontEndOptions options;
  options.event_index = false;
  options.queues = 4;
  const auto front_end = connect(socket_, options);
  std::vector<BlockDriver> drivers;
  for (unsigned i = 0; i < 4; ++i) drivers.emplace_back(*front_end, i, 16, kBlock);
  for (unsigned i = 0; i < 4; ++i) {
    for (unsigned slot = 0; slot < 16; ++slot) {
      fill(drivers[i].buffer(slot), static_cast<int>('a' + i * 16 + slot));
      ASSERT_TRUE(drivers[i].start(slot, VIRTIO_BLK_T_OUT, (i * 16 + slot) * kSectors, kBlock));
    }
    drivers[i].kick();
  }
  for (auto& driver : drivers)
    for (int n = 0; n < 16; ++n) {
      const auto done = driver.wait();
      ASSERT_TRUE(done.has_value());
      EXPECT_EQ(done->status, VIRTIO_BLK_S_OK);
    }
  for (unsigned i = 0; i < 64; ++i)
    EXPECT_EQ(content(i * kBlock, kBlock), std::string(kBlock, static_cast<char>('a' + i)));
}

TEST_P(ServedDiskTest, FindsRequestsThatWereThereBeforeIt) {
  serve();
  const auto front_end = connect(socket_, {}, false);
  BlockDriver driver(*front_end, 0, 2, kBlock);
  ASSERT_TRUE(driver.start(0, VIRTIO_BLK_T_IN, 0, kBlock));
  ASSERT_TRUE(front_end->start().has_value());  // and no kick
  EXPECT_TRUE(driver.wait().has_value());
}

TEST_P(ServedDiskTest, TellsANewDescriptorWhatTheOneBeforeMayHaveBeenTold) {
  serve();
  const auto front_end = connect(socket_);
  const UniqueFd call(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const std::uint64_t queue = 0;
  ASSERT_TRUE(front_end->tell(Request::set_vring_call, std::as_bytes(std::span(&queue, 1)), call.get()));
  std::uint64_t told = 0;
  EXPECT_EQ(::read(call.get(), &told, sizeof(told)), ssize_t{sizeof(told)}) << "QEMU may have missed a completion";
}

TEST_P(ServedDiskTest, WritesThroughWhereTheDriverKnowsNoFlush) {
  serve();
  FrontEndOptions options;
  options.without = (1ULL << VIRTIO_BLK_F_FLUSH) | (1ULL << VIRTIO_BLK_F_CONFIG_WCE);
  const auto front_end = connect(socket_, options);
  EXPECT_EQ(front_end->config()->wce, 0);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_OUT, 0, kBlock), VIRTIO_BLK_S_OK);
}

TEST_P(ServedDiskTest, TellsOfANewSize) {
  serve(8 * kBlock);
  const auto front_end = connect(socket_);
  std::filesystem::resize_file(folder_ / "disk", 16 * kBlock);
  std::promise<Result<std::uint64_t>> resized;
  served_.reactor().resize(socket_, [&](auto size) { resized.set_value(size); });
  EXPECT_EQ(resized.get_future().get(), 16 * kBlock);
  MessageHeader told{};
  ASSERT_EQ(::read(front_end->backend_channel(), &told, sizeof(told)), static_cast<ssize_t>(sizeof(told)));
  EXPECT_EQ(told.request, kBackendConfigChange);
  EXPECT_EQ(front_end->config()->capacity, 16 * kSectors);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, 15 * kSectors, kBlock), VIRTIO_BLK_S_OK);
}

TEST_P(ServedDiskTest, ADrainLastsUntilTheLastRingIsTakenAway) {
  const SlowFile slow(folder_, 64 * kBlock, "delay 50000");
  DiskSettings settings;
  settings.path = slow.path();
  settings.queues = 2;
  const auto statistics = serve(0, settings);
  FrontEndOptions options;
  options.queues = 2;
  const auto front_end = connect(socket_, options);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  ASSERT_TRUE(driver.start(0, VIRTIO_BLK_T_IN, 0, kBlock));
  driver.kick();
  std::this_thread::sleep_for(10ms);
  ASSERT_TRUE(front_end->stop(0).has_value());
  EXPECT_EQ(statistics->drains.get(), 0U);
  ASSERT_TRUE(front_end->stop(1).has_value());
  EXPECT_EQ(statistics->drains.get(), 1U);
  EXPECT_GT(statistics->drain_last_ns.get(), 10'000'000U) << "though the last ring had nothing in flight";
}

TEST_P(ServedDiskTest, AnswersTheStopOnlyWhenNothingIsInFlightAndTouchesNothingAfter) {
  const SlowFile slow(folder_, 64 * kBlock, "delay 50000");
  DiskSettings settings;
  settings.path = slow.path();
  const auto statistics = serve(0, settings);
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 32, kBlock);
  for (unsigned slot = 0; slot < 16; ++slot) ASSERT_TRUE(driver.start(slot, VIRTIO_BLK_T_IN, slot * kSectors, kBlock));
  driver.kick();
  std::this_thread::sleep_for(10ms);
  for (unsigned slot = 16; slot < 32; ++slot) ASSERT_TRUE(driver.start(slot, VIRTIO_BLK_T_IN, slot * kSectors, kBlock));
  driver.kick();
  const auto base = front_end->stop(0);
  ASSERT_TRUE(base.has_value());
  EXPECT_EQ(*base, front_end->ring(0).used()->idx) << "what was taken has been completed";
  std::vector<std::byte> before(front_end->region().size);
  std::memcpy(before.data(), front_end->at(FrontEnd::kGuestBase), before.size());
  std::this_thread::sleep_for(150ms);
  EXPECT_EQ(std::memcmp(before.data(), front_end->at(FrontEnd::kGuestBase), before.size()), 0);
  EXPECT_EQ(statistics->drains.get(), 1U);
  EXPECT_GT(statistics->drain_last_ns.get(), 10'000'000U);
  // Started again, what was left in the ring is served without a kick.
  ASSERT_TRUE(front_end->start().has_value());
  for (int i = 0; i < 32; ++i) ASSERT_TRUE(driver.wait().has_value()) << "request " << i;
}

TEST_P(ServedDiskTest, LogsEveryPageItWrites) {
  serve();
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 4, kBlock);
  const std::uint64_t pages = (FrontEnd::kGuestBase + front_end->region().size) >> 12;
  const UniqueFd log_fd(::memfd_create("log", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(log_fd.get(), static_cast<off_t>(pages / 8)), 0);
  auto log = SharedMapping::map(log_fd.get(), 0, pages / 8);
  ASSERT_TRUE(log.has_value());
  const LogBase base{pages / 8, 0};
  ASSERT_TRUE(front_end->call(Request::set_log_base, std::as_bytes(std::span(&base, 1)), log_fd.get()).has_value());
  const std::uint64_t features = front_end->features() | kFeatureLogAll;
  ASSERT_TRUE(front_end->tell(Request::set_features, std::as_bytes(std::span(&features, 1))).has_value());
  VringAddress addresses = front_end->addresses(0);
  addresses.flags = kVringLog;
  ASSERT_TRUE(front_end->tell(Request::set_vring_addr, std::as_bytes(std::span(&addresses, 1))).has_value());

  std::vector<std::byte> before(front_end->region().size);
  std::memcpy(before.data(), front_end->at(FrontEnd::kGuestBase), before.size());
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
  ASSERT_TRUE(front_end->stop(0).has_value());
  const auto logged = [&](std::uint64_t address) {
    return (std::to_integer<unsigned>(log->data()[address >> 15]) >> ((address >> 12) & 7) & 1) != 0;
  };
  unsigned marked = 0;
  for (std::uint64_t page = 0; page < pages; ++page) marked += logged(page << 12);
  EXPECT_TRUE(logged(addresses.log)) << "the used ring";
  const auto data = FrontEnd::kGuestBase + static_cast<std::uint64_t>(driver.buffer(*driver.free_slot()).data() -
                                                                      front_end->at(FrontEnd::kGuestBase));
  EXPECT_TRUE(logged(data)) << "the data that was read";
  EXPECT_EQ(marked, 2U) << "the status is in a page with the used ring";
}

TEST_P(ServedDiskTest, DoesWhatAnEarlierProcessHadInFlight) {
  // A connection lost with requests in flight: the old session finishes them, and the new one finds none to do again.
  const SlowFile slow(folder_, 64 * kBlock, "delay 30000");
  DiskSettings settings;
  settings.path = slow.path();
  const auto statistics = serve(0, settings);
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 16, kBlock);
  for (unsigned slot = 0; slot < 16; ++slot) ASSERT_TRUE(driver.start(slot, VIRTIO_BLK_T_OUT, slot * kSectors, kBlock));
  driver.kick();
  std::this_thread::sleep_for(10ms);
  ASSERT_TRUE(front_end->reconnect().has_value());
  ASSERT_TRUE(front_end->start().has_value());
  for (int i = 0; i < 16; ++i) ASSERT_TRUE(driver.wait().has_value()) << "request " << i;
  EXPECT_EQ(statistics->pops.get(), 16U);
  EXPECT_FALSE(driver.wait(50ms).has_value()) << "nothing comes twice";
}

TEST_P(ServedDiskTest, AStorageErrorReachesTheGuestAndNobodyElse) {
  const SlowFile slow(folder_, 64 * kBlock, "fail 4096 5");
  DiskSettings settings;
  settings.path = slow.path();
  const auto statistics = serve(0, settings);
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, kSectors, kBlock), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
  EXPECT_EQ(statistics->of(Operation::read).errors.get(), 1U);
}

TEST_P(ServedDiskTest, ManyDisksShareOneEngine) {
  constexpr unsigned kDisks = 6;
  std::vector<std::unique_ptr<FrontEnd>> front_ends;
  for (unsigned i = 0; i < kDisks; ++i) {
    DiskSettings settings;
    settings.path = folder_.file("disk" + std::to_string(i), 64 * kBlock);
    settings.socket = folder_ / ("sock" + std::to_string(i));
    settings.aio = GetParam();
    served_.add(settings);
    front_ends.push_back(connect(settings.socket));
  }
  std::vector<std::thread> guests;
  for (unsigned i = 0; i < kDisks; ++i)
    guests.emplace_back([&, i] {
      BlockDriver driver(*front_ends[i], 0, 64, kBlock);
      for (int round = 0; round < 20; ++round) {
        for (unsigned slot = 0; slot < 32; ++slot) {
          fill(driver.buffer(slot), static_cast<int>(i + slot));
          EXPECT_TRUE(driver.start(slot, round % 2 == 0 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, slot * kSectors, kBlock));
        }
        driver.kick();
        for (unsigned slot = 0; slot < 32; ++slot) {
          const auto done = driver.wait();
          ASSERT_TRUE(done.has_value());
          EXPECT_EQ(done->status, VIRTIO_BLK_S_OK);
          if (round % 2 == 0) continue;
          EXPECT_EQ(text(driver.buffer(done->slot)), std::string(kBlock, static_cast<char>(i + done->slot)));
        }
      }
    });
  for (auto& guest : guests) guest.join();
}

TEST_P(ServedDiskTest, ADiskIsRemovedWhenItsRequestsAreDone) {
  const SlowFile slow(folder_, 64 * kBlock, "delay 50000");
  DiskSettings settings;
  settings.path = slow.path();
  serve(0, settings);
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  ASSERT_TRUE(driver.start(0, VIRTIO_BLK_T_IN, 0, kBlock));
  driver.kick();
  std::this_thread::sleep_for(10ms);
  std::promise<void> removed;
  served_.reactor().remove(socket_, [&] { removed.set_value(); });
  ASSERT_EQ(removed.get_future().wait_for(5s), std::future_status::ready);
  EXPECT_TRUE(driver.poll().has_value());
  EXPECT_FALSE(front_end->config().has_value()) << "the connection is over";
}

}  // namespace
}  // namespace aiolos::engine
