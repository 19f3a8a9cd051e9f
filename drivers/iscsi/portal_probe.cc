// SPDX-License-Identifier: Apache-2.0
#include "portal_probe.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "aiolos/core/posix.h"

namespace aiolos::iscsi {
namespace {

using SteadyClock = std::chrono::steady_clock;

/// A TCP connection that is being opened.
class Attempt {
 public:
  explicit Attempt(const Portal& portal) {
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;  // a name server may not answer either
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    if (::getaddrinfo(portal.host.c_str(), std::to_string(portal.port).c_str(), &hints, &list) != 0) return;
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> address(list, ::freeaddrinfo);
    descriptor_.reset(::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!descriptor_ || ::connect(descriptor_.get(), address->ai_addr, address->ai_addrlen) == 0) return;
    if (errno == EINPROGRESS)
      pending_ = true;
    else
      failure_ = errno_text(errno);
  }

  bool pending() const { return pending_; }
  const std::string& failure() const { return failure_; }
  /// What poll(2) is to wait for; nothing if the attempt has ended.
  pollfd wanted() const { return {pending_ ? descriptor_.get() : -1, POLLOUT, 0}; }

  void end() {
    int error = 0;
    socklen_t size = sizeof(error);
    ::getsockopt(descriptor_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    pending_ = false;
    if (error != 0) failure_ = errno_text(error);
  }
  void give_up(std::string why) {
    pending_ = false;
    failure_ = std::move(why);
  }

 private:
  UniqueFd descriptor_;
  bool pending_ = false;
  std::string failure_;
};

}  // namespace

std::vector<std::string> probe_portals(const std::vector<Portal>& portals, std::chrono::milliseconds timeout) {
  const auto deadline = SteadyClock::now() + timeout;
  std::vector<std::unique_ptr<Attempt>> attempts;
  for (const Portal& portal : portals) attempts.push_back(std::make_unique<Attempt>(portal));
  const auto pending = [](const auto& attempt) { return attempt->pending(); };
  while (std::any_of(attempts.begin(), attempts.end(), pending)) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now()).count();
    if (left <= 0) break;
    std::vector<pollfd> wanted;
    for (const auto& attempt : attempts) wanted.push_back(attempt->wanted());
    if (::poll(wanted.data(), wanted.size(), static_cast<int>(left)) < 0 && errno != EINTR) break;
    for (std::size_t index = 0; index < wanted.size(); ++index)
      if (wanted[index].revents != 0) attempts[index]->end();
  }
  std::vector<std::string> failures;
  for (const auto& attempt : attempts) {
    if (attempt->pending()) attempt->give_up("no answer within " + std::to_string(timeout.count()) + " ms");
    failures.push_back(attempt->failure());
  }
  return failures;
}

}  // namespace aiolos::iscsi
