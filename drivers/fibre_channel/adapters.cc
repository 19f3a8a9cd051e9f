// SPDX-License-Identifier: Apache-2.0
#include "adapters.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include "volume_address.h"

namespace aiolos::fibre_channel {
namespace {

constexpr std::string_view kAdapters = "class/fc_host";
constexpr std::string_view kRemotePorts = "class/fc_remote_ports";

std::optional<unsigned> number_of(std::string_view text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// The number in a SCSI host's name, such as "host3".
std::optional<unsigned> host_number(std::string_view name) {
  constexpr std::string_view kPrefix = "host";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  return number_of(name.substr(kPrefix.size()));
}

/// What a remote port's name says, "rport-HOST:CHANNEL-NUMBER".
struct Place {
  unsigned host = 0;
  unsigned channel = 0;
};

std::optional<Place> place_of(std::string_view name) {
  constexpr std::string_view kPrefix = "rport-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const std::size_t colon = name.find(':');
  const std::size_t dash = name.find('-');
  if (colon == std::string_view::npos || dash == std::string_view::npos || dash < colon) return std::nullopt;
  const auto host = number_of(name.substr(0, colon));
  const auto channel = number_of(name.substr(colon + 1, dash - colon - 1));
  if (!host || !channel) return std::nullopt;
  return Place{*host, *channel};
}

/// Attributes of one member of a class. What cannot be read is empty: the member may go at any time.
class Attributes {
 public:
  Attributes(const scsi::Sysfs& sysfs, std::string_view folder, std::string_view member)
      : sysfs_(sysfs), folder_(std::string(folder) + "/" + std::string(member) + "/") {}
  std::string operator[](std::string_view name) const {
    return sysfs_.attribute(folder_ + std::string(name)).value_or("");
  }

 private:
  const scsi::Sysfs& sysfs_;
  std::string folder_;
};

RemotePort read_remote_port(const Attributes& attributes, unsigned channel) {
  RemotePort port;
  port.port_name = normalized_port_name(attributes["port_name"]);
  port.state = attributes["port_state"];
  // A list, such as "FCP Target, FCP Initiator"; no other role has these words in its name.
  port.is_target = attributes["roles"].find("FCP Target") != std::string::npos;
  port.channel = channel;
  port.target_id = number_of(attributes["scsi_target_id"]);  // "-1": none
  return port;
}

}  // namespace

const RemotePort* Adapter::find(std::string_view name) const {
  const auto found = std::find_if(remote_ports.begin(), remote_ports.end(),
                                  [&](const RemotePort& port) { return port.port_name == name; });
  return found == remote_ports.end() ? nullptr : &*found;
}

std::string Adapter::name() const { return "host" + std::to_string(host) + " (" + shown(port_name) + ")"; }

std::vector<Adapter> read_adapters(const scsi::Sysfs& sysfs) {
  std::vector<Adapter> adapters;
  for (const std::string& name : sysfs.entries(kAdapters)) {
    const Attributes attributes(sysfs, kAdapters, name);
    const auto host = host_number(name);
    const std::string port_name = normalized_port_name(attributes["port_name"]);
    if (host && !port_name.empty()) adapters.push_back({*host, port_name, attributes["port_state"], {}});
  }
  std::sort(adapters.begin(), adapters.end(), [](const Adapter& a, const Adapter& b) { return a.host < b.host; });
  for (const std::string& name : sysfs.entries(kRemotePorts)) {
    const auto place = place_of(name);
    if (!place) continue;
    const auto owner = std::find_if(adapters.begin(), adapters.end(),
                                    [&](const Adapter& adapter) { return adapter.host == place->host; });
    if (owner != adapters.end())
      owner->remote_ports.push_back(read_remote_port(Attributes(sysfs, kRemotePorts, name), place->channel));
  }
  return adapters;
}

}  // namespace aiolos::fibre_channel
