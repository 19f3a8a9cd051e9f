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
