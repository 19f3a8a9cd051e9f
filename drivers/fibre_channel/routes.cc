// SPDX-License-Identifier: Apache-2.0
#include "routes.h"

#include <algorithm>
#include <iterator>

namespace aiolos::fibre_channel {
namespace {

/// "host3 (0x10...) is Linkdown, host4 (0x10...) is Online".
std::string list(const std::vector<Adapter>& adapters) {
  std::string text;
  for (const Adapter& adapter : adapters) text += (text.empty() ? "" : ", ") + adapter.name() + " is " + adapter.state;
  return text;
}

Route route_by(const Adapter& adapter, const TargetLun& lun) {
  Route route;
  route.adapter = adapter.name();
  route.lun = lun;
  const RemotePort* port = adapter.find(lun.port);
  if (port != nullptr && port->target_id) route.address = {adapter.host, port->channel, *port->target_id, lun.lun};
  if (!adapter.is_online()) {
    route.reason = "the HBA is " + adapter.state;
  } else if (port == nullptr) {
    route.reason = "the HBA does not see it";
  } else if (port->is_blocked()) {
    route.state = Route::State::blocked;
    route.reason = "it is Blocked";
  } else if (!port->is_online()) {
    route.reason = "it is " + port->state;
  } else if (!port->is_target || !port->target_id) {
    route.reason = "it is no FCP target";
  } else {
    route.state = Route::State::open;
  }
  return route;
}

std::vector<Adapter> allowed(const VolumeAddress& volume, const std::vector<Adapter>& adapters) {
  std::vector<Adapter> found;
  std::copy_if(adapters.begin(), adapters.end(), std::back_inserter(found),
               [&](const Adapter& adapter) { return volume.allows(adapter.port_name); });
  return found;
}

}  // namespace

std::string Route::name() const { return "target port " + shown(lun.port) + " at " + adapter; }

std::vector<Route> routes_to(const VolumeAddress& volume, const std::vector<Adapter>& adapters) {
  std::vector<Route> routes;
  for (const TargetLun& lun : volume.luns)
    for (const Adapter& adapter : adapters)
      if (volume.allows(adapter.port_name, lun.port)) routes.push_back(route_by(adapter, lun));
  return routes;
}

std::vector<Adapter> without_target_ports(const VolumeAddress& volume, const std::vector<Adapter>& adapters) {
  std::vector<Adapter> found = allowed(volume, adapters);
  std::erase_if(found, [](const Adapter& adapter) {
    const auto& ports = adapter.remote_ports;
    return !adapter.is_online() ||
           std::any_of(ports.begin(), ports.end(), [](const RemotePort& port) { return port.is_target; });
  });
  return found;
}

bool is_logging_in(const VolumeAddress& volume, const std::vector<Adapter>& adapters) {
  const std::vector<Adapter> ours = allowed(volume, adapters);
  return std::none_of(ours.begin(), ours.end(), [](const Adapter& adapter) { return adapter.is_online(); }) &&
         std::any_of(ours.begin(), ours.end(), [](const Adapter& adapter) { return adapter.is_logging_in(); });
}

Result<void> check_adapters(const VolumeAddress& volume, const std::vector<Adapter>& adapters) {
  if (adapters.empty())
    return sdk::fail(ErrorKind::configuration, "this host has no Fibre Channel HBA",
                     "load the HBA's driver (lpfc, qla2xxx, ...): /sys/class/fc_host has to show it");
  const std::vector<Adapter> ours = allowed(volume, adapters);
  if (ours.empty())
    return sdk::fail(ErrorKind::bad_input, "the volume is for none of this host's HBAs: " + list(adapters),
                     "have the volume shown to this host: give its port names as the connector's wwpns",
                     "/data/initiator_target_map");
  if (std::none_of(ours.begin(), ours.end(), [](const Adapter& adapter) { return adapter.is_online(); }))
    return sdk::fail(ErrorKind::storage, "no Fibre Channel HBA that could reach the volume is online: " + list(ours),
                     "check the cables and the switch's ports");
  return {};
}

}  // namespace aiolos::fibre_channel
