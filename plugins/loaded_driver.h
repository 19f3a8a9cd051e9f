// SPDX-License-Identifier: Apache-2.0
// A driver that a plugin provides: what it said of itself, checked, and its slots.
#pragma once

#include <memory>

#include "aiolos/plugins/registry.h"
#include "host_call.h"

namespace aiolos {

/// What to do about a plugin that is wrong.
inline constexpr std::string_view kTellAuthor = "report this to the author of the plugin";

/// An open shared object; closed when it goes.
class SharedObject {
 public:
  /// RTLD_NOW | RTLD_LOCAL. @param file absolute. @return ErrorKind::configuration with the dynamic linker's words.
  static Result<SharedObject> open(const std::filesystem::path& file);
  SharedObject(SharedObject&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  SharedObject& operator=(SharedObject&&) = delete;
  ~SharedObject();

  /// nullptr if it has no such symbol.
  void* symbol(const char* name) const;

 private:
  explicit SharedObject(void* handle) : handle_(handle) {}
  void* handle_;
};

/// What a plugin says of itself, copied and checked.
struct DriverIdentity {
  std::string name;
  std::string version;
  std::string summary;
  std::vector<std::string> types;
  std::string configuration_key;
  Json configuration_defaults;  ///< null if it has no configuration.
  std::optional<AioMode> nova_driver_io;
};

/// Reads a driver's table, which may be of an older or newer minor version: what lies past the smaller size is NULL.
/// @return ErrorKind::configuration or bug saying what is wrong with it.
Result<aiolos_driver> read_driver_table(const aiolos_driver* table);

/// Checks what a table says. @return ErrorKind::bug saying what is wrong with it.
Result<DriverIdentity> check_driver_table(const aiolos_driver& table);

class LoadedDriver final : public Driver {
 public:
  /// Loads a plugin: checks the file, opens it, asks it for its table, checks that, and calls its init.
  /// @param file absolute; `where` of every error. @param services must outlive the driver.
  /// @param taken asked for each of its types before init: an error for one that is served already.
  static Result<std::unique_ptr<LoadedDriver>> load(const std::filesystem::path& file, const PluginServices& services,
                                                    const std::function<Result<void>(const DriverIdentity&)>& taken);

  ~LoadedDriver() override;

  const std::string& name() const override { return identity_.name; }
  const std::string& version() const override { return identity_.version; }
  const std::string& summary() const override { return identity_.summary; }
  const std::vector<std::string>& types() const override { return identity_.types; }
  const std::filesystem::path& file() const override { return file_; }
  std::uint32_t capabilities() const override { return table_.capabilities; }
  aiolos_thread_model thread_model() const override { return static_cast<aiolos_thread_model>(table_.thread_model); }
  std::optional<AioMode> nova_driver_io() const override { return identity_.nova_driver_io; }
  const std::string& configuration_key() const override { return identity_.configuration_key; }
  const Json& configuration_defaults() const override { return identity_.configuration_defaults; }

  using Driver::describe;
  Result<Attachment> describe(const JsonNode& connection_info) override;
  Result<std::optional<std::string>> target(const Json& connection_info) override;
  Result<Attachment> connect(const Json& connection_info, VolumeJournal* journal) override;
  Result<void> disconnect(const Json& connection_info, const Attachment* attachment, bool force,
                          VolumeJournal* journal) override;
  Result<std::uint64_t> extend(const Json& connection_info, const Attachment& attachment, std::uint64_t bytes,
                               VolumeJournal* journal) override;
  Result<void> verify(const Json& connection_info, const Attachment& attachment) override;
  Result<StorageFacts> facts(const Json& connection_info, const Attachment& attachment) override;
  Result<AioAdvice> aio_mode(const Attachment& attachment, const StorageFacts* facts) override;

 private:
  LoadedDriver(std::filesystem::path file, SharedObject object, const aiolos_driver& table, DriverIdentity identity,
               const PluginServices& services);

  Result<void> configure();
  Result<void> init();
  /// A call with this driver's name and configuration.
  /// @param first @param second what the slot is given.
  aiolos_call make_call(Wanted wanted, const JsonNode* first = nullptr, const JsonNode* second = nullptr) const;
  /// Runs one slot and judges how it ended: its own error, a broken rule of the ABI, or success.
  template <typename Slot>
  Result<void> run(const char* slot_name, aiolos_call& call, Slot slot) const;
  /// An error of kind bug that names this plugin and its slot.
  tl::unexpected<Error> broken(const char* slot_name, std::string_view what) const;
  /// What a slot published, as `read` makes it of a ResultDraft; nothing, or not what was promised, is the plugin's
  /// bug.
  template <typename Read>
  auto published(const char* slot_name, aiolos_call& call, Read read) const -> decltype(read(call.result));

  std::filesystem::path file_;
  SharedObject object_;
  aiolos_driver table_;
  DriverIdentity identity_;
  const PluginServices& services_;
  JsonDocument configuration_;  // null if it has none
  void* state_ = nullptr;
  bool initialised_ = false;
};

}  // namespace aiolos
