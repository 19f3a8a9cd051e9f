// SPDX-License-Identifier: Apache-2.0
// Quobyte volumes: a file on a Quobyte volume that Quobyte's FUSE client mounts on this host.
//
// Source: Nova 26, virt/libvirt/volume/quobyte.py. As there, a `data.device_path` and `data.options` are not looked at;
// but a mount that fails validation is a failed connect, where Nova only logs it and goes on.
#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/plugin.hpp"

namespace {

using namespace aiolos;

constexpr std::chrono::seconds kTimeout{5};

/// Whether systemd manages this host, and works. Source: sd_booted(3); Nova's is_systemd.
bool systemd_runs(sdk::Call& call) {
  std::error_code ignored;
  if (!std::filesystem::exists("/run/systemd/system", ignored)) return false;
  const Result<CommandResult> state = call.run(Command{{"systemctl", "is-system-running"}, {}, kTimeout});
  constexpr std::array<std::string_view, 3> kWorking{"starting", "running", "degraded"};
  if (!state) return false;
  const std::string_view word = std::string_view(state->output).substr(0, state->output.find('\n'));
  return std::find(kWorking.begin(), kWorking.end(), word) != kWorking.end();
}

/// VOLUME of REGISTRY/VOLUME; empty if there is none.
std::string_view volume_of(std::string_view share) {
  const std::size_t slash = share.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : share.substr(slash + 1);
}

class QuobyteDriver : public sdk::FileSystemVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "quobyte",
      .version = "1.0",
      .summary = "files on Quobyte volumes",
      .types = {"quobyte"},
      .configuration_key = "quobyte",
      .configuration_defaults = R"({"mount_point_base": "/var/lib/aiolos/mnt", "client_cfg": ""})",
      .capabilities = AIOLOS_CAN_MULTIATTACH,
      .thread_model = sdk::ThreadModel::per_target,
      .nova_driver_io = "native",
  };

  /// A hole is filled by the storage servers, and io_submit(2) waits for them as for a local file system.
  QuobyteDriver() : FileSystemVolumeDriver("the Quobyte file") {}

 protected:
  /// The client stays as a process that serves the mount. Under systemd it gets a scope of its own, so that it does not
  /// end with the service that had it started. Not in --user's manager: that one ends, too (bug 1756823 of Nova).
  Result<std::vector<std::string>> mount_command(sdk::Call& call, const sdk::Volume&, const std::string& share,
                                                 const std::string& mount_point) const override {
    AIOLOS_TRY(const std::string_view client_cfg, call.configuration().at("client_cfg").string_or(""));
    std::vector<std::string> command;
    if (systemd_runs(call)) command = {"systemd-run", "--scope"};
    for (const std::string& word : {std::string("mount.quobyte"), std::string("--disable-xattrs"), share, mount_point})
      command.push_back(word);
    if (!client_cfg.empty()) {
      command.emplace_back("-c");
      command.emplace_back(client_cfg);
    }
    return command;
  }

  /// Quobyte's client names its mounts "quobyte@REGISTRY/VOLUME", and the registry not always as the export does.
  bool is_mount_of(const Mount& mount, const std::string& share) const override {
    constexpr std::string_view kPrefix = "quobyte@";
    if (!mount.source.starts_with(kPrefix)) return mount.fstype == "fuse.quobyte";
    const std::string_view mounted = volume_of(mount.source);
    return mounted.empty() || mounted == volume_of(share);
  }

  /// The root of a Quobyte volume has the size 0. Source: Nova's validate_volume.
  Result<void> validate(sdk::Call& call, const Mount& mount) const override {
    AIOLOS_TRY(const CommandResult root, call.run_checked(Command{{"stat", "--format=%s", mount.target}, {}, kTimeout},
                                                          "check the Quobyte client on this host"));
    if (root.output == "0\n") return {};
    return sdk::fail(ErrorKind::storage,
                     mount.source + ", mounted at " + mount.target +
                         ", is no valid Quobyte volume: its root has the size " +
                         root.output.substr(0, root.output.find('\n')) + " instead of 0",
                     "check the Quobyte client on this host, and that the export names a volume", "/data/export");
  }

  /// FUSE clients may number files anew each time they start.
  bool keeps_inode_numbers() const override { return false; }

  /// "quobyte://registry/volume" and "registry/volume" are one volume, mounted once.
  Result<std::string> normalized_export(const sdk::Volume& volume) const override {
    constexpr std::string_view kScheme = "quobyte://";
    const sdk::Value value = volume.data().at("export");
    AIOLOS_TRY(std::string_view share, value.string());
    if (share.starts_with(kScheme)) share.remove_prefix(kScheme.size());
    if (share.starts_with('-'))
      return value.error("'" + std::string(share) + "' is no export", "give it as registry/volume");
    return std::string(share);
  }
};

}  // namespace

AIOLOS_PLUGIN(QuobyteDriver)
