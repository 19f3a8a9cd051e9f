// SPDX-License-Identifier: Apache-2.0
// Loads plugins and finds the driver for a volume's type.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/aio_policy.h"
#include "aiolos/core/attachment.h"
#include "aiolos/core/facts.h"
#include "aiolos/core/interfaces.h"
#include "aiolos/core/json_document.h"
#include "aiolos/core/result.h"
#include "aiolos/plugin.h"

namespace aiolos {

/// What a plugin may use of this host. Borrowed: all must outlive the registry. A null member makes the service fail
/// with ErrorKind::configuration ("not available here"), which `disk-xml` relies on: it gives none.
struct PluginServices {
  CommandRunner* commands = nullptr;
  BlockDevices* block_devices = nullptr;
  MountTable* mounts = nullptr;
  HostLocks* locks = nullptr;
  SecretStore* secrets = nullptr;
  /// Log sink; empty: dropped.
  std::function<void(aiolos_log_level, std::string_view plugin, std::string_view message)> log;
  /// Gives a driver's section of the configuration, checked against its defaults and completed with them. Called once
  /// per plugin while it is loaded; an error rejects the plugin. Empty: every driver gets its defaults.
  std::function<Result<Json>(std::string_view key, const Json& defaults)> section;
};

/// One loaded driver. All methods may be called from any thread; the caller keeps what `thread_model` forbids apart
/// (agent/ takes the locks). Errors of a plugin come back as they are, with its name in the message where it is the
/// plugin's own fault (ErrorKind::bug).
class Driver {
 public:
  virtual ~Driver() = default;

  virtual const std::string& name() const = 0;
  virtual const std::string& version() const = 0;
  virtual const std::string& summary() const = 0;
  virtual const std::vector<std::string>& types() const = 0;
  virtual const std::filesystem::path& file() const = 0;
  virtual std::uint32_t capabilities() const = 0;
  virtual aiolos_thread_model thread_model() const = 0;
  virtual std::optional<AioMode> nova_driver_io() const = 0;
  /// Top-level key of the configuration that is this driver's; empty if it has none.
  virtual const std::string& configuration_key() const = 0;
  /// What the keys of that section are, each with its default; null if it has none.
  virtual const Json& configuration_defaults() const = 0;

  virtual Result<Attachment> describe(const JsonNode& connection_info) = 0;
  Result<Attachment> describe(const Json& connection_info) { return describe(JsonDocument(connection_info).root()); }
  /// The lock's key; with thread model serialize-all the same for every volume, with parallel nullopt.
  virtual Result<std::optional<std::string>> target(const Json& connection_info) = 0;
  // In these three, `journal` is the volume's; nullptr makes the services that write to it fail.
  /// After an error the caller disconnects, without an attachment.
  virtual Result<Attachment> connect(const Json& connection_info, VolumeJournal* journal = nullptr) = 0;
  /// @param attachment what connect gave; nullptr after a crash or an error.
  virtual Result<void> disconnect(const Json& connection_info, const Attachment* attachment, bool force,
                                  VolumeJournal* journal = nullptr) = 0;
  /// @return the size the volume has now, in bytes.
  virtual Result<std::uint64_t> extend(const Json& connection_info, const Attachment& attachment, std::uint64_t bytes,
                                       VolumeJournal* journal = nullptr) = 0;
  /// ErrorKind::refused if the connected volume is another than connect found.
  virtual Result<void> verify(const Json& connection_info, const Attachment& attachment) = 0;
  virtual Result<StorageFacts> facts(const Json& connection_info, const Attachment& attachment) = 0;
  /// @param facts nullptr if not probed.
  virtual Result<AioAdvice> aio_mode(const Attachment& attachment, const StorageFacts* facts) = 0;
};

/// A plugin that was not loaded, and why; or a whole folder of them.
struct RejectedPlugin {
  std::filesystem::path file;
  Error error;
};

/// The drivers of this process. Immutable after loading; safe to share between threads.
class Registry {
 public:
  /// Loads every *.so of the folders, in order of folder and name. A plugin that can't be loaded is rejected with its
  /// own error and the others still load; a volume type that is taken already rejects the later plugin. A folder that
  /// can't be used is one rejected entry, `file` being the folder: nothing here costs the drivers of the others.
  /// Folders and files must belong to root (or the caller's own user) and not be writable by group or others.
  /// @param folders absolute.
  static std::unique_ptr<Registry> load(const std::vector<std::filesystem::path>& folders, PluginServices services);
  virtual ~Registry() = default;

  virtual std::vector<Driver*> drivers() const = 0;
  virtual const std::vector<RejectedPlugin>& rejected() const = 0;

  /// The driver of a volume type. ErrorKind::bad_input naming the nearest known type otherwise; where a rejected
  /// plugin's file name suggests that type, or a folder could not be used, ErrorKind::configuration says so.
  virtual Result<Driver*> find(std::string_view driver_volume_type) const = 0;
};

}  // namespace aiolos
