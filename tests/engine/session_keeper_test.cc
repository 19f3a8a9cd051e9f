// SPDX-License-Identifier: Apache-2.0
// Disks whose daemon ends and comes again under a service manager that keeps their sessions. The manager is ours.
#include "session_keeper.h"

#include <gmock/gmock.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>

#include "aiolos/core/json.h"
#include "refused_calls.h"
#include "served.h"

namespace aiolos::engine {
namespace {

using namespace std::chrono_literals;
using testing::IsEmpty;
using testing::SizeIs;

bool is_same(const UniqueFd& one, const UniqueFd& other) {
  return ::syscall(SYS_kcmp, ::getpid(), ::getpid(), KCMP_FILE, one.get(), other.get()) == 0;
}

bool is_socket(const UniqueFd& fd) {
  struct stat status {};
  return ::fstat(fd.get(), &status) == 0 && S_ISSOCK(status.st_mode);
}

/// Does what systemd does with FDSTORE=1 and FDSTOREREMOVE=1, which keeps no open file twice.
class Manager {
 public:
  explicit Manager(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    address_.sun_family = AF_UNIX;
    path.copy(address_.sun_path, sizeof(address_.sun_path) - 1);
    if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof(address_)) != 0)
      throw std::runtime_error("bind " + path);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    thread_ = std::thread([this] { serve(); });
  }
  ~Manager() {
    ::unsetenv("NOTIFY_SOCKET");
    ::shutdown(socket_.get(), SHUT_RD);
    thread_.join();
  }

  std::map<std::string, int> kept() {
    const std::lock_guard lock(mutex_);
    std::map<std::string, int> found;
    for (const auto& [name, fd] : kept_) found[name] = fd.get();
    return found;
  }

  /// Returns when it has done all that it has been sent. @return false if it does not come to it.
  bool catch_up() {
    const UniqueFd sender(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const int before = marks_;
    if (::sendto(sender.get(), "MARK", 4, 0, reinterpret_cast<const sockaddr*>(&address_), sizeof(address_)) != 4)
      return false;
    for (int i = 0; i < 5000 && marks_ == before; ++i) std::this_thread::sleep_for(1ms);
    return marks_ > before;
  }

  /// What a new process is given.
  std::vector<NamedDescriptor> give() {
    std::vector<NamedDescriptor> given;
    for (const auto& [name, fd] : kept()) given.push_back({name, UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0))});
    return given;
  }

 private:
  void serve() {
    for (;;) {
      std::array<char, 4096> text{};
      alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
      iovec part{text.data(), text.size()};
      msghdr header{};
      header.msg_iov = &part;
      header.msg_iovlen = 1;
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      const ssize_t got = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
      if (got <= 0) return;
      UniqueFd fd;
      for (cmsghdr* each = CMSG_FIRSTHDR(&header); each; each = CMSG_NXTHDR(&header, each))
        if (each->cmsg_type == SCM_RIGHTS) {
          int number = -1;
          std::memcpy(&number, CMSG_DATA(each), sizeof(number));
          fd.reset(number);
        }
      const std::string_view said(text.data(), static_cast<std::size_t>(got));
      if (said == "MARK") {
        ++marks_;
        continue;
      }
      const std::string name(said.substr(said.find("FDNAME=") + 7));
      const std::lock_guard lock(mutex_);
      if (said.starts_with("FDSTOREREMOVE=1"))
        kept_.erase(name);
      else if (!std::any_of(kept_.begin(), kept_.end(), [&](const auto& each) { return is_same(each.second, fd); }))
        kept_[name] = std::move(fd);
    }
  }

  sockaddr_un address_{};
  UniqueFd socket_;
  std::atomic<int> marks_{0};
  std::mutex mutex_;
  std::map<std::string, UniqueFd> kept_;
  std::thread thread_;
};

/// A daemon with one disk, as often as it is started.
class SessionKeeperTest : public testing::TestWithParam<AioMode> {
 protected:
  void start() { start(manager_.give()); }
  void start(std::vector<NamedDescriptor> given) {
    store_.emplace(std::move(given));
    sessions_ = take_kept_sessions(*store_);
    served_.emplace(256, &*store_);
    DiskSettings settings;
    settings.path = path_;
    settings.socket = socket_;
    settings.name = "disk";
    settings.aio = GetParam();
    std::optional<KeptSession> kept;
    if (!sessions_.empty()) kept = std::move(sessions_.front());
    statistics_ = served_->add(settings, std::move(kept));
  }
  void end() {
    served_.reset();
    store_.reset();
  }

  bool is_kept() {
    const auto kept = manager_.kept();
    return std::any_of(kept.begin(), kept.end(),
                       [](const auto& each) { return each.first.starts_with("aiolos-session-"); });
  }
  bool nothing_is_kept() {
    return eventually([&] { return manager_.kept().empty(); });
  }

  static bool is_over(const FrontEnd& front_end) {
    pollfd poll{front_end.socket(), POLLIN, 0};
    return ::poll(&poll, 1, 5000) == 1 && (poll.revents & POLLHUP) != 0;
  }

  Folder folder_;
  Manager manager_{folder_ / "notify"};
  std::string path_ = folder_.file("disk", 64 * kBlock);
  const std::string socket_ = folder_ / "sock";
  std::optional<DescriptorStore> store_;
  std::vector<KeptSession> sessions_;
  std::optional<Served> served_;
  std::shared_ptr<DiskStatistics> statistics_;
};

INSTANTIATE_TEST_SUITE_P(Modes, SessionKeeperTest,
                         testing::Values(AioMode::threads, AioMode::native, AioMode::io_uring),
                         [](const auto& mode) { return std::string(to_string(mode.param)); });

TEST_P(SessionKeeperTest, TheNextProcessGoesOnWithTheSameConnection) {
  start();
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 4, kBlock);
  for (unsigned round = 0; round < 5; ++round) {
    ASSERT_EQ(driver.run(VIRTIO_BLK_T_OUT, round * kSectors, kBlock), VIRTIO_BLK_S_OK);
    end();
    start();
    EXPECT_EQ(statistics_->connected.get(), 1U);
  }
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
  EXPECT_TRUE(front_end->stop(0).has_value()) << "messages are answered, too";
}

TEST_P(SessionKeeperTest, WhatWasInFlightIsDoneOnce) {
  const SlowFile slow(folder_, 64 * kBlock, "delay 30000");
  path_ = slow.path();
  start();
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 32, kBlock);
  for (unsigned slot = 0; slot < 32; ++slot) ASSERT_TRUE(driver.start(slot, VIRTIO_BLK_T_OUT, slot * kSectors, kBlock));
  driver.kick();
  std::this_thread::sleep_for(10ms);
  const auto before = statistics_;
  end();
  start();
  for (int i = 0; i < 32; ++i) ASSERT_TRUE(driver.wait().has_value()) << "request " << i;
  EXPECT_FALSE(driver.wait(50ms).has_value()) << "nothing comes twice";
  EXPECT_EQ(before->pops.get() + statistics_->pops.get(), 32U);
}

TEST_P(SessionKeeperTest, AnAnswerThatIsDueIsGivenByTheNextProcess) {
  const SlowFile slow(folder_, 64 * kBlock, "delay 300000");
  path_ = slow.path();
  start();
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 4, kBlock);
  ASSERT_TRUE(driver.start(0, VIRTIO_BLK_T_OUT, 0, kBlock));
  driver.kick();
  ASSERT_TRUE(eventually([&] { return statistics_->pops.get() == 1; }));
  Message stop;
  stop.header = {static_cast<std::uint32_t>(Request::get_vring_base), kVersion, 0};
  const VringState ring{0, 0};
  stop.append(&ring, sizeof(ring));
  ASSERT_TRUE(front_end->send(stop).has_value());
  std::vector<NamedDescriptor> of_killed;
  ASSERT_TRUE(eventually([&] {
    of_killed = manager_.give();
    DescriptorStore store(manager_.give());
    const auto sessions = take_kept_sessions(store);
    return sessions.size() == 1 && SessionRecord::waits(sessions[0].record.entries().rbegin()->first);
  })) << "it is kept as long as requests are waited for";
  end();  // which answers: nobody kills this one
  ASSERT_TRUE(front_end->receive().has_value());
  start(std::move(of_killed));
  const auto answer = front_end->receive();
  ASSERT_TRUE(answer.has_value()) << "of one that was killed, the next one answers";
  EXPECT_EQ(answer->request(), Request::get_vring_base);
  EXPECT_EQ(answer->as<VringState>().number, 1U);
}

TEST_P(SessionKeeperTest, ARingThatWasTakenAwayIsNotTouchedByTheNextProcess) {
  start();
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 4, kBlock);
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_OUT, 0, kBlock), VIRTIO_BLK_S_OK);
  for (int round = 0; round < 10; ++round) {
    ASSERT_TRUE(front_end->stop(0).has_value());
    ASSERT_TRUE(manager_.catch_up());
    DescriptorStore store(manager_.give());
    const auto sessions = take_kept_sessions(store);
    ASSERT_THAT(sessions, SizeIs(1));
    for (const auto& [key, entry] : sessions[0].record.entries())
      ASSERT_NE(entry.message.request(), Request::set_vring_kick) << "it would run again, in round " << round;
    ASSERT_TRUE(front_end->start().has_value());
  }
}

TEST_P(SessionKeeperTest, AKickThatIsGivenAgainIsStillKept) {
  start();
  const auto front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 4, kBlock);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(front_end->stop(0).has_value());
    if (round == 1) std::this_thread::sleep_for(100ms);  // until the ring without its kick is saved
    ASSERT_TRUE(front_end->start().has_value());
    end();
    start();
    ASSERT_EQ(driver.run(VIRTIO_BLK_T_OUT, 0, kBlock), VIRTIO_BLK_S_OK) << "in round " << round;
  }
}

TEST_P(SessionKeeperTest, AFrontEndThatGoesLeavesNothing) {
  start();
  auto front_end = connect(socket_);
  ASSERT_TRUE(eventually([&] { return is_kept(); }));
  front_end.reset();
  EXPECT_TRUE(nothing_is_kept()) << testing::PrintToString(manager_.kept());
}

TEST_P(SessionKeeperTest, AFrontEndSeesThatItsDiskIsRemoved) {
  start();
  const auto front_end = connect(socket_);
  ASSERT_TRUE(eventually([&] { return is_kept(); }));
  served_->reactor().remove("disk", [] {});
  EXPECT_TRUE(is_over(*front_end)) << "though the manager has the socket open";
  EXPECT_TRUE(nothing_is_kept()) << testing::PrintToString(manager_.kept());
}

TEST_P(SessionKeeperTest, ASessionWhoseRingsDoNotRunYetIsKept) {
  start();
  auto front_end = FrontEnd::connect(socket_);  // QEMU on the destination of a migration, until the guest has come
  ASSERT_TRUE(front_end.has_value());
  ASSERT_TRUE(eventually([&] { return is_kept(); }));
  end();
  start();
  ASSERT_TRUE((*front_end)->start().has_value());
  BlockDriver driver(**front_end, 0, 1, kBlock);
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_OUT, 0, kBlock), VIRTIO_BLK_S_OK);
  EXPECT_EQ(statistics_->connections.get(), 1U) << "it is the same connection";
}

TEST_P(SessionKeeperTest, WithoutAnInflightRegionNothingIsKept) {
  start();
  FrontEndOptions options;
  options.inflight = false;
  const auto front_end = connect(socket_, options);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  ASSERT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK);
  end();
  EXPECT_THAT(manager_.kept(), IsEmpty());
  EXPECT_TRUE(is_over(*front_end));
}

TEST_P(SessionKeeperTest, ASessionThatLacksSomethingIsDiscarded) {
  start();
  const auto front_end = connect(socket_);
  ASSERT_TRUE(eventually([&] { return is_kept(); }));
  end();
  const auto all = manager_.kept();
  ASSERT_GE(all.size(), 6U) << "a socket, a record, memory, a kick, a call and an inflight region";
  for (const auto& [missing, fd] : all) {
    auto given = manager_.give();
    std::erase_if(given, [&](const NamedDescriptor& each) { return each.name == missing; });
    for (NamedDescriptor& each : given)  // not the front end's own: it would be shut down
      if (is_socket(each.fd)) each.fd.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    DescriptorStore store(std::move(given));
    EXPECT_THAT(take_kept_sessions(store), IsEmpty()) << missing;
    EXPECT_THAT(store.names("fd"), IsEmpty()) << missing;
    EXPECT_THAT(store.names("session"), IsEmpty()) << missing;
  }
}

TEST_P(SessionKeeperTest, ARecordThatMakesNoSenseIsDiscarded) {
  const Json::binary_t two({1, 2});
  const Json records[] = {
      Json::array(),
      {{"disk", 7}},
      {{"disk", "disk"}, {"socket", "aiolos-fd-9"}, {"messages", Json::array()}},
      {{"disk", "disk"}, {"socket", "aiolos-fd-1"}, {"messages", 7}},
      {{"disk", "disk"}, {"socket", "aiolos-fd-1"}, {"messages", {{{"request", 2}}}}},
      {{"disk", "disk"}, {"socket", "aiolos-fd-1"}, {"messages", {{{"request", 4711}, {"payload", two}}}}},
      {{"disk", "disk"},
       {"socket", "aiolos-fd-1"},
       {"messages", {{{"request", 2}, {"payload", Json::binary(std::vector<std::uint8_t>(4096))}}}}},
  };
  for (const Json& record : records) {
    const std::vector<std::uint8_t> bytes = Json::to_cbor(record);
    UniqueFd file(::memfd_create("record", MFD_CLOEXEC));
    ASSERT_TRUE(write_all(file.get(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
    std::vector<NamedDescriptor> given;
    given.push_back({"aiolos-session-0", std::move(file)});
    given.push_back({"aiolos-fd-1", UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))});
    DescriptorStore store(std::move(given));
    EXPECT_THAT(take_kept_sessions(store), IsEmpty()) << record;
    EXPECT_THAT(store.names("fd"), IsEmpty()) << record;
  }
}

TEST_P(SessionKeeperTest, ASessionThatCannotBeMadeAgainEndsAlone) {
  start();
  auto front_end = connect(socket_);
  ASSERT_TRUE(eventually([&] { return is_kept(); }));
  served_.reset();
  store_.emplace(manager_.give());
  std::vector<KeptSession> sessions = take_kept_sessions(*store_);
  ASSERT_THAT(sessions, SizeIs(1));
  Message odd;
  odd.header = {static_cast<std::uint32_t>(Request::set_vring_num), kVersion, 0};
  const VringState three{0, 3};
  odd.append(&three, sizeof(three));
  sessions[0].record.note(std::move(odd));
  served_.emplace(256, &*store_);
  DiskSettings settings;
  settings.path = path_;
  settings.socket = socket_;
  settings.name = "disk";
  served_->add(settings, std::move(sessions[0]));
  EXPECT_TRUE(is_over(*front_end));
  EXPECT_TRUE(nothing_is_kept()) << testing::PrintToString(manager_.kept());
  front_end = connect(socket_);
  BlockDriver driver(*front_end, 0, 1, kBlock);
  EXPECT_EQ(driver.run(VIRTIO_BLK_T_IN, 0, kBlock), VIRTIO_BLK_S_OK) << "the disk is served all the same";
}

class DescriptorStoreTest : public testing::Test {
 protected:
  Folder folder_;
  Manager manager_{folder_ / "notify"};
};

TEST_F(DescriptorStoreTest, KeepsAnOpenFileOnceForAllItsUsers) {
  DescriptorStore store({});
  const UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
  const UniqueFd same(::dup(file.get()));
  const UniqueFd other(::memfd_create("file", MFD_CLOEXEC));
  const std::string name = store.put(file.get(), "fd");
  EXPECT_EQ(store.put(same.get(), "fd"), name);
  EXPECT_NE(store.put(other.get(), "fd"), name);
  EXPECT_TRUE(store.use(name));
  EXPECT_TRUE(eventually([&] { return manager_.kept().size() == 2; }));
  store.release(name);
  store.release(name);
  EXPECT_TRUE(store.use(name)) << "one user was left";
  store.release(name);
  store.release(name);
  EXPECT_FALSE(store.use(name));
  EXPECT_TRUE(eventually([&] { return manager_.kept().size() == 1; }));
}

TEST_F(DescriptorStoreTest, SaysWhyItIsNotPossible) {
  EXPECT_TRUE(DescriptorStore::is_possible());
  testing::internal::CaptureStderr();
  in_thread([] {
    deny(SYS_kcmp, EPERM);
    EXPECT_FALSE(DescriptorStore::is_possible());
  });
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("kcmp(2)"));
}

TEST_F(DescriptorStoreTest, GivesNewNamesBehindTheKeptOnes) {
  std::vector<NamedDescriptor> kept;
  kept.push_back({"aiolos-fd-41", UniqueFd(::memfd_create("file", MFD_CLOEXEC))});
  kept.push_back({"somebody's", UniqueFd(::memfd_create("file", MFD_CLOEXEC))});
  DescriptorStore store(std::move(kept));
  const UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
  EXPECT_EQ(store.put(file.get(), "fd"), "aiolos-fd-42");
  EXPECT_FALSE(store.use("somebody's"));
  store.release_unused();
  EXPECT_THAT(store.names("fd"), testing::ElementsAre(testing::Pair(42, "aiolos-fd-42")));
}

}  // namespace
}  // namespace aiolos::engine
