// SPDX-License-Identifier: Apache-2.0
#include "question.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aiolos/core/json.h"
#include "ceph_conf.h"

namespace aiolos::rbd {
namespace {

// The client's own bound covers one wait; connecting and reading the image's header can be two.
constexpr std::chrono::seconds kGrace{3};

/// The image as QEMU's block layer has it, without its key. Source: QEMU, qapi/block-core.json, BlockdevOptionsRbd.
Json blockdev(const Image& image, const std::string& conf) {
  Json options{{"driver", "rbd"}, {"pool", image.pool}, {"image", image.name}, {"conf", conf}};
  for (const SourceHost& host : image.monitors)
    options["server"].push_back({{"host", host.name}, {"port", host.port.empty() ? "0" : host.port}});
  if (image.auth) {
    options["user"] = image.auth->username;
    options["key-secret"] = "key";
  }
  return options;
}

Command question(const Image& image, const std::string& conf, std::chrono::seconds patience) {
  Command command{{"qemu-img", "info", "--output=json"}, {}, patience + kGrace};
  if (image.auth) {
    command.argv.emplace_back("--object");
    command.argv.emplace_back("secret,id=key,format=base64,file=/dev/stdin");
  }
  command.argv.push_back("json:" + blockdev(image, conf).dump());
  return command;
}

Result<CommandResult> run(sdk::Call& call, const Command& command, const Image& image) {
  auto done = image.auth ? call.run_with_secret(command, image.auth->secret_uuid) : call.run(command);
  if (done) return done;
  Error error = std::move(done).error();
  error.message = "asking Ceph for the image " + image.path() + ": " + error.message;
  return tl::unexpected(std::move(error));
}

/// What stands behind the image's options in the line in which qemu-img gives up.
std::string_view last_words(std::string_view errors) {
  constexpr std::string_view kEndOfOptions = "}': ";
  if (const std::size_t options = errors.rfind(kEndOfOptions); options != std::string_view::npos)
    errors.remove_prefix(options + kEndOfOptions.size());
  return errors.substr(0, errors.find('\n'));
}

/// The name after "server name not found: ", which librados says of a monitor before it gives up; empty if it does not.
std::string unresolved_monitor(std::string_view output) {
  constexpr std::string_view kSays = "server name not found: ";
  const std::size_t at = output.find(kSays);
  if (at == std::string_view::npos) return {};
  output.remove_prefix(at + kSays.size());
  return std::string(output.substr(0, output.find_first_of(" \n")));
}

Error wrong_key(const Image& image) {
  return {ErrorKind::configuration,
          "Ceph refuses " + image.entity() + " with the key of the libvirt secret " + image.auth->secret_uuid,
          "compare the secret's value with `ceph auth get-key " + image.entity() +
              "`: the user does not exist, or has another key",
          {}};
}

Error unusable_key(const Image& image) {
  return {ErrorKind::configuration,
          "the libvirt secret " + image.auth->secret_uuid + " holds no cephx key for " + image.entity(),
          "give it what `ceph auth get-key " + image.entity() + "` prints: virsh secret-set-value",
          {}};
}

Error no_credentials(const Image& image) {
  return {ErrorKind::bad_input, "the cluster of " + image.path() + " wants authentication, and the volume has none",
          "set auth_enabled, auth_username and secret_uuid, or rbd.user and rbd.secret_uuid in the configuration",
          "/data/auth_enabled"};
}

Error unresolved(const std::string& monitor) {
  return {ErrorKind::configuration, "the monitor's name '" + monitor + "' cannot be resolved on this host",
          "correct it, give its address, or mend this host's name service; Ceph's client takes all names or none",
          "/data/hosts"};
}

Error silent_monitors(const Image& image, std::chrono::seconds patience) {
  return {ErrorKind::retry,
          "no Ceph monitor has answered within " + std::to_string(patience.count()) + " s: " + image.monitors_text(),
          "check that they run and that this host reaches them, then try again",
          {}};
}

Error silent_osds(const Image& image, std::chrono::seconds patience) {
  return {ErrorKind::retry,
          "Ceph's monitors answer, but its OSDs have not within " + std::to_string(patience.count()) +
              " s: " + image.path(),
          "see `ceph health detail` for what is down or stuck, then try again",
          {}};
}

Error no_monitors() {
  return {ErrorKind::bad_input, "no Ceph monitor is named",
          "give data.hosts and data.ports, or mon_host in the file that rbd.ceph_conf names", "/data/hosts"};
}

Error no_pool(const Image& image) {
  return {ErrorKind::storage, "Ceph has no pool '" + image.pool + "'",
          "check the pool, and that hosts names the right cluster", "/data/name"};
}

Error no_image(const Image& image) {
  return {ErrorKind::storage, "Ceph's pool '" + image.pool + "' has no image '" + image.name + "'",
          "the volume has to exist before it is connected", "/data/name"};
}

Error no_rights(const Image& image) {
  return {ErrorKind::configuration,
          image.entity() + " may not use the image " + image.path(),
          "give it the rights: ceph auth caps " + image.entity() +
              " mon 'profile rbd' osd 'profile rbd pool=" + image.pool + "'",
          {}};
}

Error no_driver(const Image& image) {
  return {ErrorKind::configuration,
          "this host's QEMU has no RBD client, which " + image.path() + " needs",
          "install it: apt-get install qemu-block-extra",
          {}};
}

}  // namespace

Error explain(const Image& image, const CommandResult& answer, std::chrono::seconds patience) {
  const std::string_view text = last_words(answer.errors);
  const auto says = [&](std::string_view step, std::string_view reason) {
    return text.starts_with(step) && text.ends_with(reason);
  };
  constexpr std::string_view kConnecting = "error connecting: ";
  constexpr std::string_view kPool = "error opening pool ";
  constexpr std::string_view kHeader = "error reading header from ";

  if (const std::string monitor = unresolved_monitor(answer.output); !monitor.empty()) return unresolved(monitor);
  if (says(kConnecting, "Permission denied") && image.auth) return wrong_key(image);
  if (says(kConnecting, "Operation not supported") || says(kConnecting, "Permission denied"))
    return image.auth ? unusable_key(image) : no_credentials(image);
  if (says(kConnecting, "Invalid argument") && image.auth) return unusable_key(image);
  if (says(kConnecting, "No such file or directory") && image.monitors.empty()) return no_monitors();
  if (says(kConnecting, "Connection timed out")) return silent_monitors(image, patience);
  if (says(kPool, "Connection timed out") || says(kHeader, "Connection timed out")) return silent_osds(image, patience);
  if (says(kPool, "No such file or directory")) return no_pool(image);
  if (says(kHeader, "No such file or directory")) return no_image(image);
  if (says(kPool, "Operation not permitted") || says(kHeader, "Operation not permitted")) return no_rights(image);
  if (says("Unknown driver", "'rbd'") || says("Unknown protocol", "'rbd'")) return no_driver(image);
  return {ErrorKind::storage,
          "QEMU's client cannot open the image " + image.path() + ": " + std::string(text),
          "check the volume with `rbd info " + image.path() + "`",
          {}};
}

Result<std::uint64_t> ask_size(sdk::Call& call, const Image& image, const Settings& settings) {
  const std::chrono::seconds patience = settings.patience();
  AIOLOS_TRY(CephConf conf, read_conf(settings.ceph_conf));
  AIOLOS_TRY(const MemoryFile file,
             MemoryFile::of(bounded(std::move(conf), image.entity(), patience, Waits::all).text));
  AIOLOS_TRY(const CommandResult answer, run(call, question(image, file.path(), patience), image));
  if (answer.status != 0) return tl::unexpected(explain(image, answer, patience));
  AIOLOS_TRY(const Json info, parse_json(answer.output, "qemu-img info"));
  return JsonView(info).at("virtual-size").and_then([](const JsonView& size) { return size.unsigned_integer(); });
}

}  // namespace aiolos::rbd
