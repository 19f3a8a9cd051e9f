// SPDX-License-Identifier: Apache-2.0
// iSCSI volumes: logs the kernel's initiator in to the target, and publishes the LUN as a block device of this host.
//
// Source of the behaviour: Nova 26, virt/libvirt/volume/iscsi.py, and os-brick, initiator/connectors/iscsi.py. Unlike
// os-brick, this has no lock for the whole host, scans no other LUN than the volume's, puts no password on a command
// line, and knows a volume by its WWID. What the volumes of a target share is held in the journal:
//   "session IQN PORTAL"   the session, if a volume's connect logged in
//   "record IQN PORTAL"    open-iscsi's record of it, if a volume's connect made it
//   "lun IQN PORTAL LUN"   the SCSI device, if a volume's connect had it scanned
//   "discovery PORTAL"     open-iscsi's record of a discovery with CHAP
// What was there before any volume used it is used, and never taken away.
#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aiolos/plugin.hpp"
#include "connection.h"
#include "iscsiadm.h"
#include "portal_probe.h"
#include "record.h"
#include "scsi/paths.h"
#include "session.h"

namespace {

using namespace aiolos;
using namespace aiolos::iscsi;
using namespace std::chrono_literals;

// For the portals of a volume, all at once. A lost SYN is sent again after 1 s.
constexpr auto kProbeTimeout = 3s;
// Of a session's lock: longer than a login and a logout take.
constexpr auto kLockTimeout = 60s;
constexpr auto kLogoutTimeout = 10s;
// How long after it wrote the record a login of ours may come to its end: iscsid tries once, for 5 s (node_settings).
constexpr auto kLoginEnds = 7s;

/// How this host connects volumes: the configuration.
struct Configuration {
  bool use_multipath = false;
  std::string iface;
  int scan_attempts = 1;
};

Result<Configuration> read_configuration(const sdk::Value& configuration) {
  Configuration settings;
  AIOLOS_TRY(settings.use_multipath, configuration.at("use_multipath").boolean_or(false));
  AIOLOS_TRY(const std::string_view iface, configuration.at("iface").string_or("default"));
  settings.iface = iface;
  const sdk::Value attempts = configuration.at("scan_attempts");
  AIOLOS_TRY(const std::int64_t count, attempts.integer_or(1));
  if (count < 1 || count > 100)
    return attempts.error(std::to_string(count) + " scans cannot be made", "give a number from 1 to 100");
  settings.scan_attempts = static_cast<int>(count);
  return settings;
}

std::string session_resource(const TargetPortal& target) {
  return "session " + target.iqn + " " + to_string(target.portal);
}
std::string record_resource(const TargetPortal& target) {
  return "record " + target.iqn + " " + to_string(target.portal);
}
std::string lun_resource(const LunPath& path) {
  return "lun " + path.target.iqn + " " + to_string(path.target.portal) + " " + std::to_string(path.lun);
}
std::string discovery_resource(const Portal& portal) { return "discovery " + to_string(portal); }

std::string path_name(const LunPath& path) { return "portal " + to_string(path.target.portal); }

/// Holds what this volume is going to share, unless it was there before any volume used it: then it stays for ever.
/// Under the lock of the session, before it is made.
Result<void> share(sdk::Call& call, const std::string& resource, bool exists) {
  AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(resource));
  if (exists && !holders.held && holders.others == 0) return {};
  return call.hold(resource);
}

/// What this volume holds and no other does.
Result<bool> holds_alone(sdk::Call& call, const std::string& resource) {
  AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(resource));
  return holders.held && holders.others == 0;
}

/// What became of a login that this volume's connect may have begun.
enum class Login { ended, may_go_on };

/// A connected volume, as the attachment's state keeps it.
struct Connected {
  std::string wwid;
  std::vector<LunPath> paths;
};

Json to_json(const Connected& connected) {
  return {{"wwid", connected.wwid}, {"paths", iscsi::to_json(connected.paths)}};
}

/// nullopt for a volume that others connected.
Result<std::optional<Connected>> connected_from(const Attachment& attachment) {
  if (attachment.state.is_null()) return std::optional<Connected>();
  Connected connected;
  connected.wwid = attachment.state.value("wwid", "");
  AIOLOS_TRY(connected.paths, paths_from_json(attachment.state.value("paths", Json::array())));
  return std::optional(std::move(connected));
}

class IscsiDriver : public sdk::BlockVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "iscsi",
      .version = "1.0",
      .summary = "iSCSI LUNs as block devices of this host",
      .types = {"iscsi"},
      .configuration_key = "iscsi",
      .configuration_defaults = R"({"use_multipath": false, "iface": "default", "scan_attempts": 5})",
      .capabilities = AIOLOS_CAN_MULTIATTACH | AIOLOS_CAN_MULTIPATH,
      .thread_model = sdk::ThreadModel::per_target,
      .nova_driver_io = "native",
  };

  Result<void> init(sdk::Call& call) override {
    AIOLOS_TRY(settings_, read_configuration(call.configuration()));
    return {};
  }

  /// The volume: work on one LUN keeps nobody from working on others of its target.
  Result<std::string> target(const sdk::Volume& volume) const override {
    if (!names_target(volume)) {
      AIOLOS_TRY(const Attachment given, describe(volume));
      return given.source.path;
    }
    AIOLOS_TRY(const std::vector<LunPath> paths, read_paths(volume));
    return paths.front().target.iqn + " " + std::to_string(paths.front().lun);
  }

  Result<Attachment> connect(sdk::Call& call, const sdk::Volume& volume) override {
    if (!names_target(volume)) return describe(volume);  // by the orchestrator
    AIOLOS_TRY(const std::optional<Chap> chap, read_chap(volume, "auth"));
    AIOLOS_TRY(const std::vector<LunPath> wanted, wanted_paths(call, volume));
    AIOLOS_TRY(const std::vector<LunPath> paths, connect_paths(call, wanted, chap));
    AIOLOS_TRY(scsi::Published published, scsi::publish(call, sysfs_, devices_of(paths), settings_.use_multipath));
    Attachment attachment;
    attachment.source.kind = SourceKind::block;
    attachment.source.path = std::move(published.node);
    attachment.state = to_json(Connected{std::move(published.wwid), paths});
    return attachment;
  }

  Result<void> disconnect(sdk::Call& call, const sdk::Volume& volume, const Attachment* attachment,
                          bool force) override {
    if (!names_target(volume)) return {};
    Connected connected;
    if (attachment != nullptr) {
      AIOLOS_TRY(std::optional<Connected> known, connected_from(*attachment));
      if (known) connected = *std::move(known);
    }
    AIOLOS_TRY(connected.paths, possible_paths(volume, connected.paths));
    // Of a connect that failed nobody got the volume: there is nothing in it to be lost.
    const bool give_up = force || attachment == nullptr;
    AIOLOS_CHECK(release_devices(call, connected, give_up));
    for (const LunPath& path : connected.paths)
      AIOLOS_CHECK(leave(call, path, give_up, attachment == nullptr ? Login::may_go_on : Login::ended));
    return forget_discovery(call, connected.paths.front().target.portal);
  }

  Result<void> verify(sdk::Call& call, const sdk::Volume&, const Attachment& attachment) override {
    AIOLOS_TRY(const std::optional<Connected> connected, connected_from(attachment));
    if (!connected) return {};  // what others connected was never identified
    return scsi::verify(call, sysfs_, devices_of(connected->paths), connected->wwid, attachment.source.path);
  }

  Result<std::uint64_t> extend(sdk::Call& call, const sdk::Volume&, const Attachment& attachment,
                               std::uint64_t bytes) override {
    AIOLOS_TRY(const std::optional<Connected> connected, connected_from(attachment));
    if (!connected)
      return sdk::fail(ErrorKind::refused,
                       attachment.source.path + " was connected by another program, so its paths are not known here",
                       "extend it with what connected it, then tell the guest with virsh blockresize");
    for (const LunPath& path : connected->paths) AIOLOS_CHECK(check_session_up(path));
    return scsi::extend(call, sysfs_, devices_of(connected->paths), connected->wwid, bytes);
  }

  /// The target allocates, out of sight of this host's file systems: only a thin layer in between speaks against
  /// `native`.
  Result<AioAdvice> aio_mode(const Attachment&, const StorageFacts* facts) const override {
    return advise_remote_block(facts, "the iSCSI volume");
  }

 private:
  // --- which paths ---

  /// The paths to connect: those given, or with multipath those that the one portal given tells of.
  Result<std::vector<LunPath>> wanted_paths(sdk::Call& call, const sdk::Volume& volume) {
    AIOLOS_TRY(std::vector<LunPath> paths, read_paths(volume));
    if (!settings_.use_multipath || lists_portals(volume)) return paths;
    const LunPath given = paths.front();
    AIOLOS_TRY(const std::optional<Chap> chap, read_chap(volume, "discovery_auth"));
    // Before iscsiadm asks a portal that is dead, and waits.
    if (!probe_portals({given.target.portal}, kProbeTimeout).front().empty()) return paths;
    const Result<std::string> targets = chap ? discover_with_chap(call, given.target.portal, *chap)
                                             : discover(call, given.target.portal, settings_.iface, false);
    if (!targets) {
      call.warning("only the portal given is used: " + targets.error().message);
      return paths;
    }
    for (const Portal& portal : portals_in(*targets, given.target.iqn))
      if (portal != given.target.portal) paths.push_back({{portal, given.target.iqn}, given.lun});
    return paths;
  }

  Result<std::string> discover_with_chap(sdk::Call& call, const Portal& portal, const Chap& chap) {
    const std::string resource = discovery_resource(portal);
    AIOLOS_TRY(const auto lock, call.lock(resource, kLockTimeout));
    const bool exists = database_.discovery_record(portal).has_value();
    AIOLOS_CHECK(share(call, resource, exists));
    AIOLOS_CHECK(call.effect("make a discovery record of portal " + to_string(portal),
                             [&] { return prepare_discovery(call, portal, chap, exists); }));
    return discover(call, portal, settings_.iface, true);
  }

  Result<void> prepare_discovery(sdk::Call& call, const Portal& portal, const Chap& chap, bool exists) {
    if (!exists) AIOLOS_CHECK(create_discovery(call, portal));
    const std::optional<std::string> record = database_.discovery_record(portal);
    return record ? database_.change(*record, discovery_settings(chap)) : no_database();
  }

  Result<void> forget_discovery(sdk::Call& call, const Portal& portal) {
    const std::string resource = discovery_resource(portal);
    AIOLOS_TRY(const auto lock, call.lock(resource, kLockTimeout));
    AIOLOS_TRY(const bool alone, holds_alone(call, resource));
    const std::optional<std::string> record = database_.discovery_record(portal);
    if (alone && record) {
      AIOLOS_CHECK(call.effect("delete the discovery record of portal " + to_string(portal), [&] {
        database_.clean_up(*record);
        return delete_discovery(call, portal);
      }));
    }
    return call.release(resource);
  }

  /// The paths that a volume may have: those known, those given, and its LUN at every portal of its targets that has a
  /// session or a record, as a discovery before a crash may have given more. What it does not hold is left alone.
  Result<std::vector<LunPath>> possible_paths(const sdk::Volume& volume, const std::vector<LunPath>& known) const {
    AIOLOS_TRY(std::vector<LunPath> paths, read_paths(volume));
    const std::vector<LunPath> given = paths;
    const auto add = [&](const LunPath& path) {
      if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
    };
    std::for_each(known.begin(), known.end(), add);
    for (const LunPath& path : given) {
      for (const Session& session : list_sessions(sysfs_))
        if (session.peer.iqn == path.target.iqn) add({session.peer, path.lun});
      for (const Portal& portal : database_.portals_of(path.target.iqn)) add({{portal, path.target.iqn}, path.lun});
    }
    return paths;
  }

  /// Where the paths' devices are (or would be); a path without a session has none.
  std::vector<scsi::Path> devices_of(const std::vector<LunPath>& paths) const {
    std::vector<scsi::Path> devices;
    for (const LunPath& path : paths)
      if (const auto session = find_session(sysfs_, path.target, settings_.iface))
        devices.push_back({address_of(*session, path.lun), path_name(path)});
    return devices;
  }

  Result<void> check_session_up(const LunPath& path) const {
    const auto session = find_session(sysfs_, path.target, settings_.iface);
    if (session && session->logged_in()) return {};
    return sdk::fail(ErrorKind::refused,
                     "the volume cannot be extended while a path is down: the session with " + path_name(path) +
                         " is " + (session ? session->state : "gone"),
                     "bring the path back (or detach and attach the volume without it), then extend again");
  }

  // --- connecting ---

  /// With multipath all paths that work, otherwise the first one. @return at least one.
  Result<std::vector<LunPath>> connect_paths(sdk::Call& call, const std::vector<LunPath>& wanted,
                                             const std::optional<Chap>& chap) {
    std::vector<LunPath> connected;
    std::optional<Error> first;
    const std::vector<std::string> unreachable = why_unreachable(wanted);
    for (std::size_t index = 0; index < wanted.size(); ++index) {
      const Result<void> done = unreachable[index].empty() ? connect_path(call, wanted[index], chap)
                                                           : no_answer(wanted[index], unreachable[index]);
      if (done) {
        connected.push_back(wanted[index]);
        if (!settings_.use_multipath) break;
        continue;
      }
      if (wanted.size() > 1) call.warning("without " + path_name(wanted[index]) + ": " + done.error().message);
      if (!first) first = done.error();
    }
    if (connected.empty()) return tl::unexpected(*std::move(first));
    return connected;
  }

  /// One text a path: empty if its portal answers or has a session already. A portal behind an interface of its own
  /// can't be asked from here.
  std::vector<std::string> why_unreachable(const std::vector<LunPath>& paths) const {
    std::vector<std::string> texts(paths.size());
    if (settings_.iface != "default") return texts;
    std::vector<Portal> portals;
    for (const LunPath& path : paths) portals.push_back(path.target.portal);
    texts = probe_portals(portals, kProbeTimeout);
    for (std::size_t index = 0; index < paths.size(); ++index)
      if (find_session(sysfs_, paths[index].target, settings_.iface)) texts[index].clear();
    return texts;
  }

  static Result<void> no_answer(const LunPath& path, const std::string& why) {
    return sdk::fail(ErrorKind::retry, path_name(path) + " of target " + path.target.iqn + " does not answer: " + why,
                     "check the portal and the network to it, then try again");
  }

  Result<void> connect_path(sdk::Call& call, const LunPath& path, const std::optional<Chap>& chap) {
    const Result<scsi::Address> address = join(call, path, chap);
    Result<void> found = address ? find_device(call, path, *address) : tl::unexpected(address.error());
    if (found) return {};
    // Nothing stays of a path that is not used, such as a record with a wrong password.
    if (const Result<void> left = leave(call, path, /*force=*/true, Login::ended); !left)
      call.warning("cleaning up " + path_name(path) + ": " + left.error().message);
    return found;
  }

  /// Makes this volume one of those that use the session and the device; logs in if nobody has.
  Result<scsi::Address> join(sdk::Call& call, const LunPath& path, const std::optional<Chap>& chap) {
    AIOLOS_TRY(const auto lock, call.lock(session_resource(path.target), kLockTimeout));
    AIOLOS_CHECK(await_login(call, path.target));
    std::optional<Session> session = find_session(sysfs_, path.target, settings_.iface);
    AIOLOS_CHECK(share(call, session_resource(path.target), session.has_value()));
    if (session) {
      AIOLOS_TRY(const VolumeJournal::Holders record, call.holders(record_resource(path.target)));
      if (record.others > 0) AIOLOS_CHECK(call.hold(record_resource(path.target)));
    } else {
      AIOLOS_CHECK(make_session(call, path.target, chap));
      session = find_session(sysfs_, path.target, settings_.iface);
    }
    if (!session || !session->logged_in())
      return sdk::fail(ErrorKind::retry,
                       "the session with " + path_name(path) + " of target " + path.target.iqn + " is " +
                           (session ? session->state : "gone"),
                       "iscsid opens it again when the portal answers; try again then");
    const scsi::Address address = address_of(*session, path.lun);
    AIOLOS_CHECK(share(call, lun_resource(path), scsi::find_disk(sysfs_, address).has_value()));
    return address;
  }

  /// When iscsiadm is killed with the command that logs in, iscsid goes on. Waits until such a login has made its
  /// session or has ended without one, for as long as that can take. Under the lock of the session.
  Result<void> await_login(sdk::Call& call, const TargetPortal& target) const {
    AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(session_resource(target)));
    if (!holders.held && holders.others == 0) return {};  // nobody's connect has begun
    const std::optional<std::string> record = database_.node_record(target, settings_.iface);
    const auto age = record ? Database::age(*record) : std::nullopt;
    if (!age || *age < 0ms || *age >= kLoginEnds) return {};
    scsi::wait_until(std::chrono::duration_cast<std::chrono::milliseconds>(kLoginEnds) - *age, [&] {
      const auto session = find_session(sysfs_, target, settings_.iface);
      return session && !session->logging_in();
    });
    return {};
  }

  Result<void> make_session(sdk::Call& call, const TargetPortal& target, const std::optional<Chap>& chap) {
    const bool exists = database_.node_record(target, settings_.iface).has_value();
    AIOLOS_CHECK(share(call, record_resource(target), exists));
    AIOLOS_CHECK(call.effect("make a record of " + target.iqn + " at " + to_string(target.portal),
                             [&] { return prepare_record(call, target, chap, exists); }));
    return call.effect("log in to " + target.iqn + " at " + to_string(target.portal),
                       [&] { return log_in(call, target, settings_.iface, chap.has_value()); });
  }

  Result<void> prepare_record(sdk::Call& call, const TargetPortal& target, const std::optional<Chap>& chap,
                              bool exists) {
    if (!exists) AIOLOS_CHECK(create_record(call, target, settings_.iface));
    const std::optional<std::string> record = database_.node_record(target, settings_.iface);
    return record ? database_.change(*record, node_settings(chap)) : no_database();
  }

  static Result<void> no_database() {
    return sdk::fail(ErrorKind::configuration,
                     "open-iscsi keeps its records neither in /etc/iscsi nor in /var/lib/iscsi",
                     "use an open-iscsi that does");
  }

  Result<void> find_device(sdk::Call& call, const LunPath& path, const scsi::Address& address) {
    // One that is there may have grown since it was scanned.
    if (const auto disk = scsi::find_disk(sysfs_, address)) return scsi::rescan(call, sysfs_, *disk);
    const Result<scsi::Disk> disk = call.effect(
        "scan LUN " + std::to_string(path.lun) + " of " + path.target.iqn + " at " + to_string(path.target.portal),
        [&] { return scsi::find_or_scan(call, sysfs_, address, settings_.scan_attempts, path_name(path)); });
    if (!disk) return tl::unexpected(disk.error());
    return {};
  }

  // --- disconnecting ---

  /// Flushes and deletes the devices that only this volume's connect made, and the map over them.
  Result<void> release_devices(sdk::Call& call, const Connected& connected, bool force) {
    std::vector<LunPath> own;
    for (const LunPath& path : connected.paths) {
      AIOLOS_TRY(const bool alone, holds_alone(call, lun_resource(path)));
      if (alone) own.push_back(path);
    }
    if (own.empty()) return {};
    const std::vector<scsi::Path> devices = devices_of(own);
    AIOLOS_CHECK(scsi::release_map(call, sysfs_, devices, connected.wwid, force));
    for (const LunPath& path : own) {
      const auto session = find_session(sysfs_, path.target, settings_.iface);
      if (!session) continue;
      const scsi::Path device{address_of(*session, path.lun), path_name(path)};
      // To delete a device that has lost its connection waits for the connection; the logout takes it without.
      AIOLOS_CHECK(session->logged_in() ? scsi::release_disk(call, sysfs_, device, force)
                                        : scsi::flush_disk(call, sysfs_, device, force));
    }
    return {};
  }

  /// Ends this volume's use of a path. What the last volume leaves goes, unless the session has a device of another
  /// LUN.
  Result<void> leave(sdk::Call& call, const LunPath& path, bool force, Login login) {
    const std::string session = session_resource(path.target);
    const std::string record = record_resource(path.target);
    {
      AIOLOS_TRY(const auto lock, call.lock(session, kLockTimeout));
      if (login == Login::may_go_on) AIOLOS_CHECK(await_login(call, path.target));
      AIOLOS_CHECK(end_session(call, path));
      AIOLOS_CHECK(end_record(call, path.target));
      AIOLOS_CHECK(call.release(record));
      AIOLOS_CHECK(call.release(session));
    }
    return end_lun(call, path, force);
  }

  Result<void> end_session(sdk::Call& call, const LunPath& path) {
    AIOLOS_TRY(const bool alone, holds_alone(call, session_resource(path.target)));
    const auto session = find_session(sysfs_, path.target, settings_.iface);
    if (!alone || !session) return {};
    if (has_other_luns(sysfs_, *session, path.lun)) {
      call.info("the session with " + path_name(path) + " stays: it has devices of other LUNs");
      return {};
    }
    return call.effect("log out of " + path.target.iqn + " at " + to_string(path.target.portal),
                       [&] { return log_out_and_wait(call, path, session->iface); });
  }

  Result<void> log_out_and_wait(sdk::Call& call, const LunPath& path, const std::string& iface) const {
    AIOLOS_CHECK(log_out(call, path.target, iface));
    const auto gone = [&] { return !find_session(sysfs_, path.target, iface); };
    if (scsi::wait_until(kLogoutTimeout, gone)) return {};
    return sdk::fail(ErrorKind::retry, "the session with " + path_name(path) + " does not end after its logout",
                     "look at iscsid's log, then try again");
  }

  /// A session that stays needs its record: iscsid reads the password there when it is started anew.
  Result<void> end_record(sdk::Call& call, const TargetPortal& target) {
    AIOLOS_TRY(const bool alone, holds_alone(call, record_resource(target)));
    // iscsiadm fails to delete what is not there, as after a crash or for an interface that does not exist.
    if (!alone || find_session(sysfs_, target, settings_.iface)) return {};
    const std::optional<std::string> record = database_.node_record(target, settings_.iface);
    if (record) {
      const std::string what = "delete the record of " + target.iqn + " at " + to_string(target.portal);
      const Result<void> deleted = call.effect(what, [&]() -> Result<void> {
        database_.clean_up(*record);
        AIOLOS_CHECK(delete_record(call, target, settings_.iface));
        database_.remove(*record);
        return {};
      });
      if (!deleted) return deleted;
    }
    database_.remove_remains(target);
    return {};
  }

  /// The device goes with the session. One whose session stays, but has lost its connection, is left to be deleted
  /// here.
  Result<void> end_lun(sdk::Call& call, const LunPath& path, bool force) {
    AIOLOS_TRY(const bool alone, holds_alone(call, lun_resource(path)));
    const auto session = find_session(sysfs_, path.target, settings_.iface);
    if (alone && session) {
      AIOLOS_CHECK(scsi::release_disk(call, sysfs_, {address_of(*session, path.lun), path_name(path)}, force));
    }
    return call.release(lun_resource(path));
  }

  Configuration settings_;
  scsi::Sysfs sysfs_;
  Database database_;
};

}  // namespace

AIOLOS_PLUGIN(IscsiDriver)
