// SPDX-License-Identifier: Apache-2.0
// NVMe-oF over TCP: a namespace of a remote subsystem, as a block device of this host.
//
// connection_info as Cinder has it; source: os-brick, initiator/connectors/nvmeof.py. A subsystem may have several
// namespaces, which several volumes are, and several portals, which the kernel's own multipath combines to one disk.
// The volumes of this host share the subsystem's controllers: each holds it, and the last one disconnects it.
//
// The state is in sysfs and not in what nvme-cli 2.3 says: it ends with status 1 for every failure and with 0 for
// disconnecting nothing, or a disk in use.
#include <aiolos/core/posix.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <aiolos/plugin.hpp>
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace aiolos;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr auto kPortalTimeout = 3s;       // for a portal to answer a TCP connection: a SYN and two retries of it
constexpr auto kConnectTimeout = 10s;     // for `nvme connect`, whose kernel side would wait for minutes
constexpr auto kDisconnectTimeout = 20s;  // the kernel first gives up what is queued on a path that is gone
constexpr auto kFlushTimeout = 15s;       // one whose paths are all lost would wait for ctrl_loss_tmo
constexpr auto kNamespaceTimeout = 10s;   // for the kernel to find a namespace of a connected controller
constexpr auto kLockTimeout = 30s;        // several portals may take their time, one after the other
constexpr auto kPoll = 100ms;
constexpr std::uint64_t kSector = 512;  // unit of /sys/class/block/*/size, whatever the disk's own

// --- the connection_info --------------------------------------------------------------------------------------------

struct Portal {
  std::string address;  ///< IPv4 or IPv6, as inet_ntop writes it.
  std::string port;

  std::string text() const { return address + " port " + port; }
};

/// What a volume is: a namespace of a subsystem, by any of its identifiers.
struct NamespaceId {
  std::string nqn;
  std::string uuid;   ///< Lower case, with dashes; empty if not given, as the next two.
  std::string nguid;  ///< Lower case, without dashes.
  std::string nsid;

  std::string text() const {
    const std::string name = !uuid.empty() ? "UUID " + uuid : !nguid.empty() ? "NGUID " + nguid : "number " + nsid;
    return "the namespace with " + name + " of " + nqn;
  }
};

/// Hexadecimal digits alone, in lower case: UUIDs and NGUIDs are written with and without dashes.
std::string digits_of(std::string_view identifier) {
  std::string digits;
  for (const char c : identifier)
    if (c != '-') digits += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return digits;
}

std::string dashed(std::string digits) {
  for (const std::size_t place : {8u, 13u, 18u, 23u}) digits.insert(place, "-");
  return digits;
}

/// The 32 hexadecimal digits of an identifier; empty if it is not given.
Result<std::string> identifier(const sdk::Value& value) {
  AIOLOS_TRY(const std::string_view text, value.string_or(""));
  std::string digits = digits_of(text);
  const bool is_hex = digits.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!text.empty() && (digits.size() != 32 || !is_hex))
    return value.error("'" + std::string(text) + "' is no UUID or NGUID", "give its 32 hexadecimal digits");
  return digits;
}

/// The first of two names of a member that is there.
sdk::Value either(const sdk::Volume& volume, std::string_view name, std::string_view other) {
  const sdk::Value value = volume.data().at(name);
  return value ? value : volume.data().at(other);
}

Result<std::string> read_nqn(const sdk::Volume& volume) {
  const sdk::Value value = either(volume, "target_nqn", "nqn");
  AIOLOS_TRY(const std::string_view nqn, value.string());
  constexpr std::size_t kLongest = 223;  // NVMe base specification, 4.5: NVMe Qualified Names
  if (!nqn.starts_with("nqn.") || nqn.size() > kLongest ||
      nqn.find_first_of(std::string_view(" \t\r\n\0,", 6)) != std::string_view::npos)
    return value.error("this is no NVMe Qualified Name",
                       "give the subsystem's, such as nqn.2014-08.org.nvmexpress:...");
  return std::string(nqn);
}

Result<NamespaceId> read_namespace_id(const sdk::Volume& volume) {
  NamespaceId id;
  AIOLOS_TRY(id.nqn, read_nqn(volume));
  AIOLOS_TRY(const std::string uuid, identifier(either(volume, "vol_uuid", "volume_uuid")));
  if (!uuid.empty()) id.uuid = dashed(uuid);
  AIOLOS_TRY(id.nguid, identifier(volume.data().at("volume_nguid")));
  const sdk::Value number = volume.data().at("ns_id");
  if (number) {
    AIOLOS_TRY(id.nsid, number.text());
    if (id.nsid.empty() || id.nsid.find_first_not_of("0123456789") != std::string::npos)
      return number.error("this is no namespace number", "give it as an integer from 1 on");
  }
  if (id.uuid.empty() && id.nguid.empty() && id.nsid.empty())
    return volume.data()
        .at("vol_uuid")
        .error("nothing says which namespace of " + id.nqn + " the volume is", "give vol_uuid, volume_nguid or ns_id");
  return id;
}

Result<Portal> read_portal(const sdk::Value& address, const sdk::Value& port) {
  AIOLOS_TRY(const std::string text, address.text());
  unsigned char bytes[sizeof(in6_addr)];
  char normal[INET6_ADDRSTRLEN];
  const int family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
  if (::inet_pton(family, text.c_str(), bytes) != 1 || text.find('\0') != std::string::npos)
    return address.error("this is no IP address", "give the portal's IPv4 or IPv6 address");
  Portal portal{::inet_ntop(family, bytes, normal, sizeof normal), {}};
  AIOLOS_TRY(portal.port, port.text());
  if (portal.port.empty() || portal.port.size() > 5 || portal.port.find_first_not_of("0123456789") != std::string::npos)
    return port.error("this is no port", "give its number; 4420 is usual");
  return portal;
}

Result<void> check_transport(const sdk::Value& transport) {
  AIOLOS_TRY(const std::string_view name, transport.string_or("tcp"));
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "tcp") return {};
  return sdk::fail(ErrorKind::refused, "the transport '" + std::string(name) + "' is not served, only tcp",
                   "export the volume over TCP, or install a driver for that transport", transport.pointer());
}

/// data.portals as os-brick has it, [[address, port, transport], ...], or the older data.target_portal and target_port.
Result<std::vector<Portal>> read_portals(const sdk::Volume& volume) {
  const sdk::Value data = volume.data();
  const sdk::Value list = data.at("portals");
  if (!list) {
    AIOLOS_CHECK(check_transport(data.at("transport_type")));
    AIOLOS_TRY(Portal portal, read_portal(data.at("target_portal"), data.at("target_port")));
    return std::vector{std::move(portal)};
  }
  if (list.type() != AIOLOS_ARRAY || list.size() == 0) return list.mismatch("a list of [address, port, transport]");
  std::vector<Portal> portals;
  for (const sdk::Value entry : list) {
    if (entry.type() != AIOLOS_ARRAY || entry.size() < 2) return entry.mismatch("[address, port, transport]");
    AIOLOS_CHECK(check_transport(entry[2]));
    AIOLOS_TRY(Portal portal, read_portal(entry[0], entry[1]));
    portals.push_back(std::move(portal));
  }
  return portals;
}

/// Refuses what this driver would have to leave out.
Result<void> check_served(const sdk::Volume& volume) {
  for (const char* key : {"dhchap_key", "dhchap_secret", "dhchap_ctrl_secret", "auth_method"})
    if (const sdk::Value value = volume.data().at(key))
      return sdk::fail(ErrorKind::refused,
                       "DH-HMAC-CHAP is not served: nvme-cli takes its secret as an argument only, which all users see",
                       "admit this host at the storage by its host NQN", value.pointer());
  if (const sdk::Value replicas = volume.data().at("volume_replicas"); replicas.size() > 0)
    return sdk::fail(ErrorKind::refused, "volumes of several replicas are not served",
                     "let the storage replicate, or attach one of them", replicas.pointer());
  return {};
}

// --- what the kernel shows ------------------------------------------------------------------------------------------

std::string read_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

/// Names of a folder of sysfs, sorted.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code gone;
  for (fs::directory_iterator entry(folder, gone), end; !gone && entry != end; entry.increment(gone))
    names.push_back(entry->path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

struct Controller {
  std::string name;     ///< "nvme0"
  std::string address;  ///< "traddr=10.1.0.1,trsvcid=4420,..."
  std::string state;    ///< "live", "connecting", "deleting", ...

  bool is_at(const Portal& portal) const {
    return (address + ",").starts_with("traddr=" + portal.address + ",trsvcid=" + portal.port + ",");
  }
};

std::vector<Controller> controllers_of(const std::string& nqn) {
  const fs::path all = "/sys/class/nvme";
  std::vector<Controller> controllers;
  for (const std::string& name : names_in(all))
    if (read_line(all / name / "subsysnqn") == nqn)
      controllers.push_back({name, read_line(all / name / "address"), read_line(all / name / "state")});
  return controllers;
}

/// A namespace's disk: that of the kernel's multipath, where it has several paths.
struct Disk {
  std::string name;  ///< "nvme0n1"
  std::string uuid;
  std::string nguid;
  std::string nsid;
  std::string wwid;

  fs::path sysfs() const { return fs::path("/sys/class/block") / name; }
  std::string path() const { return "/dev/" + name; }
  std::uint64_t size() const { return std::strtoull(read_line(sysfs() / "size").c_str(), nullptr, 10) * kSector; }

  bool is(const NamespaceId& id) const {
    return (id.uuid.empty() || id.uuid == uuid) && (id.nguid.empty() || id.nguid == nguid) &&
           (id.nsid.empty() || id.nsid == nsid);
  }
};

Disk disk_of(const std::string& name) {
  const fs::path sysfs = fs::path("/sys/class/block") / name;
  return {name, read_line(sysfs / "uuid"), digits_of(read_line(sysfs / "nguid")), read_line(sysfs / "nsid"),
          read_line(sysfs / "wwid")};
}

/// Whether it is a disk, nvme0n1, and neither a partition, nvme0n1p1, nor one path to a disk, nvme0c0n1.
bool is_disk(std::string_view name) {
  const std::size_t second = name.find('n', 1);
  return name.starts_with("nvme") && second != std::string_view::npos &&
         name.find_first_not_of("0123456789", 4) == second &&
         name.find_first_not_of("0123456789", second + 1) == std::string_view::npos;
}

std::vector<Disk> disks_of(const std::string& nqn) {
  std::vector<Disk> disks;
  for (const std::string& name : names_in("/sys/class/block"))
    if (is_disk(name) && read_line(fs::path("/sys/class/block") / name / "device/subsysnqn") == nqn)
      disks.push_back(disk_of(name));
  return disks;
}

std::optional<Disk> find_disk(const NamespaceId& id) {
  for (Disk& disk : disks_of(id.nqn))
    if (disk.is(id)) return std::move(disk);
  return std::nullopt;
}

/// Asks until the answer is one, or the time is over.
template <typename Ask>
auto poll_for(std::chrono::milliseconds timeout, Ask ask) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  auto answer = ask();
  while (!answer && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPoll);
    answer = ask();
  }
  return answer;
}

// --- who uses a disk (nvme-cli disconnects one in use, too) ---------------------------------------------------------

/// Whether a path is the disk's or a partition's of it.
bool is_on(std::string_view path, const std::string& device) {
  return path == device || path.starts_with(device + "p");
}

/// A process that has the device open; empty if there is none. Reading a link touches no device.
std::string process_with(const std::string& device) {
  for (const std::string& process : names_in("/proc")) {
    if (process.find_first_not_of("0123456789") != std::string::npos) continue;
    const fs::path folder = fs::path("/proc") / process;
    for (const std::string& descriptor : names_in(folder / "fd")) {
      std::error_code gone;
      const std::string target = fs::read_symlink(folder / "fd" / descriptor, gone).native();
      // udev looks at a disk that has come, and is gone again.
      if (!gone && is_on(target, device) && read_line(folder / "comm").find("udev") == std::string::npos)
        return "process " + process + " (" + read_line(folder / "comm") + ")";
    }
  }
  return {};
}

/// Who uses the disk or a partition of it; empty if nobody does.
Result<std::string> user_of(sdk::Call& call, const Disk& disk) {
  AIOLOS_TRY(const std::vector<Mount> mounts, call.mounts());
  for (const Mount& mount : mounts)
    if (is_on(mount.source, disk.path())) return "a mount at " + mount.target;
  std::vector<std::string> nodes{disk.name};
  for (const std::string& name : names_in(disk.sysfs()))
    if (is_on(name, disk.name)) nodes.push_back(name);
  for (const std::string& node : nodes)
    if (const auto holders = names_in(fs::path("/sys/class/block") / node / "holders"); !holders.empty())
      return "the block device " + holders.front();
  return process_with(disk.path());
}

// --- portals --------------------------------------------------------------------------------------------------------

/// A TCP connection that is being tried.
class Attempt {
 public:
  explicit Attempt(Portal portal) : portal_(std::move(portal)) {
    sockaddr_storage address{};
    const socklen_t size = fill(address);
    socket_.reset(::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket_ ||
        (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 && errno != EINPROGRESS))
      failed(errno);
  }

  const Portal& portal() const { return portal_; }
  const std::string& error() const { return error_; }

  /// Waits for its end. @return whether the portal has answered; otherwise `error` says why not.
  bool wait(std::chrono::steady_clock::time_point deadline) {
    if (!error_.empty()) return false;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waiting{socket_.get(), POLLOUT, 0};
    if (::poll(&waiting, 1, static_cast<int>(std::max(left, 0ms).count())) <= 0) return failed(ETIMEDOUT);
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    return error == 0 || failed(error);
  }

 private:
  socklen_t fill(sockaddr_storage& address) const {
    const auto port = htons(static_cast<std::uint16_t>(std::strtoul(portal_.port.c_str(), nullptr, 10)));
    if (portal_.address.find(':') == std::string::npos) {
      auto* const v4 = reinterpret_cast<sockaddr_in*>(&address);
      v4->sin_family = AF_INET;
      v4->sin_port = port;
      ::inet_pton(AF_INET, portal_.address.c_str(), &v4->sin_addr);
      return sizeof *v4;
    }
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = port;
    ::inet_pton(AF_INET6, portal_.address.c_str(), &v6->sin6_addr);
    return sizeof *v6;
  }

  bool failed(int error) {
    error_ = portal_.text() + ": " + errno_text(error);
    return false;
  }

  Portal portal_;
  UniqueFd socket_;
  std::string error_;
};

/// Portals that answer, all tried at once: several that are dead take no longer than one. And why the others do not.
struct Reached {
  std::vector<Portal> portals;
  std::vector<std::string> errors;
};

Reached reach(const std::vector<Portal>& portals) {
  std::vector<Attempt> attempts;
  for (const Portal& portal : portals) attempts.emplace_back(portal);
  const auto deadline = std::chrono::steady_clock::now() + kPortalTimeout;
  Reached reached;
  for (Attempt& attempt : attempts) {
    if (attempt.wait(deadline))
      reached.portals.push_back(attempt.portal());
    else
      reached.errors.push_back(attempt.error());
  }
  return reached;
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : "; ") + text;
  return all;
}

/// Last line of what a command had to say.
std::string complaint(const CommandResult& result) {
  std::string text = result.errors.empty() ? result.output : result.errors;
  while (text.ends_with('\n')) text.pop_back();
  text = text.substr(text.rfind('\n') + 1);
  return text.empty() ? "exit status " + std::to_string(result.status) : text;
}

// --- the driver -----------------------------------------------------------------------------------------------------

class NvmeofDriver : public sdk::BlockVolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{
      .name = "nvmeof",
      .version = "1.0",
      .summary = "NVMe-oF namespaces over TCP as block devices of this host",
      .types = {"nvmeof"},
      .configuration_key = "nvmeof",
      .configuration_defaults = R"({"ctrl_loss_tmo": 600, "reconnect_delay": 2, "keep_alive_tmo": 5})",
      .capabilities = AIOLOS_CAN_MULTIATTACH | AIOLOS_CAN_MULTIPATH,
      .thread_model = sdk::ThreadModel::per_target,
  };

  NvmeofDriver() : BlockVolumeDriver("the NVMe namespace") {}

  Result<std::string> target(const sdk::Volume& volume) const override {
    AIOLOS_TRY(const NamespaceId id, read_namespace_id(volume));
    return id.text();
  }

  Result<Attachment> connect(sdk::Call& call, const sdk::Volume& volume) override {
    AIOLOS_TRY(const NamespaceId id, read_namespace_id(volume));
    AIOLOS_TRY(const std::vector<Portal> portals, read_portals(volume));
    AIOLOS_CHECK(check_served(volume));
    AIOLOS_CHECK(connect_subsystem(call, volume, id.nqn, portals));
    AIOLOS_TRY(const Disk disk, wait_for_disk(call, id));
    Attachment attachment;
    attachment.source.kind = SourceKind::block;
    attachment.source.path = disk.path();
    attachment.state = {{"nqn", id.nqn}, {"wwid", disk.wwid}};
    return attachment;
  }

  Result<void> disconnect(sdk::Call& call, const sdk::Volume& volume, const Attachment* attachment,
                          bool force) override {
    AIOLOS_TRY(const NamespaceId id, read_namespace_id(volume));
    AIOLOS_TRY(const VolumeJournal::Holders before, call.holders(id.nqn));
    if (!before.held) return {};  // it was there before us, or is gone
    const std::optional<Disk> disk = find_disk(id);
    if (disk && attachment != nullptr && !force) AIOLOS_CHECK(flush(call, *disk));
    AIOLOS_TRY(const auto lock, call.lock(lock_of(id.nqn), kLockTimeout));
    AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(id.nqn));
    if (holders.others == 0) AIOLOS_CHECK(disconnect_subsystem(call, id));
    return call.release(id.nqn);
  }

  Result<std::uint64_t> extend(sdk::Call& call, const sdk::Volume& volume, const Attachment&,
                               std::uint64_t bytes) override {
    AIOLOS_TRY(const NamespaceId id, read_namespace_id(volume));
    AIOLOS_TRY(const Disk disk, wait_for_disk(call, id));
    if (disk.size() < bytes) AIOLOS_CHECK(rescan(call, id.nqn));
    if (poll_for(kNamespaceTimeout, [&] { return disk.size() >= bytes; })) return disk.size();
    return sdk::fail(ErrorKind::storage,
                     disk.path() + " has " + std::to_string(disk.size()) + " bytes, less than the " +
                         std::to_string(bytes) + " asked for",
                     "grow the volume at the storage first, then extend again");
  }

  /// A namespace that was deleted leaves its number, and the disk's name, to the next one. Where there is no disk any
  /// more, nothing could be mistaken for it, and a guest must be able to lose it.
  Result<void> verify(sdk::Call&, const sdk::Volume& volume, const Attachment& attachment) override {
    AIOLOS_TRY(const NamespaceId id, read_namespace_id(volume));
    const std::string& path = attachment.source.path;
    const std::string wwid = attachment.state.value("wwid", "");
    const Disk now = disk_of(fs::path(path).filename());
    const bool is_gone = now.wwid.empty();
    const bool is_same = now.wwid == wwid && now.is(id) && read_line(now.sysfs() / "device/subsysnqn") == id.nqn;
    if (is_gone || is_same) return {};
    return sdk::fail(ErrorKind::refused, path + " is " + now.wwid + " now, and the volume is " + wwid,
                     "the storage has given the volume's place to another: ask for its connection anew");
  }

 private:
  static std::string lock_of(const std::string& nqn) { return "subsystem " + nqn; }

  /// Makes the controllers that are missing. A subsystem that is connected already, and by nobody of ours, is used as
  /// it is, and stays when the volume goes.
  static Result<void> connect_subsystem(sdk::Call& call, const sdk::Volume& volume, const std::string& nqn,
                                        const std::vector<Portal>& portals) {
    AIOLOS_TRY(const std::vector<Portal> missing, missing_portals(call, nqn, portals));
    if (missing.empty()) return hold_if_ours(call, nqn);
    Reached reached = reach(missing);
    AIOLOS_TRY(const auto lock, call.lock(lock_of(nqn), kLockTimeout));
    AIOLOS_TRY(const bool ours, is_ours(call, nqn));
    if (!ours) return {};
    AIOLOS_CHECK(call.hold(nqn));
    AIOLOS_CHECK(check_kernel());
    for (const Portal& portal : reached.portals)
      if (!is_connected(nqn, portal)) AIOLOS_CHECK(connect_portal(call, volume, nqn, portal, reached.errors));
    for (const std::string& error : reached.errors) call.warning(nqn + " is not reached by " + error);
    if (!controllers_of(nqn).empty()) return {};
    return sdk::fail(ErrorKind::retry, "no portal of " + nqn + " can be connected: " + joined(reached.errors),
                     "see whether the storage exports the subsystem there, to this host's NQN (/etc/nvme/hostnqn)");
  }

  /// Whether the subsystem is for us to connect: there is none, or a volume of ours made it.
  static Result<bool> is_ours(sdk::Call& call, const std::string& nqn) {
    AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(nqn));
    return holders.held || holders.others > 0 || controllers_of(nqn).empty();
  }

  static Result<void> hold_if_ours(sdk::Call& call, const std::string& nqn) {
    AIOLOS_TRY(const auto lock, call.lock(lock_of(nqn), kLockTimeout));
    AIOLOS_TRY(const bool ours, is_ours(call, nqn));
    return ours ? call.hold(nqn) : Result<void>();
  }

  static bool is_connected(const std::string& nqn, const Portal& portal) {
    const auto controllers = controllers_of(nqn);
    return std::any_of(controllers.begin(), controllers.end(),
                       [&](const Controller& controller) { return controller.is_at(portal); });
  }

  /// Portals to connect; none where the subsystem is not ours.
  static Result<std::vector<Portal>> missing_portals(sdk::Call& call, const std::string& nqn,
                                                     const std::vector<Portal>& portals) {
    AIOLOS_TRY(const bool ours, is_ours(call, nqn));
    std::vector<Portal> missing;
    for (const Portal& portal : portals)
      if (ours && !is_connected(nqn, portal)) missing.push_back(portal);
    return missing;
  }

  static Result<void> check_kernel() {
    if (::access("/dev/nvme-fabrics", F_OK) == 0) return {};
    return sdk::fail(ErrorKind::configuration, "this kernel has no NVMe over fabrics: there is no /dev/nvme-fabrics",
                     "load it: modprobe nvme-tcp, and name it in /etc/modules-load.d");
  }

  /// @param errors where a portal that does not connect is written down: another may.
  static Result<void> connect_portal(sdk::Call& call, const sdk::Volume& volume, const std::string& nqn,
                                     const Portal& portal, std::vector<std::string>& errors) {
    AIOLOS_TRY(const std::vector<std::string> argv, connect_command(volume, nqn, portal));
    const auto done = call.effect("connect " + nqn + " by " + portal.text(), [&] {
      return call.run(Command{argv, {}, kConnectTimeout});
    });
    if (done && done->status != 0) errors.push_back(portal.text() + ": " + complaint(*done));
    if (done) return {};
    if (done.error().kind != ErrorKind::retry) return tl::unexpected(done.error());
    errors.push_back(portal.text() + ": " + done.error().message);
    return {};
  }

  static Result<std::vector<std::string>> connect_command(const sdk::Volume& volume, const std::string& nqn,
                                                          const Portal& portal) {
    std::vector<std::string> argv{
        "nvme", "connect", "--transport=tcp", "--traddr=" + portal.address, "--trsvcid=" + portal.port, "--nqn=" + nqn};
    AIOLOS_TRY(const std::string_view host_nqn, volume.data().at("host_nqn").string_or(""));
    if (!host_nqn.empty()) argv.push_back("--hostnqn=" + std::string(host_nqn));
    const auto option = [&](const char* key, const char* name) -> Result<void> {
      AIOLOS_TRY(const std::int64_t seconds, volume.configuration().at(key).integer());
      argv.push_back(std::string(name) + "=" + std::to_string(seconds));
      return {};
    };
    AIOLOS_CHECK(option("ctrl_loss_tmo", "--ctrl-loss-tmo"));
    AIOLOS_CHECK(option("reconnect_delay", "--reconnect-delay"));
    AIOLOS_CHECK(option("keep_alive_tmo", "--keep-alive-tmo"));
    return argv;
  }

  /// The volume's disk, with its node in /dev; the kernel is asked to look again if it does not come.
  static Result<Disk> wait_for_disk(sdk::Call& call, const NamespaceId& id) {
    const auto look = [&]() -> std::optional<Disk> {
      const std::optional<Disk> disk = find_disk(id);
      return disk && ::access(disk->path().c_str(), F_OK) == 0 ? disk : std::nullopt;
    };
    std::optional<Disk> disk = poll_for(kNamespaceTimeout / 4, look);
    if (!disk) {
      AIOLOS_CHECK(rescan(call, id.nqn));
      disk = poll_for(kNamespaceTimeout, look);
    }
    if (disk) return *std::move(disk);
    for (const Disk& other : disks_of(id.nqn))
      if (!id.nsid.empty() && other.nsid == id.nsid)
        return sdk::fail(ErrorKind::refused, other.path() + " is " + other.wwid + ", and not " + id.text(),
                         "the storage has given the number to another volume: ask for its connection anew");
    return sdk::fail(ErrorKind::storage, id.text() + " does not appear on this host",
                     "see whether the storage exports it to this host's NQN (/etc/nvme/hostnqn)");
  }

  /// Has every live controller look for namespaces and their sizes.
  static Result<void> rescan(sdk::Call& call, const std::string& nqn) {
    for (const Controller& controller : controllers_of(nqn)) {
      if (controller.state != "live") continue;
      const auto done = call.effect("rescan the namespaces of " + controller.name, [&] {
        return call.run(Command{{"nvme", "ns-rescan", "/dev/" + controller.name}, {}, kConnectTimeout});
      });
      if (!done && done.error().kind != ErrorKind::retry) return tl::unexpected(done.error());
    }
    return {};
  }

  /// Not under the lock: it waits for the storage.
  static Result<void> flush(sdk::Call& call, const Disk& disk) {
    AIOLOS_CHECK(
        call.run_checked(Command{{"blockdev", "--flushbufs", disk.path()}, {}, kFlushTimeout},
                         "see whether the storage answers; detach with --force to give up what is not written"));
    return {};
  }

  /// For the last of its holders. What else on this host uses one of its disks keeps the subsystem.
  static Result<void> disconnect_subsystem(sdk::Call& call, const NamespaceId& id) {
    if (controllers_of(id.nqn).empty()) return {};
    for (const Disk& disk : disks_of(id.nqn)) {
      AIOLOS_TRY(const std::string user, user_of(call, disk));
      if (user.empty()) continue;
      if (disk.is(id))
        return sdk::fail(ErrorKind::refused, disk.path() + " is in use by " + user,
                         "end that first, then detach again");
      call.warning(id.nqn + " stays connected: its disk " + disk.path() + " is in use by " + user);
      return {};
    }
    AIOLOS_TRY(const CommandResult result, call.effect("disconnect " + id.nqn, [&] {
      return call.run(Command{{"nvme", "disconnect", "--nqn=" + id.nqn}, {}, kDisconnectTimeout});
    }));
    if (poll_for(kNamespaceTimeout, [&] { return controllers_of(id.nqn).empty(); })) return {};
    return sdk::fail(ErrorKind::storage, id.nqn + " is still connected: " + complaint(result),
                     "see `nvme list-subsys` and the kernel's log, then detach again");
  }
};

}  // namespace

AIOLOS_PLUGIN(NvmeofDriver)
