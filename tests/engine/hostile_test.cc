// SPDX-License-Identifier: Apache-2.0
// Front ends and guests that mean harm, or are broken: they harm themselves alone.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>
#include <functional>
#include <thread>

#include "served.h"

namespace aiolos::engine {
namespace {

using namespace std::chrono_literals;

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// A victim beside the attacker, which has to work before and after.
class HostileTest : public testing::Test {
 protected:
  HostileTest() {
    for (const char* name : {"attacked", "victim"}) {
      DiskSettings settings;
      settings.path = folder_.file(std::string(name) + ".img", 1U << 20);
      settings.socket = folder_ / name;
      statistics_.push_back(served_.add(settings));
    }
    victim_ = connect(folder_ / "victim");
    driver_ = std::make_unique<BlockDriver>(*victim_, 0, 4, kBlock);
  }

  void TearDown() override {
    EXPECT_EQ(driver_->run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK) << "the other guest is hurt";
  }

  std::unique_ptr<FrontEnd> attacker(bool start = true, FrontEndOptions options = {}) {
    return connect(folder_ / "attacked", options, start);
  }

  /// Waits until the attacker's ring is broken.
  void expect_broken_ring() {
    for (int i = 0; i < 2000 && statistics_[0]->broken_rings.get() == 0; ++i) std::this_thread::sleep_for(10ms);
    EXPECT_EQ(statistics_[0]->broken_rings.get(), 1U);
  }

  Folder folder_;
  Served served_;
  std::vector<std::shared_ptr<DiskStatistics>> statistics_;
  std::unique_ptr<FrontEnd> victim_;
  std::unique_ptr<BlockDriver> driver_;
};

// --- rings --------------------------------------------------------------------------------------------------------

struct RingAttack {
  const char* name;
  std::function<void(FrontEnd&)> act;
};

/// Fills descriptor `index` of ring 0.
void put(FrontEnd& front_end, unsigned index, std::uint64_t address, std::uint32_t length, unsigned flags,
         unsigned next = 0) {
  vring_desc& descriptor = front_end.ring(0).descriptors()[index];
  descriptor.addr = address;
  descriptor.len = length;
  descriptor.flags = static_cast<std::uint16_t>(flags);
  descriptor.next = static_cast<std::uint16_t>(next);
}

const RingAttack kRingAttacks[] = {
    {"HeadBeyondTheRing", [](FrontEnd& f) { f.ring(0).add_head(128); }},
    {"HeadOfAllOnes", [](FrontEnd& f) { f.ring(0).add_head(0xffff); }},
    {"IndexJumps",
     [](FrontEnd& f) {
       f.ring(0).add_head(0);  // so that there is something to kick for
       f.ring(0).available()->idx = 5000;
     }},
    {"EndlessChain",
     [](FrontEnd& f) {
       put(f, 0, FrontEnd::kGuestBase, 16, VRING_DESC_F_NEXT, 1);
       put(f, 1, FrontEnd::kGuestBase, 16, VRING_DESC_F_NEXT, 0);
       f.ring(0).add_head(0);
     }},
    {"ChainLeavesTheRing",
     [](FrontEnd& f) {
       put(f, 0, FrontEnd::kGuestBase, 16, VRING_DESC_F_NEXT, 40000);
       f.ring(0).add_head(0);
     }},
    {"AddressOutsideMemory",
     [](FrontEnd& f) {
       put(f, 0, 0, 16, 0);
       f.ring(0).add_head(0);
     }},
    {"BufferOverTheEnd",
     [](FrontEnd& f) {
       put(f, 0, FrontEnd::kGuestBase + f.region().size - 8, 16, 0);
       f.ring(0).add_head(0);
     }},
    {"AddressWrapsAround",
     [](FrontEnd& f) {
       put(f, 0, ~0ULL - 4, 64, 0);
       f.ring(0).add_head(0);
     }},
    {"WritableBeforeReadable",
     [](FrontEnd& f) {
       put(f, 0, FrontEnd::kGuestBase, 16, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
       put(f, 1, FrontEnd::kGuestBase, 16, 0);
       f.ring(0).add_head(0);
     }},
    {"IndirectOfOddSize",
     [](FrontEnd& f) {
       put(f, 0, FrontEnd::kGuestBase, 17, VRING_DESC_F_INDIRECT);
       f.ring(0).add_head(0);
     }},
    {"IndirectOfNothing",
     [](FrontEnd& f) {
       put(f, 0, FrontEnd::kGuestBase, 0, VRING_DESC_F_INDIRECT);
       f.ring(0).add_head(0);
     }},
    {"IndirectTooLarge",
     [](FrontEnd& f) {
       put(f, 0, FrontEnd::kGuestBase, 16U << 20, VRING_DESC_F_INDIRECT);
       f.ring(0).add_head(0);
     }},
    {"IndirectInIndirect",
     [](FrontEnd& f) {
       const std::uint64_t table = f.allocate(kBlock);
       *f.at<vring_desc>(table) = {table, 16, VRING_DESC_F_INDIRECT, 0};
       put(f, 0, table, 16, VRING_DESC_F_INDIRECT);
       f.ring(0).add_head(0);
     }},
    {"IndirectAndNext",
     [](FrontEnd& f) {
       put(f, 0, FrontEnd::kGuestBase, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
       f.ring(0).add_head(0);
     }},
    {"IndirectWithoutEnd",
     [](FrontEnd& f) {
       const std::uint64_t table = f.allocate(kBlock);
       *f.at<vring_desc>(table) = {FrontEnd::kGuestBase, 16, VRING_DESC_F_NEXT, 0};
       put(f, 0, table, 16, VRING_DESC_F_INDIRECT);
       f.ring(0).add_head(0);
     }},
};

class RingAttackTest : public HostileTest, public testing::WithParamInterface<RingAttack> {};
INSTANTIATE_TEST_SUITE_P(Rings, RingAttackTest, testing::ValuesIn(kRingAttacks),
                         [](const auto& attack) { return attack.param.name; });

TEST_P(RingAttackTest, BreaksItsOwnRingAlone) {
  const auto front_end = attacker();
  GetParam().act(*front_end);
  front_end->kick(0);
  expect_broken_ring();
  EXPECT_TRUE(front_end->stop(0).has_value()) << "a broken ring can be taken back";
}

TEST_F(HostileTest, TheSameHeadTwiceAtOnceBreaksTheRing) {
  const SlowFile slow(folder_, 1U << 20, "delay 100000");
  DiskSettings settings;
  settings.path = slow.path();
  settings.socket = folder_ / "slow.sock";
  statistics_[0] = served_.add(settings);
  const auto front_end = connect(settings.socket);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  ASSERT_TRUE(driver.start(0, VIRTIO_BLK_T_IN, 0, kBlock));
  front_end->ring(0).add_head(front_end->ring(0).available()->ring[0]);
  driver.kick();
  expect_broken_ring();
  EXPECT_TRUE(driver.wait().has_value()) << "what was taken is answered";
}

TEST_F(HostileTest, ARequestWithoutAStatusIsGivenBack) {
  const auto front_end = attacker();
  put(*front_end, 0, front_end->allocate(64), 16, 0);
  front_end->ring(0).add_head(0);
  front_end->kick(0);
  ASSERT_TRUE(front_end->wait(0, 5s));
  EXPECT_EQ(front_end->ring(0).take_used()->len, 0U);
}

TEST_F(HostileTest, AShortHeaderIsAnError) {
  const auto front_end = attacker();
  const std::uint64_t place = front_end->allocate(64);
  const GuestBuffer buffers[] = {{place, 7, false}, {place + 32, 1, true}};
  *front_end->at(place + 32) = std::byte{0xff};
  front_end->ring(0).add(buffers);
  front_end->kick(0);
  ASSERT_TRUE(front_end->wait(0, 5s));
  EXPECT_EQ(*front_end->at(place + 32), std::byte{VIRTIO_BLK_S_IOERR});
}

TEST_F(HostileTest, AGuestThatNeverStopsKickingKeepsNobodyElseWaiting) {
  const auto front_end = attacker();
  std::atomic<bool> over{false};
  std::thread guest([&] {
    while (!over) {
      front_end->ring(0).add_head(0);
      front_end->kick(0);
      front_end->ring(0).take_used();
    }
  });
  for (int i = 0; i < 50; ++i) EXPECT_EQ(driver_->run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
  over = true;
  guest.join();
}

TEST_F(HostileTest, MemoryThatIsCutShortIsZeroes) {
  const auto front_end = attacker();
  BlockDriver driver(*front_end, 0, 1, kBlock);
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
  ASSERT_EQ(::ftruncate(front_end->memory_fd(), 0), 0);
  // The rings are gone with it; whatever the engine reads there now, it goes on.
  front_end->kick(0);
  std::this_thread::sleep_for(50ms);
}

// --- messages -----------------------------------------------------------------------------------------------------

Message message_of(std::uint32_t request, std::span<const std::byte> payload, std::uint32_t flags = kVersion) {
  Message message;
  message.header = {request, flags, 0};
  message.append(payload.data(), payload.size());
  return message;
}

TEST_F(HostileTest, MessagesThatMakeNoSenseEndTheirConnectionAlone) {
  const std::uint64_t number = ~0ULL;
  const VringState ring{200, 1};
  const MemTableHeader table{9, 0};
  const SingleRegion region{0, {0, ~0ULL, 0, ~0ULL}};
  const ConfigHeader config{250, 4000, 0};
  const InflightDescription inflight{~0ULL, ~0ULL, 999, 9999, 0};
  const auto copy_of = [](const auto& payload) {
    const auto bytes = bytes_of(payload);
    return std::vector(bytes.begin(), bytes.end());
  };
  const std::pair<Request, std::vector<std::byte>> messages[] = {
      {static_cast<Request>(0), {}},
      {static_cast<Request>(4711), copy_of(number)},
      {Request::set_features, copy_of(number)},
      {Request::set_features, {}},
      {Request::set_vring_num, copy_of(ring)},
      {Request::set_vring_num, copy_of(VringState{0, 0})},
      {Request::set_vring_num, copy_of(VringState{0, 100})},
      {Request::set_vring_num, copy_of(VringState{0, 1U << 31})},
      {Request::get_vring_base, copy_of(ring)},
      {Request::set_vring_enable, copy_of(ring)},
      {Request::set_vring_kick, copy_of(number)},
      {Request::set_vring_kick, copy_of(std::uint64_t{0})},
      {Request::set_vring_call, copy_of(number)},
      {Request::set_mem_table, copy_of(table)},
      {Request::add_mem_reg, copy_of(region)},
      {Request::rem_mem_reg, copy_of(region)},
      {Request::set_log_base, copy_of(LogBase{~0ULL, ~0ULL})},
      {Request::get_config, copy_of(config)},
      {Request::set_config, copy_of(config)},
      {Request::get_inflight_fd, copy_of(inflight)},
      {Request::set_inflight_fd, copy_of(inflight)},
  };
  for (const auto& [request, payload] : messages) {
    const auto front_end = attacker(false);
    ASSERT_TRUE(front_end->send(message_of(static_cast<std::uint32_t>(request), payload)).has_value());
    EXPECT_FALSE(front_end->receive().has_value()) << "request " << static_cast<unsigned>(request);
  }
}

TEST_F(HostileTest, AnErrorThatIsAskedForIsAnswered) {
  const auto front_end = attacker(false);
  EXPECT_FALSE(front_end->tell(Request::set_vring_num, bytes_of(VringState{0, 3})).has_value());
  EXPECT_TRUE(front_end->tell(Request::set_vring_num, bytes_of(VringState{0, 4})).has_value())
      << "and the connection goes on";
}

TEST_F(HostileTest, RefusesMessagesThatAreTooLongOrOfAnotherVersion) {
  for (const MessageHeader header :
       {MessageHeader{1, kVersion, 100'000}, MessageHeader{1, kVersion, 0xffffffff}, MessageHeader{1, 0, 0}}) {
    const auto front_end = attacker(false);
    ASSERT_EQ(::send(front_end->socket(), &header, sizeof(header), MSG_NOSIGNAL), static_cast<ssize_t>(sizeof(header)));
    EXPECT_FALSE(front_end->receive().has_value());
  }
}

TEST_F(HostileTest, RingsOutsideTheMemoryDoNotStart) {
  const auto front_end = attacker();
  ASSERT_TRUE(front_end->stop(0).has_value());
  for (const std::uint64_t address :
       {std::uint64_t{0}, ~std::uint64_t{0} - 16, front_end->addresses(0).used + front_end->region().size}) {
    VringAddress addresses = front_end->addresses(0);
    addresses.used = address;
    ASSERT_TRUE(front_end->tell(Request::set_vring_addr, bytes_of(addresses)).has_value());
    const UniqueFd kick(::open("/dev/null", O_RDWR | O_CLOEXEC));
    EXPECT_FALSE(front_end->tell(Request::set_vring_kick, bytes_of(std::uint64_t{0}), kick.get()).has_value());
  }
}

TEST_F(HostileTest, ARunningRingThatLosesItsMemoryStops) {
  const auto front_end = attacker();
  BlockDriver driver(*front_end, 0, 4, kBlock);
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
  const SingleRegion region{0, front_end->region()};
  EXPECT_FALSE(front_end->tell(Request::rem_mem_reg, bytes_of(region)).has_value()) << "its ring has no memory now";
  ASSERT_TRUE(driver.start(0, VIRTIO_BLK_T_IN, 0, kBlock));
  driver.kick();
  EXPECT_FALSE(driver.wait(100ms).has_value());
  EXPECT_TRUE(front_end->tell(Request::add_mem_reg, bytes_of(region), front_end->memory_fd()).has_value());
}

TEST_F(HostileTest, MemoryRegionsMayNotOverlap) {
  const auto front_end = attacker();
  SingleRegion region{0, front_end->region()};
  region.region.guest_address += kBlock;
  EXPECT_FALSE(front_end->tell(Request::add_mem_reg, bytes_of(region), front_end->memory_fd()).has_value());
}

TEST_F(HostileTest, AnInflightRegionThatLiesIsNotBelieved) {
  FrontEndOptions options;
  options.inflight = false;
  const InflightDescription description{InflightRing::bytes(128), 0, 1, 128, 0};
  for (const int lie : {0x01, 0xff}) {
    const auto front_end = attacker(false, options);
    const UniqueFd memory(::memfd_create("inflight", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(memory.get(), static_cast<off_t>(description.size)), 0);
    auto mapping = SharedMapping::map(memory.get(), 0, description.size);
    ASSERT_TRUE(mapping.has_value());
    std::memset(mapping->data(), lie, description.size);  // with 1, every descriptor claims to be in flight
    EXPECT_TRUE(front_end->tell(Request::set_inflight_fd, bytes_of(description), memory.get()).has_value());
    EXPECT_TRUE(front_end->start().has_value());
    EXPECT_TRUE(front_end->stop(0).has_value());
  }
}

TEST_F(HostileTest, AnInflightRegionSmallerThanTheRingIsRefused) {
  FrontEndOptions options;
  options.inflight = false;
  const auto front_end = attacker(false, options);
  const InflightDescription description{InflightRing::bytes(16), 0, 1, 16, 0};
  const UniqueFd memory(::memfd_create("inflight", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memory.get(), static_cast<off_t>(description.size)), 0);
  EXPECT_TRUE(front_end->tell(Request::set_inflight_fd, bytes_of(description), memory.get()).has_value());
  EXPECT_FALSE(front_end->start().has_value());
}

TEST_F(HostileTest, NobodyReadsTheAnswers) {
  const auto front_end = attacker(false);
  Message message;
  message.header = {static_cast<std::uint32_t>(Request::get_features), kVersion, 0};
  for (int i = 0; i < 20'000; ++i)
    if (!front_end->send(message)) break;
}

}  // namespace
}  // namespace aiolos::engine
