// SPDX-License-Identifier: Apache-2.0
#include "services.h"

#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

extern char** environ;

namespace aiolos::test {

Result<std::int64_t> MemoryJournal::begin_effect(std::string_view what) {
  effects.emplace_back(what);
  const auto effect = static_cast<std::int64_t>(effects.size() - 1);
  unfinished.insert(effect);
  return effect;
}

Result<void> MemoryJournal::end_effect(std::int64_t effect) {
  unfinished.erase(effect);
  return {};
}

Result<void> MemoryJournal::hold(std::string_view resource) {
  held.emplace(resource);
  return {};
}

Result<void> MemoryJournal::release(std::string_view resource) {
  held.erase(std::string(resource));
  return {};
}

Result<VolumeJournal::Holders> MemoryJournal::holders(std::string_view resource) {
  return Holders{held.contains(std::string(resource)), others};
}

Result<CommandResult> run_for_real(const Command& command) {
  std::vector<char*> arguments;
  for (const std::string& argument : command.argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  if (const int error = ::posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ); error != 0)
    return fail(ErrorKind::configuration, command.argv[0] + " cannot be started", "install it");
  int status = 0;
  ::waitpid(child, &status, 0);
  CommandResult result;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

StorageFacts facts_of(const std::string& path, Allocation allocation, std::uint64_t size) {
  LayerFacts layer;
  layer.path = path;
  layer.format = "raw";
  layer.allocation = allocation;
  layer.virtual_size = size;
  return {{layer}};
}

void Drivers::load(const Json& configuration) {
  registry_.reset();  // the old plugins go before the same files are loaded again
  PluginServices services;
  services.commands = &commands_;
  services.block_devices = &block_devices_;
  services.mounts = &mounts_;
  services.locks = &locks_;
  services.log = [this](aiolos_log_level level, std::string_view, std::string_view message) {
    if (level >= AIOLOS_LOG_WARNING) warnings_.emplace_back(message);
  };
  services.section = [&configuration](std::string_view key, const Json& defaults) -> Result<Json> {
    Json section = defaults;
    if (configuration.contains(key)) section.update(configuration[std::string(key)]);
    return section;
  };
  add_services(services);
  registry_ = Registry::load({AIOLOS_TEST_PLUGINS}, std::move(services));
  for (const RejectedPlugin& plugin : registry_->rejected())
    ADD_FAILURE() << plugin.file << ": " << describe(plugin.error);
}

Driver& Drivers::driver_of(const Json& connection_info) {
  const auto found = registry_->find(connection_info.at("driver_volume_type").get<std::string>());
  if (!found) throw std::runtime_error(describe(found.error()));
  return **found;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "aiolos-drivers-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern);
  folder_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string TemporaryFolder::sparse_file(const std::string& name, std::uint64_t size) const {
  const std::string file = path(name);
  std::ofstream(file).close();
  std::filesystem::resize_file(file, size);
  return file;
}

std::uint64_t allocated_bytes(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw std::runtime_error("stat " + path);
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

testing::AssertionResult is_error(const Error& error, ErrorKind kind, const std::string& where,
                                  const std::string& message_part) {
  testing::AssertionResult wrong = testing::AssertionFailure()
                                   << to_string(error.kind) << " at '" << error.where << "': " << error.message
                                   << " -- next: " << error.next << "\nexpected " << to_string(kind) << " at '" << where
                                   << "' saying '" << message_part << "' and what to do next";
  if (error.kind != kind || error.where != where || error.next.empty()) return wrong;
  if (error.message.find(message_part) == std::string::npos) return wrong;
  return testing::AssertionSuccess();
}

}  // namespace aiolos::test
