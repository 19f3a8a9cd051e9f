// SPDX-License-Identifier: Apache-2.0
#include "session_record.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <vector>

namespace aiolos::engine {
namespace {

using testing::ElementsAre;

UniqueFd some_file() { return UniqueFd(::memfd_create("some", MFD_CLOEXEC)); }
ino_t inode(const UniqueFd& fd) {
  struct stat status {};
  ::fstat(fd.get(), &status);
  return status.st_ino;
}

Message message_of(Request request) {
  Message message;
  message.header = {static_cast<std::uint32_t>(request), kVersion | kNeedReply, 0};
  return message;
}
template <typename Payload>
Message message_of(Request request, const Payload& payload) {
  Message message = message_of(request);
  message.append(&payload, sizeof(payload));
  return message;
}
template <typename Payload>
Message message_of(Request request, const Payload& payload, UniqueFd fd) {
  Message message = message_of(request, payload);
  message.fds.push_back(std::move(fd));
  return message;
}

std::vector<Request> requests(const SessionRecord& record) {
  std::vector<Request> found;
  for (const auto& [key, entry] : record.entries()) found.push_back(entry.message.request());
  return found;
}

TEST(SessionRecordTest, RingsThatRunNeedAnInflightRegion) {
  SessionRecord record;
  EXPECT_TRUE(record.resumable());
  record.note(message_of(Request::set_vring_kick, std::uint64_t{0}, some_file()));
  EXPECT_FALSE(record.resumable());
  record.note(message_of(Request::get_vring_base, VringState{0, 0}));
  EXPECT_TRUE(record.resumable());
  record.note(message_of(Request::set_inflight_fd, InflightDescription{}, some_file()));
  record.note(message_of(Request::set_vring_kick, std::uint64_t{0}, some_file()));
  EXPECT_TRUE(record.resumable());
}

TEST(SessionRecordTest, AMessageThatWaitsIsTheLastUntilItIsAnswered) {
  SessionRecord record;
  record.defer(message_of(Request::get_vring_base, VringState{0, 0}));
  record.note(message_of(Request::set_vring_enable, VringState{0, 1}));
  EXPECT_THAT(requests(record), ElementsAre(Request::set_vring_enable, Request::get_vring_base));
  EXPECT_TRUE(record.entries().rbegin()->second.message.need_reply()) << "as it came";
  EXPECT_TRUE(SessionRecord::waits(record.entries().rbegin()->first));
  record.answered();
  EXPECT_THAT(requests(record), ElementsAre(Request::set_vring_enable));
}

TEST(SessionRecordTest, GivesMessagesInTheOrderInWhichASessionTakesThem) {
  SessionRecord record;
  EXPECT_TRUE(record.note(message_of(Request::set_vring_call, std::uint64_t{0}, some_file())));
  EXPECT_TRUE(record.note(message_of(Request::set_vring_enable, VringState{0, 1})));
  EXPECT_TRUE(record.note(message_of(Request::set_vring_kick, std::uint64_t{0}, some_file())));
  EXPECT_TRUE(record.note(message_of(Request::set_vring_addr, VringAddress{})));
  EXPECT_TRUE(record.note(message_of(Request::set_vring_num, VringState{0, 128})));
  EXPECT_FALSE(record.resumable());
  EXPECT_TRUE(record.note(message_of(Request::set_inflight_fd, InflightDescription{}, some_file())));
  EXPECT_TRUE(record.resumable());
  EXPECT_TRUE(record.note(message_of(Request::add_mem_reg, SingleRegion{}, some_file())));
  EXPECT_TRUE(record.note(message_of(Request::set_features, std::uint64_t{7})));
  EXPECT_THAT(requests(record), ElementsAre(Request::set_features, Request::add_mem_reg, Request::set_inflight_fd,
                                            Request::set_vring_num, Request::set_vring_addr, Request::set_vring_kick,
                                            Request::set_vring_call, Request::set_vring_enable));
}

TEST(SessionRecordTest, NotesOnlyWhatMakesState) {
  SessionRecord record;
  for (const Request request : {Request::get_features, Request::get_config, Request::set_owner, Request::get_queue_num,
                                Request::get_inflight_fd, Request::get_max_mem_slots})
    EXPECT_FALSE(record.note(message_of(request, InflightDescription{})));
  EXPECT_TRUE(record.entries().empty());
}

TEST(SessionRecordTest, KeepsTheLastWordOnEachRing) {
  SessionRecord record;
  record.note(message_of(Request::set_vring_num, VringState{0, 128}));
  record.note(message_of(Request::set_vring_num, VringState{1, 128}));
  record.note(message_of(Request::set_vring_num, VringState{0, 256}));
  std::vector<std::uint32_t> sizes;
  for (const auto& [key, entry] : record.entries()) {
    sizes.push_back(entry.message.as<VringState>().number);
    EXPECT_FALSE(entry.message.need_reply()) << "nobody waits for an answer when it is played again";
  }
  EXPECT_THAT(sizes, ElementsAre(256, 128));
}

TEST(SessionRecordTest, ARingThatWasTakenBackDoesNotRun) {
  SessionRecord record;
  record.note(message_of(Request::set_vring_kick, std::uint64_t{0}, some_file()));
  record.note(message_of(Request::set_vring_kick, std::uint64_t{1}, some_file()));
  EXPECT_TRUE(record.note(message_of(Request::get_vring_base, VringState{0, 0})));
  EXPECT_FALSE(record.note(message_of(Request::get_vring_base, VringState{0, 0})));
  ASSERT_EQ(record.entries().size(), 1U);
  EXPECT_EQ(record.entries().begin()->second.message.as<std::uint64_t>(), 1U);
}

TEST(SessionRecordTest, AMemoryTableIsItsRegions) {
  SessionRecord record;
  record.note(message_of(Request::add_mem_reg, SingleRegion{0, {0x9000, 0x1000, 0, 0}}, some_file()));
  struct {
    MemTableHeader header{2, 0};
    MemoryRegion regions[2]{{0x4000, 0x1000, 0x70000, 0x20}, {0x0, 0x4000, 0x60000, 0x10}};
  } table;
  Message message = message_of(Request::set_mem_table, table);
  UniqueFd high = some_file();
  UniqueFd low = some_file();
  const auto inodes = std::pair(inode(low), inode(high));
  message.fds.push_back(std::move(high));
  message.fds.push_back(std::move(low));
  EXPECT_TRUE(record.note(std::move(message)));
  ASSERT_THAT(requests(record), ElementsAre(Request::add_mem_reg, Request::add_mem_reg));
  const auto& first = record.entries().begin()->second.message;
  const auto& second = record.entries().rbegin()->second.message;
  EXPECT_EQ(first.as<SingleRegion>().region.user_address, 0x60000U);
  EXPECT_EQ(second.as<SingleRegion>().region.mmap_offset, 0x20U);
  EXPECT_EQ(std::pair(inode(first.fds.at(0)), inode(second.fds.at(0))), inodes);
  EXPECT_TRUE(record.note(message_of(Request::rem_mem_reg, SingleRegion{0, {0x4000, 0x1000, 0x70000, 0x20}})));
  EXPECT_EQ(record.entries().size(), 1U);
}

TEST(SessionRecordTest, ACopyHasDescriptorsOfItsOwn) {
  const Message original = message_of(Request::set_vring_kick, std::uint64_t{3}, some_file());
  const Message copy = copy_of(original);
  EXPECT_EQ(copy.as<std::uint64_t>(), 3U);
  ASSERT_EQ(copy.fds.size(), 1U);
  EXPECT_NE(copy.fds[0].get(), original.fds[0].get());
  EXPECT_EQ(inode(copy.fds[0]), inode(original.fds[0]));
  EXPECT_NE(::fcntl(copy.fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
}

}  // namespace
}  // namespace aiolos::engine
