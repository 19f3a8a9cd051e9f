// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/guest_agent.h"

#include <fmt/format.h>

#include <cstdlib>
#include <utility>

#include "libvirt_error.h"
#include "libvirt_qemu.h"
#include "running_domain.h"
#include "signal_block.h"

namespace aiolos {
namespace {

/// An agent that is absent or silent is no fault of this host, and may be there later.
Error agent_error(const LibvirtApi& api, const std::string& what) {
  const int code = last_libvirt_code(api);
  Error error = last_libvirt_error(api, what);
  const bool is_silent = code == VIR_ERR_AGENT_UNRESPONSIVE || code == VIR_ERR_AGENT_UNSYNCED ||
                         code == VIR_ERR_ARGUMENT_UNSUPPORTED || code == VIR_ERR_OPERATION_TIMEOUT;
  if (is_silent) {
    error.kind = ErrorKind::retry;
    error.next = "run qemu-guest-agent in the guest, with the channel org.qemu.guest_agent.0";
  } else if (code == VIR_ERR_INTERNAL_ERROR) {
    error.kind = ErrorKind::refused;  // libvirt passes the agent's own errors on as internal ones
  }
  return error;
}

class LibvirtGuestAgent final : public GuestAgent {
 public:
  explicit LibvirtGuestAgent(std::shared_ptr<LibvirtConnection> connection) : connection_(std::move(connection)) {}

  Result<Json> ask(const std::string& domain, const std::string& command, const Json& arguments,
                   std::chrono::seconds timeout) override {
    const Result<RunningDomain> found = find_running(*connection_, domain);
    if (!found) return tl::unexpected(found.error());
    const auto function = libvirt_qemu_function("virDomainQemuAgentCommand");
    if (!function) return tl::unexpected(function.error());
    const auto call = reinterpret_cast<decltype(&::virDomainQemuAgentCommand)>(*function);
    Json request{{"execute", command}};
    if (!arguments.empty()) request["arguments"] = arguments;
    const SignalBlock until_libvirt_is_done;
    const std::unique_ptr<char, void (*)(void*)> answer(
        call(found->handle.get(), request.dump(-1, ' ', false, Json::error_handler_t::replace).c_str(),
             static_cast<int>(timeout.count()), 0),
        std::free);
    if (!answer)
      return tl::unexpected(
          agent_error(found->api(), fmt::format("ask the agent of guest '{}' ({})", domain, command)));
    Result<Json> reply = parse_json(answer.get(), "the guest agent's answer to " + command);
    if (!reply) return reply;
    if (const auto returned = reply->find("return"); returned != reply->end()) return Json(std::move(*returned));
    return fail(ErrorKind::refused, fmt::format("the agent of guest '{}' refused {}", domain, command),
                "see what its own log says");
  }

 private:
  std::shared_ptr<LibvirtConnection> connection_;
};

}  // namespace

std::unique_ptr<GuestAgent> make_guest_agent(std::shared_ptr<LibvirtConnection> connection) {
  return std::make_unique<LibvirtGuestAgent>(std::move(connection));
}

}  // namespace aiolos
