// SPDX-License-Identifier: Apache-2.0
// The configuration: from YAML text to a value, every mistake named with its line. Every key is documented in
// packaging/aiolos.yaml.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/aio_policy.h"
#include "aiolos/core/json.h"
#include "aiolos/core/migration.h"
#include "aiolos/core/queue_plan.h"
#include "aiolos/core/vocabulary.h"

/// What libaiolos exports: everything else in it is hidden.
#define AIOLOS_API __attribute__((visibility("default")))

namespace aiolos {

enum class VirtType { qemu, kvm };
enum class Preallocate { none, space };
/// Who does a guest's I/O: its own QEMU, or aiolos-engine.
enum class DataPlaneKind { qemu, engine };

std::string_view to_string(DataPlaneKind kind);

/// A driver's section as it was written. Which keys it may have is known only once the driver is loaded.
struct RawSection {
  Json value;
  /// Where each value stands, "file:line:column", by JSON pointer within the section; "" is the section itself.
  std::map<std::string, std::string, std::less<>> places;
};

/// The settings of a process.
struct Config {
  std::string origin;  ///< The file's name; empty: all defaults.
  struct {
    std::string uri;  ///< Connection URI; empty: qemu:///embed?root=STATE/libvirt.
    VirtType virt_type = VirtType::qemu;
  } libvirt;
  struct {
    std::vector<std::string> path;  ///< Folders of plugins, absolute; empty: those of the build or installation.
  } plugins;
  struct {
    std::string dir = "/var/lib/aiolos";  ///< Absolute. The journal, locks, the embedded hypervisor.
  } state;
  AioSettings aio;
  std::map<SourceKind, CacheMode> disk_cachemodes;  ///< Nova's [libvirt]disk_cachemodes.
  struct {
    Preallocate preallocate = Preallocate::none;  ///< Nova's preallocate_images.
  } images;
  struct {
    bool automatic = true;  ///< Attach and detach size the engines' pools by themselves.
    PlanSettings limits;
    std::map<std::string, DiskSpeed, std::less<>> storage;  ///< By driver_volume_type.
  } plan;
  struct {
    DataPlaneKind usual = DataPlaneKind::qemu;
    std::map<std::string, DataPlaneKind, std::less<>> storage;  ///< By driver_volume_type, where it is another one.
    std::string admin = "/run/aiolos/engine.sock";              ///< The daemon's admin socket.
    std::string sockets = "/run/aiolos/disks";                  ///< Folder of the disks' sockets.
  } data_plane;
  struct {
    std::string peer;            ///< The command that answers for a destination; empty: over ssh.
    MigrationSettings settings;  ///< What the command line does not say.
    std::optional<std::chrono::microseconds> max_drain;
    std::optional<std::chrono::seconds> post_copy_after;
    std::chrono::seconds deadline{600};
    bool ask_qemu = false;  ///< As MigrationRequest has them.
    bool raise_pools = true;
    bool guest_agent = false;
  } migration;
  std::map<std::string, RawSection, std::less<>> sections;  ///< Every section as written, by top-level key.
};

/// Reads a configuration.
/// @param text YAML; empty gives the defaults. @param origin the file's name, for errors.
/// @return ErrorKind::configuration with `where` = "origin:line:column" for YAML that does not parse, an unknown key
/// of the framework's own sections (with the nearest known), a value of the wrong type, a key that is given twice, or
/// values nested too deep, as an alias to itself is. Other top-level keys are the drivers'; check_sections refuses
/// those that nobody reads.
AIOLOS_API Result<Config> parse_config(std::string_view text, std::string_view origin);

/// Reads a configuration file. ErrorKind::configuration if it can't be read.
AIOLOS_API Result<Config> load_config(const std::string& path);

/// The configuration of a process: that of `path`, which must exist; without a path /etc/aiolos/aiolos.yaml if that
/// exists, else the defaults.
AIOLOS_API Result<Config> find_config(const std::string& path);

/// A driver's section completed by its defaults. @param defaults every key the section may have.
/// @return ErrorKind::configuration for an unknown key, a value of another type than the default's, or a negative
/// number where the default is none.
Result<Json> complete_section(const Config& config, std::string_view key, const Json& defaults);

/// Refuses sections that no driver reads. @param known the framework's and the loaded drivers' keys.
Result<void> check_sections(const Config& config, const std::vector<std::string>& known);

/// The top-level keys that the framework itself reads.
const std::vector<std::string>& framework_sections();

}  // namespace aiolos
