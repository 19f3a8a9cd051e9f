// SPDX-License-Identifier: Apache-2.0
#include "krbd.h"

#include <arpa/inet.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "aiolos/core/json.h"
#include "ceph_conf.h"
#include "mapping.h"

namespace aiolos::rbd {
namespace {

constexpr std::chrono::seconds kResolve{5};
constexpr std::chrono::seconds kGrace{3};
constexpr std::chrono::seconds kUnmap{10};
// How long a device may be in use without anybody using it: udev looks at one that QEMU has just closed, and on a busy
// host QEMU itself took more than 3 s to close a disk that it had given up. `rbd unmap` tries for 0.25 s.
constexpr std::chrono::seconds kLingering{10};
constexpr const char* kV1Port = "6789";  // the protocol that every kernel speaks, and Cinder's port
constexpr int kBusy = 16;                // EBUSY: `rbd` ends with the kernel's errno

/// The name under which volumes hold a mapping: from the connection_info alone, so that it is known after a crash, too.
std::string resource_of(const Image& image) {
  return "mapping of " + image.path() + " through " + image.monitors_text();
}

bool is_address(const std::string& host) {
  in6_addr ignored;
  return ::inet_pton(AF_INET, host.c_str(), &ignored) == 1 || ::inet_pton(AF_INET6, host.c_str(), &ignored) == 1;
}

/// An address and port as the kernel writes them.
std::string endpoint(const std::string& address, const std::string& port) {
  const std::string host = address.find(':') == std::string::npos ? address : "[" + address + "]";
  return host + ":" + (port.empty() ? kV1Port : port);
}

/// A host's addresses. A name is asked for in a process of its own, as name services can hang.
Result<std::vector<std::string>> addresses_of(sdk::Call& call, const std::string& host) {
  if (is_address(host)) return std::vector{host};
  AIOLOS_TRY(const CommandResult asked, call.run(Command{{"getent", "ahosts", host}, {}, kResolve}));
  std::vector<std::string> addresses;
  std::istringstream lines(asked.output);
  for (std::string line; std::getline(lines, line);)
    if (line.find(" STREAM") != std::string::npos) addresses.push_back(line.substr(0, line.find(' ')));
  if (!addresses.empty()) return addresses;
  return sdk::fail(ErrorKind::configuration, "the monitor's name '" + host + "' cannot be resolved on this host",
                   "correct it, give its address, or mend this host's name service", "/data/hosts");
}

Result<std::vector<std::string>> endpoints_of(sdk::Call& call, const Image& image) {
  std::vector<std::string> endpoints;
  for (const SourceHost& monitor : image.monitors) {
    AIOLOS_TRY(const std::vector<std::string> addresses, addresses_of(call, monitor.name));
    for (const std::string& address : addresses) endpoints.push_back(endpoint(address, monitor.port));
  }
  return endpoints;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

Attachment attachment_of(const Mapping& mapping) {
  Attachment attachment;
  attachment.source.kind = SourceKind::block;
  attachment.source.path = mapping.device();
  attachment.state = {{"number", mapping.number}, {"identity", mapping.identity()}};
  return attachment;
}

/// The mapping that an attachment is about, if it is still there.
std::optional<Mapping> mapping_of(const Attachment& attachment) {
  const std::string number = attachment.state.value("number", "");
  std::optional<Mapping> mapping = mapping_of_number(mappings(kMappings), number);
  return mapping && mapping->identity() == attachment.state.value("identity", "") ? mapping : std::nullopt;
}

/// `rbd map`: the key by standard input. noudev: do not wait for udev, which need not run.
Command map_command(const Image& image, const std::vector<std::string>& monitors, const std::string& conf,
                    std::chrono::seconds patience) {
  Command command{{"rbd", "map", image.path(), "--conf", conf}, {}, patience + kGrace};
  const auto add = [&](std::vector<std::string> words) {
    command.argv.insert(command.argv.end(), words.begin(), words.end());
  };
  if (image.auth) add({"--id", image.auth->username, "--keyfile", "/dev/stdin"});
  if (!monitors.empty()) add({"-m", joined(monitors)});
  add({"--options", "noudev,mount_timeout=" + std::to_string(patience.count())});
  return command;
}

/// The last line that says what went wrong; the rest of it is advice for people at a terminal.
std::string complaint(const CommandResult& result) {
  std::istringstream lines(result.errors);
  std::string last;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("rbd: ")) last = line.substr(5);
  return last.empty() ? "exit status " + std::to_string(result.status) : last;
}

Error map_error(const Image& image, const CommandResult& result) {
  const std::string instead = ", or let QEMU open the image: set rbd.client to qemu";
  if (result.errors.find("failed to load rbd kernel module") != std::string::npos)
    return {ErrorKind::configuration,
            "this host's kernel has no RBD client: its module rbd cannot be loaded",
            "use a kernel that has it" + instead,
            {}};
  const bool too_new = result.output.find("feature set mismatch") != std::string::npos;
  return {too_new ? ErrorKind::configuration : ErrorKind::storage,
          "the kernel cannot map the image " + image.path() + ": " + complaint(result),
          too_new ? "take the features off that this kernel does not know (rbd feature disable)" + instead
                  : "see the kernel's log for why",
          {}};
}

Result<Mapping> run_map(sdk::Call& call, const Image& image, const std::vector<std::string>& monitors,
                        const Settings& settings) {
  AIOLOS_TRY(CephConf conf, read_conf(settings.ceph_conf));
  const std::chrono::seconds patience = settings.patience();
  AIOLOS_TRY(const MemoryFile file,
             MemoryFile::of(bounded(std::move(conf), image.entity(), patience, Waits::all).text));
  const Command command = map_command(image, monitors, file.path(), patience);
  AIOLOS_TRY(const CommandResult result,
             image.auth ? call.run_with_secret(command, image.auth->secret_uuid) : call.run(command));
  if (result.status != 0) return tl::unexpected(map_error(image, result));
  if (const auto made = mapping_of_image(mappings(kMappings), image, monitors)) return *made;
  return sdk::fail(ErrorKind::storage, "the image " + image.path() + " was mapped, and sysfs does not show it",
                   "see `rbd device list` for what is mapped");
}

/// Other than QEMU, which has let go of it: a mount, or a device that is made of it.
Result<void> check_unused(sdk::Call& call, const Mapping& mapping) {
  const auto used = [&](const std::string& by) {
    return sdk::fail(ErrorKind::refused, mapping.device() + " is in use: " + by, "end that use first");
  };
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block/rbd" + mapping.number + "/holders", none))
    return used("/dev/" + entry.path().filename().string() + " is made of it");
  AIOLOS_TRY(const std::vector<Mount> mounts, call.mounts());
  for (const Mount& mount : mounts)
    if (mount.source == mapping.device()) return used("it is mounted at " + mount.target);
  return {};
}

Result<void> run_unmap(sdk::Call& call, const Mapping& mapping, bool force) {
  const std::string device = mapping.device();
  const Command command{{"rbd", "unmap", "--options", force ? "noudev,force" : "noudev", device}, {}, kUnmap};
  const auto deadline = std::chrono::steady_clock::now() + kLingering;
  AIOLOS_TRY(CommandResult result, call.run(command));
  while (result.status == kBusy && std::chrono::steady_clock::now() < deadline) {
    AIOLOS_TRY(result, call.run(command));
  }
  if (result.status == 0) return {};
  if (result.status == kBusy)
    return sdk::fail(ErrorKind::refused, device + " is in use, so it stays mapped", "end that use, then try again");
  return sdk::fail(ErrorKind::storage, device + " cannot be unmapped: " + complaint(result),
                   "see the kernel's log for why");
}

/// The mapping that this volume holds, if it is there.
Result<std::optional<Mapping>> held_mapping(sdk::Call& call, const Image& image, const Attachment* attachment) {
  if (attachment != nullptr) return mapping_of(*attachment);
  const std::vector<Mapping> all = mappings(kMappings);
  if (all.empty()) return std::nullopt;
  AIOLOS_TRY(const std::vector<std::string> monitors, endpoints_of(call, image));
  return mapping_of_image(all, image, monitors);
}

}  // namespace

Result<Attachment> map_image(sdk::Call& call, const Image& image, const Settings& settings) {
  AIOLOS_TRY(const std::vector<std::string> monitors, endpoints_of(call, image));
  const std::string resource = resource_of(image);
  AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(resource));
  if (const auto there = mapping_of_image(mappings(kMappings), image, monitors)) {
    if (holders.held || holders.others > 0)
      AIOLOS_CHECK(call.hold(resource));
    else
      call.info(there->device() + " was mapped by others, and is left to them");
    return attachment_of(*there);
  }
  AIOLOS_CHECK(call.hold(resource));
  return call
      .effect("map " + image.path() + " to a block device", [&] { return run_map(call, image, monitors, settings); })
      .map(attachment_of);
}

Result<void> unmap_image(sdk::Call& call, const Image& image, const Attachment* attachment, bool force) {
  const std::string resource = resource_of(image);
  AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(resource));
  if (!holders.held) return {};
  if (holders.others == 0) {
    AIOLOS_TRY(const std::optional<Mapping> mapping, held_mapping(call, image, attachment));
    if (mapping) {
      if (force) AIOLOS_CHECK(check_unused(call, *mapping));  // the kernel itself would not look
      AIOLOS_CHECK(call.effect("unmap " + mapping->device(), [&] { return run_unmap(call, *mapping, force); }));
    }
  }
  return call.release(resource);
}

Result<void> verify_mapping(const Attachment& attachment) {
  if (mapping_of(attachment)) return {};
  const auto other = mapping_of_number(mappings(kMappings), attachment.state.value("number", ""));
  return sdk::fail(ErrorKind::refused,
                   attachment.source.path + " was the RBD image " + attachment.state.value("identity", "?") +
                       " and is " + (other ? other->identity() : "not mapped") + " now",
                   "see `rbd device list` for who changed it; detach the disk and attach it again");
}

}  // namespace aiolos::rbd
