// SPDX-License-Identifier: Apache-2.0
// QEMU's own words about a running guest.
#include "qemu_monitor.h"

#include <fmt/format.h>

#include <cstdlib>
#include <memory>

#include "libvirt_error.h"
#include "libvirt_qemu.h"
#include "signal_block.h"

namespace aiolos {
QemuMonitor::QemuMonitor(const LibvirtApi& api, virDomainPtr domain, Function function)
    : api_(&api), domain_(domain), function_(function), name_(api.virDomainGetName(domain)) {}

Result<QemuMonitor> QemuMonitor::open(const LibvirtApi& api, virDomainPtr domain) {
  const auto function = libvirt_qemu_function("virDomainQemuMonitorCommand");
  if (!function) return tl::unexpected(function.error());
  return QemuMonitor(api, domain, reinterpret_cast<decltype(&::virDomainQemuMonitorCommand)>(*function));
}

Result<Json> QemuMonitor::run(const std::string& command, const Json& arguments) const {
  Json request{{"execute", command}};
  if (!arguments.empty()) request["arguments"] = arguments;
  char* text = nullptr;
  const int status = [&] {
    const SignalBlock until_libvirt_is_done;
    return function_(domain_, request.dump(-1, ' ', false, Json::error_handler_t::replace).c_str(), &text, 0);
  }();
  const std::unique_ptr<char, void (*)(void*)> owner(text, std::free);
  if (status != 0 || text == nullptr)
    return tl::unexpected(last_libvirt_error(*api_, fmt::format("ask QEMU of guest '{}' ({})", name_, command)));

  Result<Json> reply = parse_json(text, "QEMU's answer to " + command);
  if (!reply) return reply;
  if (const auto found = reply->find("return"); found != reply->end()) return Json(std::move(*found));
  const Json error = reply->value("error", Json::object());
  return fail(ErrorKind::hypervisor,
              fmt::format("QEMU of guest '{}' refused {}: {}", name_, command,
                          error.is_object() ? error.value("desc", "no reason given") : "no reason given"),
              "see the guest's own log (qemu/NAME.log in libvirt's log folder)");
}

}  // namespace aiolos
