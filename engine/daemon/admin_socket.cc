// SPDX-License-Identifier: Apache-2.0
#include "admin_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "log.h"

namespace aiolos::engine {
namespace {

constexpr std::size_t kLongestRequest = 64U << 10;
constexpr std::size_t kMostConnections = 64;

bool may_ask(int socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
  log_line(LogLevel::warning, "admin socket", fmt::format("process {} of user {} was refused", peer.pid, peer.uid));
  return false;
}

}  // namespace

AdminSocket::AdminSocket(UniqueFd listener, Poller& poller, Service& service)
    : listener_(std::move(listener)), poller_(poller), service_(service) {
  poller_.add(listener_.get(), EPOLLIN, [this] { accept(); });
}

AdminSocket::~AdminSocket() {
  poller_.remove(listener_.get());
  while (!connections_.empty()) close(connections_.begin()->first);
}

void AdminSocket::accept() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket || connections_.size() == kMostConnections || !may_ask(socket.get())) return;
  const int fd = socket.get();
  connections_[fd] = std::make_shared<Connection>(Connection{std::move(socket), {}, false});
  poller_.add(fd, EPOLLIN, [this, fd] { receive(fd); });
}

void AdminSocket::receive(int fd) {
  std::array<char, 4096> buffer;
  const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  Connection& connection = *connections_.at(fd);
  if (got <= 0 || connection.input.size() > kLongestRequest) return close(fd);
  connection.input.append(buffer.data(), static_cast<std::size_t>(got));
  handle_lines(fd);
}

void AdminSocket::handle_lines(int fd) {
  const std::shared_ptr<Connection> connection = connections_.at(fd);
  while (!connection->answering) {
    const std::size_t end = connection->input.find('\n');
    if (end == std::string::npos) return;
    const std::string line = connection->input.substr(0, end);
    connection->input.erase(0, end + 1);
    connection->answering = true;
    const auto reply = [this, fd, weak = std::weak_ptr(connection)](const Result<Json>& result) {
      answer(fd, weak, result);
    };
    const auto request = parse_json(line, "request");
    if (request)
      service_.handle(*request, reply);
    else
      reply(tl::unexpected(request.error()));
    if (connections_.count(fd) == 0) return;
  }
}

/// @param connection may be gone by now, and another one have its descriptor.
void AdminSocket::answer(int fd, const std::weak_ptr<Connection>& connection, const Result<Json>& result) {
  const auto alive = connection.lock();
  if (!alive) return;
  const Json answer = result ? Json{{"ok", *result}} : Json{{"error", to_json(result.error())}};
  const std::string line = answer.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  alive->answering = false;
  // The socket's buffer holds any answer to a peer that reads; one that does not is let go.
  if (::send(fd, line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT) != static_cast<ssize_t>(line.size()))
    return close(fd);
  if (!alive->input.empty())
    poller_.post([this, fd, connection] {
      if (connection.lock() && connections_.count(fd) != 0) handle_lines(fd);
    });
}

void AdminSocket::close(int fd) {
  poller_.remove(fd);
  connections_.erase(fd);
}

}  // namespace aiolos::engine
