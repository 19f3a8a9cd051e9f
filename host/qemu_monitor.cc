// SPDX-License-Identifier: Apache-2.0
// QEMU's own words about a running guest.
#include "qemu_monitor.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <libvirt/libvirt-qemu.h>

#include <cstdlib>
#include <memory>

#include "libvirt_error.h"
#include "signal_block.h"

namespace aiolos {
namespace {

constexpr const char* kLibrary = "libvirt-qemu.so.0";

}  // namespace

QemuMonitor::QemuMonitor(const LibvirtApi& api, virDomainPtr domain, Function function)
    : api_(&api), domain_(domain), function_(function), name_(api.virDomainGetName(domain)) {}

Result<QemuMonitor> QemuMonitor::open(const LibvirtApi& api, virDomainPtr domain) {
  static void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);  // never closed, like libvirt itself
  if (library == nullptr)
    return fail(ErrorKind::configuration, fmt::format("cannot load {}, with which QEMU is asked", kLibrary),
                "install it: apt-get install libvirt0");
  const auto function =
      reinterpret_cast<decltype(&::virDomainQemuMonitorCommand)>(::dlsym(library, "virDomainQemuMonitorCommand"));
  if (function == nullptr)
    return fail(ErrorKind::configuration, fmt::format("{} has no function virDomainQemuMonitorCommand", kLibrary),
                "install libvirt 6.0 or newer");
  return QemuMonitor(api, domain, function);
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
