// SPDX-License-Identifier: Apache-2.0
// The drivers of this process: finding the plugins of the configured folders, and the driver of a volume's type.
#include "aiolos/plugins/registry.h"

#include <fmt/format.h>

#include <algorithm>

#include "file_check.h"
#include "host_call.h"
#include "loaded_driver.h"

namespace aiolos {
namespace {

namespace fs = std::filesystem;

/// The *.so of a folder, by name. A folder named x.so is among them, to be refused with a reason.
Result<std::vector<fs::path>> plugin_files(const fs::path& folder, const fs::path& shown) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().extension() == ".so") files.push_back(entry->path());
  if (error)
    return fail(ErrorKind::configuration, fmt::format("cannot read the plugin folder: {}", error.message()),
                "make it readable (chmod a+rx)", readable(shown.native()));
  std::sort(files.begin(), files.end());
  return files;
}

/// The type that a plugin's file name suggests: "nfs" for aiolos-nfs.so.
std::string_view suggested_type(std::string_view stem) {
  constexpr std::string_view kPrefix = "aiolos-";
  if (stem.starts_with(kPrefix)) stem.remove_prefix(kPrefix.size());
  return stem;
}

class LoadedRegistry final : public Registry {
 public:
  explicit LoadedRegistry(PluginServices services) : services_(std::move(services)) {}

  ~LoadedRegistry() override {
    while (!drivers_.empty()) drivers_.pop_back();  // fini and dlclose in the reverse order of loading
  }

  /// Loads what one folder holds, unless that was done under another name. @param seen folders that were read.
  Result<void> load_folder(const fs::path& folder, std::vector<fs::path>& seen) {
    const auto resolved = check_plugin_folder(folder);
    if (!resolved) return tl::unexpected(resolved.error());
    if (std::find(seen.begin(), seen.end(), *resolved) != seen.end()) return {};
    seen.push_back(*resolved);
    const auto files = plugin_files(*resolved, folder);
    if (!files) return tl::unexpected(files.error());
    for (const fs::path& file : *files) load_file(file);
    return {};
  }

  /// A folder whose drivers are not to be had; those of the others are.
  void reject_folder(const fs::path& folder, Error error) {
    if (!unread_folder_) unread_folder_ = error;
    rejected_.push_back({folder, std::move(error)});
  }

  void load_file(const fs::path& file) {
    auto driver = LoadedDriver::load(file, services_, [&](const DriverIdentity& identity) { return free(identity); });
    if (!driver) {
      rejected_.push_back({file, std::move(driver).error()});
      return;
    }
    for (const std::string& type : (*driver)->types()) by_type_.emplace_back(type, driver->get());
    std::sort(by_type_.begin(), by_type_.end());
    drivers_.push_back(*std::move(driver));
  }

  std::vector<Driver*> drivers() const override {
    std::vector<Driver*> all;
    for (const auto& driver : drivers_) all.push_back(driver.get());
    return all;
  }

  const std::vector<RejectedPlugin>& rejected() const override { return rejected_; }

  Result<Driver*> find(std::string_view type) const override {
    if (Driver* const driver = driver_of(type)) return driver;
    std::string message = fmt::format("no driver serves the volume type '{}'", readable(type));
    if (const RejectedPlugin* plugin = rejected_for(type))
      return fail(ErrorKind::configuration,
                  fmt::format("{}: its plugin was not loaded: {}", message, describe(plugin->error)),
                  plugin->error.next);
    if (unread_folder_)
      return fail(ErrorKind::configuration,
                  fmt::format("{}, and a folder of plugins could not be used: {}", message, describe(*unread_folder_)),
                  fmt::format("{}, if the driver is there; {}", unread_folder_->next, advice_for(type)));
    return fail(ErrorKind::bad_input, std::move(message), advice_for(type), "/driver_volume_type");
  }

 private:
  /// Whether none of a driver's types, nor its name, is another's already.
  Result<void> free(const DriverIdentity& identity) const {
    for (const std::string& type : identity.types)
      if (const Driver* const driver = driver_of(type))
        return fail(ErrorKind::configuration,
                    fmt::format("serves the volume type '{}', which {} serves already", type,
                                readable(driver->file().native())),
                    "remove one of the two files");
    for (const auto& driver : drivers_)
      if (driver->name() == identity.name)
        return fail(ErrorKind::configuration,
                    fmt::format("is named '{}', as {} is already", identity.name, readable(driver->file().native())),
                    "remove one of the two files");
    return {};
  }

  /// nullptr if none serves it.
  Driver* driver_of(std::string_view type) const {
    for (const auto& [name, driver] : by_type_)
      if (name == type) return driver;
    return nullptr;
  }

  const RejectedPlugin* rejected_for(std::string_view type) const {
    const auto wanted = [&](const RejectedPlugin& plugin) {
      return suggested_type(plugin.file.stem().native()) == type;
    };
    const auto found = std::find_if(rejected_.begin(), rejected_.end(), wanted);
    return found == rejected_.end() ? nullptr : &*found;
  }

  std::string advice_for(std::string_view type) const {
    std::vector<std::string_view> known;
    for (const auto& [name, driver] : by_type_) known.push_back(name);
    if (known.empty()) return "install a driver: plugins.path holds none that can be loaded";
    const std::string all = fmt::format("known types: {}", fmt::join(known, ", "));
    if (const auto near = nearest(type, known)) return fmt::format("did you mean '{}'? {}", *near, all);
    return fmt::format("use a type that a driver serves, or install its driver; {}", all);
  }

  const PluginServices services_;
  std::vector<std::unique_ptr<LoadedDriver>> drivers_;
  std::vector<RejectedPlugin> rejected_;
  std::optional<Error> unread_folder_;                    // the error of the first folder that could not be used
  std::vector<std::pair<std::string, Driver*>> by_type_;  // by name; too few for a map to pay
};

}  // namespace

std::unique_ptr<Registry> Registry::load(const std::vector<fs::path>& folders, PluginServices services) {
  auto registry = std::make_unique<LoadedRegistry>(std::move(services));
  std::vector<fs::path> seen;
  for (const fs::path& folder : folders)
    if (auto done = registry->load_folder(folder, seen); !done)
      registry->reject_folder(folder, std::move(done).error());
  return registry;
}

}  // namespace aiolos
