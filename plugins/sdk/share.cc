// SPDX-License-Identifier: Apache-2.0
// Volumes that are a file on a mounted share.
//
// Source: Nova 26, virt/libvirt/volume/{fs,mount}.py, for where a share is mounted and that the last user unmounts it.
// There the users are counted in memory, and found again after a restart by looking at all guests; here they are in the
// journal.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "aiolos/image_file.hpp"
#include "aiolos/plugin.hpp"
#include "mount_point.h"

namespace aiolos::sdk {
namespace {

using std::chrono::seconds;

constexpr seconds kMountTimeout{10};
constexpr seconds kLookTimeout{5};

/// What connect leaves for verify, facts and disconnect, in Attachment::state.
struct Connected {
  std::string share;
  std::string mount_point;
  std::uint64_t inode = 0;
};

Json to_state(const Connected& connected) {
  return {{"export", connected.share}, {"mount_point", connected.mount_point}, {"inode", connected.inode}};
}

/// nullopt for an attachment that describe made: it is not connected.
std::optional<Connected> connected_of(const Attachment& attachment) {
  if (!attachment.state.is_object()) return std::nullopt;
  Connected found;
  found.share = attachment.state.value("export", "");
  found.mount_point = attachment.state.value("mount_point", "");
  found.inode = attachment.state.value("inode", std::uint64_t{0});
  return found;
}

std::string_view without_end_slashes(std::string_view path) {
  while (path.ends_with('/')) path.remove_suffix(1);
  return path;
}

/// "s" where there is not one.
std::string_view plural(std::size_t count) { return count == 1 ? "" : "s"; }

/// A file's kind and number, asked for by a command, since a dead server never answers a system call.
/// @return ErrorKind::storage if it is not there, ErrorKind::bad_input if it is no regular file.
Result<std::uint64_t> inode_of(const MountPoint& place, const Mount& mount, const std::string& file) {
  AIOLOS_TRY(const CommandResult result, place.run({"stat", "--format=%f %i", file}, kLookTimeout, mount));
  if (result.status != 0)
    return aiolos::fail(ErrorKind::storage, fmt::format("{} on {}: {}", file, mount.source, cause_of(result)),
                        "check the volume's name and whether the share has it", "/data/name");
  const char* const end = result.output.data() + result.output.size();
  unsigned mode = 0;
  std::uint64_t inode = 0;
  const auto [space, error] = std::from_chars(result.output.data(), end, mode, 16);
  if (error != std::errc() || space == end || std::from_chars(space + 1, end, inode).ec != std::errc())
    return aiolos::fail(ErrorKind::bug, fmt::format("cannot understand stat's answer for {}: {}", file, result.output),
                        "report this with the version of coreutils");
  if (!S_ISREG(mode))
    return aiolos::fail(ErrorKind::bad_input, fmt::format("{} on {} is no regular file", file, mount.source),
                        "give the name of the volume's file", "/data/name");
  return inode;
}

/// Refuses an image or backing image outside of the share: by a symbolic link, or by a name in a qcow2 header, anybody
/// who can write to the share could have this host's files read. Cinder's own volumes and snapshots never leave it
/// (Cinder's remotefs driver refuses them, too: _qemu_img_info_base).
Result<void> check_chain_on_share(const MountPoint& place, const Mount& mount, const StorageFacts& facts) {
  std::vector<std::string> argv{"realpath", "--zero", place.path()};
  for (const LayerFacts& layer : facts.chain)
    if (layer.kind == SourceKind::file) argv.push_back(layer.path);
  AIOLOS_TRY(const CommandResult result, place.run(std::move(argv), kLookTimeout, mount));
  std::string_view paths = result.output;
  const auto next_path = [&] {
    const std::string_view path = paths.substr(0, paths.find('\0'));
    paths.remove_prefix(std::min(path.size() + 1, paths.size()));
    return path;
  };
  const std::string folder = std::string(next_path()) + "/";
  for (const LayerFacts& layer : facts.chain) {
    const std::string_view path = layer.kind == SourceKind::file ? next_path() : std::string_view(layer.path);
    if (layer.kind == SourceKind::file && path.starts_with(folder)) continue;
    return aiolos::fail(
        ErrorKind::refused,
        fmt::format("{} is or stands on {}, which is not on {}", facts.chain.front().path, path, mount.source),
        "a volume's backing images have to lie on its own share: copy them there, then qemu-img rebase -u",
        "/data/name");
  }
  return {};
}

tl::unexpected<Error> another_mount(const std::string& share, const std::string& path,
                                    const std::optional<Mount>& found) {
  return aiolos::fail(ErrorKind::refused,
                      fmt::format("{} should be mounted at {}, where {} is", share, path,
                                  found ? fmt::format("{} (type {})", found->source, found->fstype) : "nothing"),
                      found ? "unmount what is there, or set another mount_point_base" : "mount it there again");
}

/// Takes a mount away that does not work, unless somebody uses it. @param why it does not.
Result<void> clear_stale_mount(Call& call, const MountPoint& place, const Mount& mount,
                               const VolumeJournal::Holders& holders, const Error& why) {
  const std::string next = "bring it back, or detach what uses it; then try again";
  if (holders.others > 0)
    return aiolos::fail(ErrorKind::retry,
                        fmt::format("{}, and {} other volume{} of this host {} it", why.message, holders.others,
                                    plural(holders.others), holders.others == 1 ? "uses" : "use"),
                        next);
  if (const std::optional<std::string> process = place.user())
    return aiolos::fail(ErrorKind::retry, fmt::format("{}, and {} uses it", why.message, *process), next);
  call.info(why.message + ": nobody uses it, so it is mounted anew");
  return place.unmount_lazily(mount);
}

}  // namespace

// ---- where the volume is --------------------------------------------------------------------------------------------

Result<Attachment> FileSystemVolumeDriver::describe(const Volume& volume) const {
  AIOLOS_TRY(const std::string base, mount_point_base(volume));
  AIOLOS_TRY(const std::string share, normalized_export(volume));
  const Value name = volume.data().at("name");
  AIOLOS_TRY(const std::string_view file, name.string());
  AIOLOS_TRY(const std::string_view format, volume.data().at("format").string_or(kRaw));
  Result<std::string> path = mounted_path(base, share, file);
  if (!path) return name.error(path.error().message, path.error().next);
  Attachment attachment;
  attachment.source.kind = SourceKind::file;
  attachment.source.path = *std::move(path);
  attachment.format = format;
  return attachment;
}

Result<std::string> FileSystemVolumeDriver::target(const Volume& volume) const {
  AIOLOS_TRY(std::string share, normalized_export(volume));
  AIOLOS_TRY(const std::string_view name, volume.data().at("name").string());
  return share + "/" + std::string(name);
}

Result<std::string> FileSystemVolumeDriver::normalized_export(const Volume& volume) const {
  AIOLOS_TRY(const std::string_view share, volume.data().at("export").string());
  return std::string(share);
}

Result<std::string> FileSystemVolumeDriver::mount_point_base(const Volume& volume) const {
  const Value setting = volume.configuration().at("mount_point_base");
  AIOLOS_TRY(const std::string_view base, setting.string());
  if (!base.starts_with('/')) return setting.error("expected an absolute path", "name a folder from the root on");
  return std::string(base);
}

Result<std::string> FileSystemVolumeDriver::mount_point(const Volume& volume) const {
  AIOLOS_TRY(const std::string base, mount_point_base(volume));
  AIOLOS_TRY(const std::string share, normalized_export(volume));
  return mount_point_path(base, share);
}

// ---- what a driver may say otherwise --------------------------------------------------------------------------------

Error FileSystemVolumeDriver::mount_failure(const CommandResult& result, const std::string& share) const {
  return {ErrorKind::storage, fmt::format("{} cannot be mounted: {}", share, cause_of(result)),
          "check the export, its server and the mount options", "/data/export"};
}

bool FileSystemVolumeDriver::is_mount_of(const Mount& mount, const std::string& share) const {
  return without_end_slashes(mount.source) == without_end_slashes(share);
}

Result<void> FileSystemVolumeDriver::validate(Call&, const Mount&) const { return {}; }

Result<AioAdvice> FileSystemVolumeDriver::aio_mode(const Attachment&, const StorageFacts* facts) const {
  return advise_by_allocation(facts, storage_);
}

// ---- connecting -----------------------------------------------------------------------------------------------------

Result<Attachment> FileSystemVolumeDriver::connect(Call& call, const Volume& volume) {
  AIOLOS_CHECK(image_format(volume));
  AIOLOS_TRY(const std::string share, normalized_export(volume));
  AIOLOS_TRY(const std::string path, mount_point(volume));
  // Where Nova would have it, whatever an earlier connect on this or another host wrote into the volume.
  AIOLOS_TRY(Attachment attachment, FileSystemVolumeDriver::describe(volume));
  {
    AIOLOS_TRY(const Call::Lock lock, call.lock(path));
    AIOLOS_CHECK(make_mounted(call, volume, share, path));
  }
  const MountPoint place(call, path);
  AIOLOS_TRY(const std::optional<Mount> mount, place.mounted());
  if (!mount) return another_mount(share, path, mount);
  AIOLOS_TRY(const std::uint64_t inode, inode_of(place, *mount, attachment.source.path));
  AIOLOS_TRY(const StorageFacts facts, call.probe(attachment.source.path, attachment.format));
  AIOLOS_CHECK(check_chain_on_share(place, *mount, facts));
  attachment.state = to_state({share, path, inode});
  return attachment;
}

/// Has the share mounted at `path` and working, and held unless it was mounted before all of its volumes. Under its
/// lock.
Result<void> FileSystemVolumeDriver::make_mounted(Call& call, const Volume& volume, const std::string& share,
                                                  const std::string& path) const {
  const MountPoint place(call, path);
  AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(place.resource()));
  AIOLOS_TRY(const std::optional<Mount> present, place.mounted());
  if (present) {
    if (!is_mount_of(*present, share)) return another_mount(share, path, present);
    Result<void> works = place.check_answers(*present);
    if (works) works = validate(call, *present);
    if (works) return holders.others > 0 ? call.hold(place.resource()) : Result<void>();
    AIOLOS_CHECK(clear_stale_mount(call, place, *present, holders, works.error()));
  }
  AIOLOS_CHECK(call.hold(place.resource()));
  AIOLOS_CHECK(place.make_folder());
  return mount(call, volume, share, path);
}

Result<void> FileSystemVolumeDriver::mount(Call& call, const Volume& volume, const std::string& share,
                                           const std::string& path) const {
  AIOLOS_TRY(const std::vector<std::string> command, mount_command(call, volume, share, path));
  const Result<void> mounted = call.effect(fmt::format("mount {} at {}", share, path), [&]() -> Result<void> {
    const Result<CommandResult> done = call.run(Command{command, {}, kMountTimeout});
    if (!done && done.error().kind == ErrorKind::retry)
      return aiolos::fail(ErrorKind::retry,
                          fmt::format("{} cannot be mounted: {} did not end within {} s, so its server does not answer",
                                      share, command.front(), kMountTimeout.count()),
                          "check the server and the network in between, then try again", "/data/export");
    if (!done) return tl::unexpected(done.error());
    if (done->status != 0) return tl::unexpected(mount_failure(*done, share));
    return {};
  });
  if (!mounted) return mounted;
  const MountPoint place(call, path);
  AIOLOS_TRY(const std::optional<Mount> found, place.mounted());
  if (!found || !is_mount_of(*found, share))
    return aiolos::fail(ErrorKind::storage,
                        fmt::format("{} said that it had mounted {} at {}, where {} is", command.front(), share, path,
                                    found ? found->source : "nothing"),
                        "mount it by hand to see what is wrong", "/data/export");
  AIOLOS_CHECK(place.check_answers(*found));
  return validate(call, *found);
}

// ---- disconnecting --------------------------------------------------------------------------------------------------

Result<void> FileSystemVolumeDriver::disconnect(Call& call, const Volume& volume, const Attachment* attachment, bool) {
  AIOLOS_TRY(const std::string share, normalized_export(volume));
  AIOLOS_TRY(std::string path, mount_point(volume));
  // Of a volume that is connected, the configuration may have changed since.
  if (const auto connected = attachment ? connected_of(*attachment) : std::nullopt) path = connected->mount_point;
  AIOLOS_TRY(const Call::Lock lock, call.lock(path));
  const MountPoint place(call, path);
  AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(place.resource()));
  if (!holders.held) return {};  // never mounted, or mounted before us
  if (holders.others == 0) {
    AIOLOS_TRY(const std::optional<Mount> mount, place.mounted());
    if (mount && is_mount_of(*mount, share)) AIOLOS_CHECK(place.unmount(*mount));
    AIOLOS_TRY(const std::optional<Mount> left, place.mounted());
    if (!left) AIOLOS_CHECK(place.remove_folder());
  }
  return call.release(place.resource());
}

// ---- the connected volume -------------------------------------------------------------------------------------------

Result<void> FileSystemVolumeDriver::verify(Call& call, const Volume&, const Attachment& attachment) {
  const std::optional<Connected> connected = connected_of(attachment);
  if (!connected) return {};
  const MountPoint place(call, connected->mount_point);
  AIOLOS_TRY(const std::optional<Mount> mount, place.mounted());
  if (!mount || !is_mount_of(*mount, connected->share))
    return another_mount(connected->share, connected->mount_point, mount);
  AIOLOS_TRY(const std::uint64_t inode, inode_of(place, *mount, attachment.source.path));
  if (!keeps_inode_numbers() || inode == connected->inode) return {};
  return aiolos::fail(ErrorKind::refused,
                      fmt::format("{} on {} is another file (inode {}) than the one that was connected (inode {})",
                                  attachment.source.path, mount->source, inode, connected->inode),
                      "find out who replaced it; the guest's data are in the old one");
}

Result<StorageFacts> FileSystemVolumeDriver::facts(Call& call, const Volume&, const Attachment& attachment) {
  // A probe of ours cannot be killed where it waits for a FUSE client, as a command can be left behind.
  if (const std::optional<Connected> connected = connected_of(attachment)) {
    const MountPoint place(call, connected->mount_point);
    AIOLOS_TRY(const std::optional<Mount> mount, place.mounted());
    if (mount) AIOLOS_CHECK(place.check_answers(*mount));
  }
  return call.probe(attachment.source.path, attachment.format);
}

Result<std::uint64_t> FileSystemVolumeDriver::extend(Call& call, const Volume& volume, const Attachment& attachment,
                                                     std::uint64_t bytes) {
  AIOLOS_TRY(const StorageFacts facts, FileSystemVolumeDriver::facts(call, volume, attachment));
  return extend_image(call, attachment, facts, bytes);
}

}  // namespace aiolos::sdk
