// SPDX-License-Identifier: Apache-2.0
// What the drivers' tests share: mocked services of the host, and the built plugins loaded over them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "aiolos/core/interfaces.h"
#include "aiolos/plugins/registry.h"

namespace aiolos::test {

inline constexpr std::uint64_t kMiB = 1 << 20;

class MockCommandRunner : public CommandRunner {
 public:
  MOCK_METHOD(Result<CommandResult>, run, (const Command& command), (override));
};

class MockBlockDevices : public BlockDevices {
 public:
  MOCK_METHOD(Result<StorageFacts>, probe, (const std::string& path, const std::string& format), (override));
};

class MockMountTable : public MountTable {
 public:
  MOCK_METHOD(Result<std::vector<Mount>>, list, (), (override));
  MOCK_METHOD(Result<Mount>, holding, (const std::string& path), (override));
};

/// The journal of one volume, in memory.
class MemoryJournal : public VolumeJournal {
 public:
  Result<std::int64_t> begin_effect(std::string_view what) override;
  Result<void> end_effect(std::int64_t effect) override;
  Result<void> hold(std::string_view resource) override;
  Result<void> release(std::string_view resource) override;
  Result<Holders> holders(std::string_view resource) override;

  std::vector<std::string> effects;   ///< What was begun, in order.
  std::set<std::int64_t> unfinished;  ///< Indices of those that were not ended.
  std::set<std::string> held;
  std::size_t others = 0;  ///< How many other volumes hold whatever is asked about.
};

/// Locks that nobody else takes.
class FreeLocks : public HostLocks {
 public:
  Result<std::unique_ptr<Held>> acquire(std::string_view, std::chrono::milliseconds) override {
    return std::make_unique<Held>();
  }
};

/// Runs a command for real, without a deadline; for tests that look at what it did to a file.
Result<CommandResult> run_for_real(const Command& command);

/// Facts of a raw file or device of that size.
StorageFacts facts_of(const std::string& path, Allocation allocation, std::uint64_t size);

/// The drivers over strict mocks: a call that a test does not expect fails it.
class Drivers : public testing::Test {
 protected:
  void SetUp() override { load({}); }
  /// Loads the drivers anew. @param configuration what an operator sets, by section: {"rbd": {"user": "nova"}}; the
  /// rest are the drivers' own defaults.
  void load(const Json& configuration);
  /// The driver of a volume's type; never null in a test that goes on.
  Driver& driver_of(const Json& connection_info);
  /// For a fixture that has more services than the mocks below.
  virtual void add_services(PluginServices&) {}

  testing::StrictMock<MockCommandRunner> commands_;
  testing::StrictMock<MockBlockDevices> block_devices_;
  testing::StrictMock<MockMountTable> mounts_;
  FreeLocks locks_;
  MemoryJournal journal_;
  std::vector<std::string> warnings_;
  std::unique_ptr<Registry> registry_;
};

/// A folder of its own for each test, gone afterwards.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  /// Makes a file of `size` bytes, all of them holes; gives its path.
  std::string sparse_file(const std::string& name, std::uint64_t size) const;

 private:
  std::filesystem::path folder_;
};

/// Bytes that a file has allocated.
std::uint64_t allocated_bytes(const std::string& path);

/// Succeeds if an error says who can mend it, where, and what to do.
/// @param message_part a part of its message.
testing::AssertionResult is_error(const Error& error, ErrorKind kind, const std::string& where,
                                  const std::string& message_part);

}  // namespace aiolos::test
