// SPDX-License-Identifier: Apache-2.0
// What the tests of plugins share: folders to load from, services that remember, and matchers for errors.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

#include "aiolos/plugins/registry.h"

namespace aiolos::testing {

namespace fs = std::filesystem;

/// The folder of deliberately bad plugins, and that of plugins that work.
inline const fs::path kBadPlugins = AIOLOS_BAD_PLUGINS;
inline const fs::path kFixtures = AIOLOS_FIXTURE_PLUGINS;

/// An empty folder that only its owner writes; gone with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "aiolos-plugins-XXXXXX").native();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

  /// Copies a plugin into the folder. @return its path.
  fs::path add(const fs::path& plugin, const std::string& name) const {
    fs::copy_file(plugin, path_ / name);
    fs::permissions(path_ / name, fs::perms(0755));
    return path_ / name;
  }
  fs::path write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name) << content;
    fs::permissions(path_ / name, fs::perms(0644));
    return path_ / name;
  }

 private:
  fs::path path_;
};

class MockCommands : public CommandRunner {
 public:
  MOCK_METHOD(Result<CommandResult>, run, (const Command&), (override));
};

class MockMounts : public MountTable {
 public:
  MOCK_METHOD(Result<std::vector<Mount>>, list, (), (override));
  MOCK_METHOD(Result<Mount>, holding, (const std::string&), (override));
};

class MockDevices : public BlockDevices {
 public:
  MOCK_METHOD(Result<StorageFacts>, probe, (const std::string&, const std::string&), (override));
};

class MockSecrets : public SecretStore {
 public:
  using ByUsage = std::map<std::string, std::string, std::less<>>;
  MOCK_METHOD(Result<std::optional<std::string>>, find, (std::string_view, std::string_view), (override));
  MOCK_METHOD(Result<Secret>, value, (std::string_view), (override));
  MOCK_METHOD(Result<ByUsage>, list, (std::string_view), (override));
};

/// Locks that nobody else wants; remembers what happened.
class LocksOnPaper : public HostLocks {
 public:
  Result<std::unique_ptr<Held>> acquire(std::string_view key, std::chrono::milliseconds timeout) override {
    events.push_back("lock " + std::string(key) + " " + std::to_string(timeout.count()));
    return std::make_unique<Lock>(*this, std::string(key));
  }
  std::vector<std::string> events;

 private:
  struct Lock : Held {
    Lock(LocksOnPaper& on, std::string key) : paper(on), name(std::move(key)) {}
    ~Lock() override { paper.events.push_back("unlock " + name); }
    LocksOnPaper& paper;
    std::string name;
  };
};

/// A volume's journal that remembers its lines; two other volumes hold everything.
class JournalOnPaper : public VolumeJournal {
 public:
  Result<std::int64_t> begin_effect(std::string_view what) override {
    lines.push_back("begin " + std::string(what));
    return ++effects_;
  }
  Result<void> end_effect(std::int64_t effect) override { return line("end " + std::to_string(effect)); }
  Result<void> hold(std::string_view resource) override { return line("hold " + std::string(resource)); }
  Result<void> release(std::string_view resource) override { return line("release " + std::string(resource)); }
  Result<Holders> holders(std::string_view) override { return Holders{true, 2}; }
  std::vector<std::string> lines;

 private:
  Result<void> line(std::string text) {
    lines.push_back(std::move(text));
    return {};
  }
  std::int64_t effects_ = 0;
};

/// Lines of the log as "plugin: message". For any number of threads.
class Log {
 public:
  auto sink() {
    return [this](aiolos_log_level, std::string_view plugin, std::string_view message) {
      const std::lock_guard lock(mutex_);
      lines_.push_back(std::string(plugin) + ": " + std::string(message));
    };
  }
  std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

inline std::unique_ptr<Registry> load(const std::vector<fs::path>& folders, PluginServices services = {}) {
  return Registry::load(folders, std::move(services));
}

/// The driver of a type; the test fails if there is none.
inline Driver* driver(const Registry& registry, std::string_view type) {
  const auto found = registry.find(type);
  if (!found) {
    ADD_FAILURE() << describe(found.error());
    return nullptr;
  }
  return *found;
}

/// The error of a rejected plugin by its file's name; nullptr if it was not rejected.
inline const Error* rejection(const Registry& registry, std::string_view file) {
  for (const RejectedPlugin& plugin : registry.rejected())
    if (plugin.file.filename() == file) return &plugin.error;
  return nullptr;
}

/// A connection_info of a type with these data.
inline Json volume(std::string_view type, Json data) {
  return {{"driver_volume_type", type}, {"data", std::move(data)}};
}

}  // namespace aiolos::testing
