// SPDX-License-Identifier: Apache-2.0
// NFS volumes: a file on an export that is mounted on this host.
//
// Source: Nova 26, virt/libvirt/volume/nfs.py; what mount.nfs says and how long it takes by itself: nfs-utils 2.6.2.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/plugin.hpp"

namespace {

using namespace aiolos;

/// What mount.nfs says, and what it means. Its exit status is 32 whatever was wrong.
struct MountComplaint {
  std::string_view says;
  ErrorKind kind;
  std::string_view means;
  std::string_view next;
};

// Source: nfs-utils 2.6.2, utils/mount/error.c, and strerror(3). The first row that fits counts.
constexpr std::array kMountComplaints{
    MountComplaint{"No such file or directory", ErrorKind::storage,
                   "the server has no such path, or does not show it to this host",
                   "check the path against the server's exports"},
    MountComplaint{"access denied", ErrorKind::storage, "the server does not export it to this host",
                   "have it exported to this host's address"},
    MountComplaint{"Operation not permitted", ErrorKind::storage, "the server does not export it to this host",
                   "have it exported to this host's address"},
    MountComplaint{"Permission denied", ErrorKind::storage, "the server does not export it to this host",
                   "have it exported to this host's address"},
    MountComplaint{"Connection refused", ErrorKind::retry, "no NFS server listens there",
                   "check that the server runs, then try again"},
    MountComplaint{"Failed to resolve server", ErrorKind::retry, "the server's name does not resolve",
                   "check the name, and this host's DNS"},
    MountComplaint{"timed out", ErrorKind::retry, "the server does not answer",
                   "check the server and the network in between, then try again"},
    MountComplaint{"No route to host", ErrorKind::retry, "the server cannot be reached: no route to host",
                   "check the server and the network in between, then try again"},
    MountComplaint{"Network is unreachable", ErrorKind::retry, "the server cannot be reached: network is unreachable",
                   "check this host's routes, then try again"},
    MountComplaint{"incorrect mount option", ErrorKind::configuration, "a mount option is wrong",
                   "check nfs.mount_options and the volume's data.options against nfs(5)"},
    MountComplaint{"Invalid argument", ErrorKind::configuration, "a mount option is wrong",
                   "check nfs.mount_options and the volume's data.options against nfs(5)"},
    MountComplaint{
        "Protocol not supported", ErrorKind::storage, "the server does not speak this version of NFS",
        "set vers= in nfs.mount_options or the volume's data.options: vers=3 for a server that has no NFS 4"},
};

/// The parts of a text between separators, without the empty ones.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

/// What an option sets; `nfsvers=4.2` and `v4.2` are spellings of `vers=4.2`. Source: nfs(5).
std::string_view key_of(std::string_view option) {
  const std::string_view key = option.substr(0, option.find('='));
  const bool is_version = key == "nfsvers" || (key.size() >= 2 && key[0] == 'v' && key[1] >= '2' && key[1] <= '4');
  return is_version ? "vers" : key;
}

/// Lists of options as one. Of several that set the same, the last one stays: mount.nfs refuses a second version.
std::string merge_options(std::string_view lists) {
  std::vector<std::string_view> merged;
  for (const std::string_view option : split(lists, ',')) {
    std::erase_if(merged, [&](std::string_view earlier) { return key_of(earlier) == key_of(option); });
    merged.push_back(option);
  }
  std::string text;
  for (const std::string_view option : merged) text.append(text.empty() ? "" : ",").append(option);
  return text;
}

/// `data.options`, as the lines of Cinder's shares file have them: "-o vers=4.1,nconnect=4". Nova hands them to
/// mount(8) as they are; here nothing but options for -o gets there.
Result<std::string> volume_options(const sdk::Volume& volume) {
  const sdk::Value value = volume.data().at("options");
  AIOLOS_TRY(const std::string_view text, value.string_or(""));
  std::string options;
  for (std::string_view word : split(text, ' ')) {
    if (word.starts_with("-o")) word.remove_prefix(2);
    if (word.starts_with('-'))
      return value.error("'" + std::string(word) + "' is no option for mount -o",
                         "give them as \"-o vers=4.2,nconnect=4\"");
    if (!word.empty()) options += "," + std::string(word);
  }
  return options;
}

class NfsDriver : public sdk::FileSystemVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "nfs",
      .version = "1.0",
      .summary = "files on NFS exports",
      .types = {"nfs"},
      .configuration_key = "nfs",
      .configuration_defaults = R"({"mount_point_base": "/var/lib/aiolos/mnt", "mount_options": ""})",
      .capabilities = AIOLOS_CAN_MULTIATTACH,
      .thread_model = sdk::ThreadModel::per_target,
      .nova_driver_io = "native",
  };

  /// A hole is filled by the server, and io_submit(2) waits for it as it does for a local file system.
  NfsDriver() : FileSystemVolumeDriver("the NFS file") {}

  /// A connection_info that has been connected, by Nova too, says where: that wins, as it does in Nova's get_config.
  Result<Attachment> describe(const sdk::Volume& volume) const override {
    const sdk::Value device_path = volume.data().at("device_path");
    if (!device_path) return FileSystemVolumeDriver::describe(volume);
    AIOLOS_TRY(const std::string_view path, device_path.string());
    if (!path.starts_with('/'))
      return device_path.error("the path '" + std::string(path) + "' is not absolute",
                               "leave data.device_path out and the path follows from data.export and data.name");
    AIOLOS_TRY(const std::string_view format, volume.data().at("format").string_or("raw"));
    Attachment attachment;
    attachment.source.kind = SourceKind::file;
    attachment.source.path = path;
    attachment.format = format;
    return attachment;
  }

 protected:
  /// One attempt, in the foreground: by itself mount.nfs tries for two minutes, and with `bg` goes on after it has
  /// returned. NFS 4 unless a version is given: after a refusal mount.nfs would go on with version 3, and wait for a
  /// portmapper that a server of version 4 need not have, instead of saying that the path is wrong. Called directly
  /// rather than by mount(8), so that a host without it hears which package to install.
  Result<std::vector<std::string>> mount_command(sdk::Call& call, const sdk::Volume& volume, const std::string& share,
                                                 const std::string& mount_point) const override {
    AIOLOS_TRY(const std::string_view configured, call.configuration().at("mount_options").string_or(""));
    AIOLOS_TRY(const std::string of_volume, volume_options(volume));
    const std::string options = merge_options("vers=4," + std::string(configured) + "," + of_volume + ",fg,retry=0");
    return std::vector<std::string>{"mount.nfs", share, mount_point, "-o", options};
  }

  Error mount_failure(const CommandResult& result, const std::string& share) const override {
    for (const MountComplaint& row : kMountComplaints)
      if (result.errors.find(row.says) != std::string::npos)
        return {row.kind, share + " cannot be mounted: " + std::string(row.means), std::string(row.next),
                "/data/export"};
    return FileSystemVolumeDriver::mount_failure(result, share);
  }

  bool is_mount_of(const Mount& mount, const std::string& share) const override {
    return (mount.fstype == "nfs" || mount.fstype == "nfs4") && FileSystemVolumeDriver::is_mount_of(mount, share);
  }

  /// Handed to mount.nfs as an argument, so it must not look like an option.
  Result<std::string> normalized_export(const sdk::Volume& volume) const override {
    const sdk::Value value = volume.data().at("export");
    AIOLOS_TRY(const std::string_view share, value.string());
    if (share.starts_with('-'))
      return value.error("'" + std::string(share) + "' is no export", "give it as server:/path");
    return std::string(share);
  }
};

}  // namespace

AIOLOS_PLUGIN(NfsDriver)
