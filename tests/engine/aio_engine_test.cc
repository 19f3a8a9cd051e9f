// SPDX-License-Identifier: Apache-2.0
// One suite for all AIO modes, and what only one of them can do wrong.
#include "aio_engine.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "refused_calls.h"
#include "storage.h"

namespace aiolos::engine {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

/// Memory that O_DIRECT accepts, filled with one byte.
class Buffer {
 public:
  explicit Buffer(std::size_t size, char fill = 0)
      : data_(static_cast<char*>(std::aligned_alloc(kBlock, (size + kBlock - 1) / kBlock * kBlock)), &std::free),
        size_(size) {
    std::memset(data_.get(), fill, size);
  }
  char* data() const { return data_.get(); }
  std::string_view view() const { return {data_.get(), size_}; }
  iovec vector() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<char, decltype(&std::free)> data_;
  std::size_t size_;
};

/// A request with one buffer.
struct Transfer {
  Transfer(Operation operation, int fd, std::uint64_t offset, std::size_t size, char fill = 0)
      : buffer(size, fill), vector(buffer.vector()) {
    request.operation = operation;
    request.fd = fd;
    request.offset = offset;
    request.length = size;
    request.buffers = {&vector, 1};
  }
  Transfer(const Transfer&) = delete;
  Buffer buffer;
  iovec vector;
  IoRequest request;
};

/// Waits for `count` requests as a reactor does: on the engine's descriptor, edge by edge.
std::vector<IoRequest*> wait_for(AioEngine& engine, std::size_t count, std::chrono::seconds deadline = 20s) {
  std::vector<IoRequest*> all;
  std::array<IoRequest*, 16> done;
  const auto end = steady_clock::now() + deadline;
  while (all.size() < count && steady_clock::now() < end) {
    const std::size_t got = engine.reap(done);
    all.insert(all.end(), done.begin(), done.begin() + static_cast<std::ptrdiff_t>(got));
    pollfd poll{engine.event_fd(), POLLIN, 0};
    if (got == 0) ::poll(&poll, 1, 50);
  }
  return all;
}

/// Submits one request and waits for its result.
int run(AioEngine& engine, IoRequest& request) {
  IoRequest* one = &request;
  if (engine.submit({&one, 1}) != 1) return 1;
  const auto done = wait_for(engine, 1);
  return done.size() == 1 && done[0] == &request ? request.result : 2;
}

class AioEngineTest : public testing::TestWithParam<AioMode> {
 protected:
  std::unique_ptr<AioEngine> make(unsigned limit) {
    auto engine = make_aio_engine(GetParam(), limit);
    if (!engine) throw std::runtime_error(describe(engine.error()));
    return std::move(*engine);
  }
  Folder folder_;
};

INSTANTIATE_TEST_SUITE_P(Modes, AioEngineTest, testing::Values(AioMode::threads, AioMode::native, AioMode::io_uring),
                         [](const auto& mode) { return std::string(to_string(mode.param)); });

TEST_P(AioEngineTest, ReadsBackWhatItWrote) {
  const UniqueFd fd = open_file(folder_.file("disk", 64 * kBlock), O_RDWR | O_DIRECT);
  const auto engine = make(64);
  engine->remember(fd.get());
  std::vector<std::unique_ptr<Transfer>> writes;
  std::vector<IoRequest*> batch;
  for (int i = 0; i < 64; ++i) {
    writes.push_back(
        std::make_unique<Transfer>(Operation::write, fd.get(), i * kBlock, kBlock, static_cast<char>('A' + i % 26)));
    writes.back()->request.durable = i % 2 == 0;
    batch.push_back(&writes.back()->request);
  }
  ASSERT_EQ(engine->submit(batch), 64U);
  EXPECT_EQ(engine->in_flight(), 64U);
  ASSERT_EQ(wait_for(*engine, 64).size(), 64U);
  EXPECT_EQ(engine->in_flight(), 0U);
  engine->forget(fd.get());
  for (const auto& write : writes) {
    EXPECT_EQ(write->request.result, 0);
    Transfer read(Operation::read, fd.get(), write->request.offset, kBlock);
    ASSERT_EQ(run(*engine, read.request), 0);
    EXPECT_EQ(read.buffer.view(), write->buffer.view());
  }
}

TEST_P(AioEngineTest, TakesNoMoreThanTheLimit) {
  const UniqueFd fd = open_file(folder_.file("disk", kBlock), O_RDWR | O_DIRECT);
  const auto engine = make(3);
  std::vector<std::unique_ptr<Transfer>> reads;
  std::vector<IoRequest*> batch;
  for (int i = 0; i < 8; ++i) {
    reads.push_back(std::make_unique<Transfer>(Operation::read, fd.get(), 0, kBlock));
    batch.push_back(&reads.back()->request);
  }
  EXPECT_EQ(engine->submit(batch), 3U);
  EXPECT_EQ(engine->submit(std::span(batch).subspan(3)), 0U);
  EXPECT_THAT(wait_for(*engine, 3), testing::UnorderedElementsAre(batch[0], batch[1], batch[2]));
  EXPECT_EQ(engine->submit(std::span(batch).subspan(3)), 3U);
  EXPECT_EQ(wait_for(*engine, 3).size(), 3U);
}

TEST_P(AioEngineTest, ScattersAndGathersMoreBuffersThanOneCallTakes) {
  constexpr std::size_t kBuffers = 1500;  // IOV_MAX is 1024
  const UniqueFd fd = open_file(folder_.file("disk", kBuffers * 512));
  const auto engine = make(4);
  Buffer content(kBuffers * 512);
  for (std::size_t i = 0; i < kBuffers; ++i) std::memset(content.data() + i * 512, static_cast<int>(i % 251), 512);
  std::vector<iovec> pieces;
  for (std::size_t i = 0; i < kBuffers; ++i) pieces.push_back({content.data() + i * 512, 512});
  IoRequest write{.operation = Operation::write, .fd = fd.get(), .length = kBuffers * 512, .buffers = pieces};
  ASSERT_EQ(run(*engine, write), 0);
  Transfer read(Operation::read, fd.get(), 0, kBuffers * 512);
  ASSERT_EQ(run(*engine, read.request), 0);
  EXPECT_TRUE(read.buffer.view() == content.view());
}

TEST_P(AioEngineTest, GoesOnWhereTheKernelCutsHugeTransfers) {
  constexpr std::size_t kPiece = 64U << 20, kPieces = 40;  // 2.5 GiB; one call moves at most 2 GiB - 4 KiB
  const UniqueFd fd = open_file(folder_.file("sparse", kPiece * kPieces + kBlock), O_RDWR | O_DIRECT);
  const Buffer tail(kBlock, 'e');
  ASSERT_EQ(::pwrite(fd.get(), tail.data(), kBlock, static_cast<off_t>(kPiece * kPieces)),
            static_cast<ssize_t>(kBlock));
  const auto engine = make(2);
  const Buffer piece(kPiece, 'x');
  const Buffer end(kBlock);
  std::vector<iovec> pieces(kPieces, piece.vector());
  pieces.push_back(end.vector());
  IoRequest read{.fd = fd.get(), .length = kPiece * kPieces + kBlock, .buffers = pieces};
  EXPECT_EQ(run(*engine, read), 0);
  EXPECT_EQ(end.view(), tail.view());
  EXPECT_EQ(piece.view().find_first_not_of('\0'), std::string_view::npos);
}

TEST_P(AioEngineTest, ReadingOverTheEndIsAnError) {
  const UniqueFd fd = open_file(folder_.file("disk", kBlock));
  const auto engine = make(2);
  Transfer over(Operation::read, fd.get(), 0, 2 * kBlock);
  EXPECT_EQ(run(*engine, over.request), -EIO);
  Transfer within(Operation::read, fd.get(), 0, kBlock);
  EXPECT_EQ(run(*engine, within.request), 0);
}

TEST_P(AioEngineTest, RefusesMisalignedDirectRequestsAlone) {
  const UniqueFd fd = open_file(folder_.file("disk", 4 * kBlock), O_RDWR | O_DIRECT);
  const auto engine = make(4);
  Transfer memory(Operation::write, fd.get(), 0, kBlock, 'm');
  Transfer offset(Operation::write, fd.get(), 100, kBlock, 'o');
  Transfer good(Operation::write, fd.get(), kBlock, kBlock, 'g');
  memory.vector = {memory.buffer.data() + 1, 512};
  memory.request.length = 512;
  std::array<IoRequest*, 3> batch{&memory.request, &offset.request, &good.request};
  ASSERT_EQ(engine->submit(batch), 3U);
  ASSERT_EQ(wait_for(*engine, 3).size(), 3U);
  EXPECT_THAT(memory.request.result, testing::AnyOf(-EINVAL, 0)) << "a device may ask for no alignment of memory";
  EXPECT_EQ(offset.request.result, -EINVAL);
  EXPECT_EQ(good.request.result, 0);
}

TEST_P(AioEngineTest, AFullFileSystemTakesWhatFitsAndThenFails) {
  const SmallFileSystem small(folder_, 5);
  const UniqueFd fd = open_file(small / "disk", O_RDWR | O_CREAT);
  const auto engine = make(2);
  Transfer write(Operation::write, fd.get(), 0, 16 * kBlock, 'w');
  EXPECT_EQ(run(*engine, write.request), -ENOSPC);
  EXPECT_GE(write.request.transferred, 3 * kBlock);
  Transfer read(Operation::read, fd.get(), 0, kBlock);
  ASSERT_EQ(run(*engine, read.request), 0);
  EXPECT_EQ(read.buffer.view(), write.buffer.view().substr(0, kBlock));
}

/// Short writes that go on are the file size limit's below: FUSE makes an error of them.
TEST_P(AioEngineTest, ShortReadsAreContinued) {
  SlowFile file(folder_, 64 * kBlock);
  const UniqueFd fd = open_file(file.path(), O_RDWR | O_DIRECT);
  const auto engine = make(4);
  Transfer write(Operation::write, fd.get(), kBlock, 16 * kBlock, 's');
  for (std::size_t i = 0; i < 16; ++i) write.buffer.data()[i * kBlock] = static_cast<char>(i);
  ASSERT_EQ(run(*engine, write.request), 0);
  file.control("short 8192");
  Transfer read(Operation::read, fd.get(), kBlock, 16 * kBlock);
  ASSERT_EQ(run(*engine, read.request), 0);
  EXPECT_TRUE(read.buffer.view() == write.buffer.view());
}

/// Keeps this process from writing files past a size, while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_P(AioEngineTest, AShortWriteIsContinuedUntilTheStorageSaysWhy) {
  const UniqueFd fd = open_file(folder_.file("disk", 0));
  const auto engine = make(4);
  Transfer write(Operation::write, fd.get(), 0, 4 * kBlock, 'w');
  {
    const FileSizeLimit limit(3 * kBlock);
    EXPECT_EQ(run(*engine, write.request), -EFBIG);
  }
  EXPECT_EQ(write.request.transferred, 3 * kBlock);
  EXPECT_EQ(run(*engine, write.request), 0) << "submitted again, a request begins anew";
}

TEST_P(AioEngineTest, AStorageErrorIsItsRequestsAlone) {
  const SlowFile file(folder_, 64 * kBlock, "fail 40960 5 delay 2000");
  const UniqueFd fd = open_file(file.path(), O_RDWR | O_DIRECT);
  const auto engine = make(32);
  std::vector<std::unique_ptr<Transfer>> reads;
  std::vector<IoRequest*> batch;
  for (int i = 0; i < 20; ++i) {
    reads.push_back(std::make_unique<Transfer>(Operation::read, fd.get(), i * kBlock, kBlock));
    batch.push_back(&reads.back()->request);
  }
  ASSERT_EQ(engine->submit(batch), 20U);
  ASSERT_EQ(wait_for(*engine, 20).size(), 20U);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(batch[i]->result, i == 10 ? -EIO : 0) << "read " << i;
}

TEST_P(AioEngineTest, FlushesDiscardsAndZeroes) {
  const UniqueFd fd = open_file(folder_.file("disk", 16 * kBlock), O_RDWR | O_DIRECT);
  const auto engine = make(4);
  Transfer write(Operation::write, fd.get(), 0, 16 * kBlock, 'w');
  ASSERT_EQ(run(*engine, write.request), 0);
  IoRequest flush{.operation = Operation::flush, .fd = fd.get()};
  EXPECT_EQ(run(*engine, flush), 0);
  IoRequest discard{.operation = Operation::discard, .fd = fd.get(), .offset = 0, .length = 4 * kBlock};
  EXPECT_EQ(run(*engine, discard), 0);
  IoRequest zero{.operation = Operation::write_zeroes, .fd = fd.get(), .offset = 8 * kBlock, .length = 4 * kBlock};
  EXPECT_EQ(run(*engine, zero), 0);
  Transfer read(Operation::read, fd.get(), 0, 16 * kBlock);
  ASSERT_EQ(run(*engine, read.request), 0);
  std::string expected(16 * kBlock, 'w');
  expected.replace(0, 4 * kBlock, 4 * kBlock, '\0');
  expected.replace(8 * kBlock, 4 * kBlock, 4 * kBlock, '\0');
  EXPECT_TRUE(read.buffer.view() == expected);
}

TEST_P(AioEngineTest, ABadDescriptorFailsItsRequestAlone) {
  const auto engine = make(4);
  Transfer bad(Operation::read, 9999, 0, kBlock);
  EXPECT_EQ(run(*engine, bad.request), -EBADF);
  EXPECT_EQ(engine->in_flight(), 0U);
}

TEST_P(AioEngineTest, NothingIsLostOrDoubledWhenResizedUnderLoad) {
  const SlowFile file(folder_, 64 * kBlock, "delay 300");
  const UniqueFd fd = open_file(file.path(), O_RDWR | O_DIRECT);
  const auto engine = make(1);
  std::vector<std::unique_ptr<Transfer>> transfers;
  std::vector<IoRequest*> idle;
  for (int i = 0; i < 256; ++i) {
    transfers.push_back(std::make_unique<Transfer>(Operation::read, fd.get(), i % 64 * kBlock, kBlock));
    idle.push_back(&transfers.back()->request);
  }
  std::mt19937 random(5);
  std::map<IoRequest*, int> started, finished;
  std::array<IoRequest*, 64> done;
  unsigned most = 0;
  const auto end = steady_clock::now() + 1500ms;
  while (steady_clock::now() < end || engine->in_flight() > 0) {
    if (random() % 50 == 0) {
      ASSERT_TRUE(engine->set_limit(1 + random() % 256).has_value());
    }
    if (steady_clock::now() < end) {
      const unsigned before = engine->in_flight();
      const std::size_t taken = engine->submit(idle);
      ASSERT_LE(before + taken, std::max(before, engine->limit()));
      most = std::max(most, engine->in_flight());
      for (std::size_t i = 0; i < taken; ++i) ++started[idle[i]];
      idle.erase(idle.begin(), idle.begin() + static_cast<std::ptrdiff_t>(taken));
    }
    const std::size_t count = engine->reap(done);
    for (IoRequest* request : std::span(done).first(count)) {
      EXPECT_EQ(request->result, 0);
      ++finished[request];
      idle.push_back(request);
    }
    ASSERT_LT(steady_clock::now(), end + 20s) << engine->in_flight() << " never came back";
  }
  EXPECT_EQ(started, finished);
  EXPECT_EQ(idle.size(), transfers.size());
  EXPECT_GT(most, 100U);
}

TEST_P(AioEngineTest, TheDestructorWaitsForWhatIsInFlight) {
  const SlowFile file(folder_, 4 * kBlock, "delay 100000");
  const UniqueFd fd = open_file(file.path(), O_RDWR | O_DIRECT);
  Transfer write(Operation::write, fd.get(), 0, kBlock, 'd');
  IoRequest* one = &write.request;
  {
    const auto engine = make(1);
    ASSERT_EQ(engine->submit({&one, 1}), 1U);
  }
  Buffer read(kBlock);
  ASSERT_EQ(::pread(fd.get(), read.data(), kBlock, 0), static_cast<ssize_t>(kBlock));
  EXPECT_EQ(read.view(), write.buffer.view());
}

TEST_P(AioEngineTest, KeepsManyRequestsInFlight) {
  const SlowFile file(folder_, 64 * kBlock, "hold 200");
  const UniqueFd fd = open_file(file.path(), O_RDWR | O_DIRECT);
  const auto engine = make(200);
  std::vector<std::unique_ptr<Transfer>> reads;
  std::vector<IoRequest*> batch;
  for (int i = 0; i < 200; ++i) {
    reads.push_back(std::make_unique<Transfer>(Operation::read, fd.get(), i % 64 * kBlock, kBlock));
    batch.push_back(&reads.back()->request);
  }
  ASSERT_EQ(engine->submit(batch), 200U);
  EXPECT_EQ(wait_for(*engine, 200).size(), 200U) << "the file answers once it has all of them";
}

TEST(AioEngine, RefusesALimitThatNoneCanHold) {
  for (const unsigned limit : {0U, kLargestLimit + 1}) {
    const auto engine = make_aio_engine(AioMode::threads, limit);
    ASSERT_FALSE(engine.has_value());
    EXPECT_THAT(engine.error().message, testing::HasSubstr(std::to_string(limit)));
  }
}

/// fs.aio-max-nr is the whole host's, so nothing is used up: one context larger than all of it is refused just so.
TEST(NativeEngine, GoesOnWithTheOldContextWhereTheKernelHasNoneLarger) {
  const Folder folder;
  unsigned most = 0;
  std::ifstream("/proc/sys/fs/aio-max-nr") >> most;
  if (most > 1U << 22) GTEST_SKIP() << "fs.aio-max-nr is " << most << ", which no context passes";
  auto engine = make_native_engine(8);
  ASSERT_TRUE(engine.has_value());
  const auto refused = (*engine)->set_limit(most + 1);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::retry);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("fs.aio-max-nr " + std::to_string(most)));
  EXPECT_EQ((*engine)->limit(), 8U);
  const UniqueFd fd = open_file(folder.file("disk", kBlock));
  Transfer read(Operation::read, fd.get(), 0, kBlock);
  EXPECT_EQ(run(**engine, read.request), 0);
}

TEST(IoUringEngine, LosesNothingWhenItsCompletionQueueOverflows) {
  const Folder folder;
  const UniqueFd fd = open_file(folder.file("disk", kBlock));
  auto engine = make_io_uring_engine(500, 128);
  ASSERT_TRUE(engine.has_value());
  std::vector<std::unique_ptr<Transfer>> reads;
  std::vector<IoRequest*> batch;
  for (int i = 0; i < 500; ++i) {
    reads.push_back(std::make_unique<Transfer>(Operation::read, fd.get(), 0, kBlock));
    batch.push_back(&reads.back()->request);
  }
  ASSERT_EQ((*engine)->submit(batch), 500U);
  std::this_thread::sleep_for(50ms);
  EXPECT_THAT(wait_for(**engine, 500), testing::UnorderedElementsAreArray(batch));
}

TEST(NativeEngine, TakesNothingWhileTheKernelHasNoRoom) {
  const Folder folder;
  const UniqueFd fd = open_file(folder.file("disk", kBlock));
  in_thread([&] {
    deny(SYS_io_submit, EAGAIN);
    auto engine = make_native_engine(8);
    Transfer read(Operation::read, fd.get(), 0, kBlock);
    IoRequest* one = &read.request;
    EXPECT_EQ((*engine)->submit({&one, 1}), 0U);
    EXPECT_EQ((*engine)->in_flight(), 0U);
  });
}

TEST(NativeEngine, SaysThatTheKernelHasNoLinuxAio) {
  in_thread([] {
    deny(SYS_io_setup, ENOSYS);
    const auto engine = make_native_engine(8);
    ASSERT_FALSE(engine.has_value());
    EXPECT_EQ(engine.error().kind, ErrorKind::configuration);
  });
}

TEST(ThreadsEngine, GivesUpOnStorageThatOnlySaysTryAgain) {
  const Folder folder;
  const UniqueFd fd = open_file(folder.file("disk", kBlock));
  in_thread([&] {
    deny(SYS_preadv2, EAGAIN);
    auto engine = make_threads_engine(8);
    Transfer read(Operation::read, fd.get(), 0, kBlock);
    EXPECT_EQ(run(**engine, read.request), -EAGAIN);
  });
}

TEST(ThreadsEngine, DoesTheWorkItselfWhereNoThreadCanBeMade) {
  const Folder folder;
  const UniqueFd fd = open_file(folder.file("disk", kBlock));
  in_thread([&] {
    deny(SYS_clone, EAGAIN);
    deny(SYS_clone3, EAGAIN);
    auto engine = make_threads_engine(8);
    Transfer read(Operation::read, fd.get(), 0, kBlock);
    EXPECT_EQ(run(**engine, read.request), 0);
  });
}

TEST(IoUringEngine, SaysThatTheKernelForbidsIt) {
  in_thread([] {
    deny(SYS_io_uring_setup, EPERM);
    const auto engine = make_io_uring_engine(8, 8);
    ASSERT_FALSE(engine.has_value());
    EXPECT_THAT(engine.error().next, testing::HasSubstr("kernel.io_uring_disabled"));
  });
}

}  // namespace
}  // namespace aiolos::engine
