// SPDX-License-Identifier: Apache-2.0
#include "guest_shell.h"

#include <fmt/format.h>
#include <nettle/base64.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <functional>

#include "aiolos/core/posix.h"
#include "unix_socket.h"

namespace aiolos::measure {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kBoot{120};           // an emulated guest takes 4 s
constexpr std::chrono::seconds kAnswerOnTheWay{15};  // after the guest has killed a script that took too long
constexpr std::chrono::milliseconds kLookForOutput{100};
constexpr std::string_view kToken = "1";  // the only request of a guest

/// The script as one line.
std::string on_one_line(std::string_view script) {
  std::string line(script);
  std::replace(line.begin(), line.end(), '\n', '\1');
  return line;
}

std::optional<std::string> from_base64(std::string_view encoded) {
  std::string text(BASE64_DECODE_LENGTH(encoded.size()), '\0');
  base64_decode_ctx context;
  ::base64_decode_init(&context);
  std::size_t length = text.size();
  if (::base64_decode_update(&context, &length, reinterpret_cast<std::uint8_t*>(text.data()), encoded.size(),
                             encoded.data()) == 0 ||
      ::base64_decode_final(&context) == 0)
    return std::nullopt;
  text.resize(length);
  return text;
}

/// What is said over the port, as far as it has come.
class ControlPort {
 public:
  ControlPort(BackgroundProcess& guest, const std::string& path, const Stop& stop)
      : guest_(guest), path_(path), stop_(stop) {}

  /// Goes on until the condition holds. @param what was waited for, for the error.
  Result<void> wait(Clock::time_point until, std::string_view what, const std::function<bool()>& condition) {
    while (!condition()) {
      if (const auto status = guest_.wait(std::chrono::milliseconds(0)))
        return fail(ErrorKind::hypervisor,
                    fmt::format("the guest ended ({}) before {}: {}", *status, what, last_line(guest_.output())),
                    "see what it says: whether the image is in use, or its storage refuses O_DIRECT");
      if (stop_()) return stopped();
      if (Clock::now() > until)
        return fail(ErrorKind::retry, fmt::format("the guest went on for too long before {}", what),
                    "try again when this host has less to do");
      receive();
    }
    return {};
  }
  bool said(std::string_view words) const { return said_.find(words) != std::string::npos; }
  const std::string& all_said() const { return said_; }
  bool send(std::string_view text) const { return write_all(socket_.get(), text); }

 private:
  /// Takes what comes within a moment; makes the connection first, once QEMU listens.
  void receive() {
    if (!socket_) socket_ = connect_unix_socket(path_);
    pollfd wanted{socket_.get(), POLLIN, 0};  // without a socket it only waits
    if (::poll(&wanted, 1, static_cast<int>(kLookForOutput.count())) <= 0) return;
    char part[16384];
    const ssize_t count = ::recv(socket_.get(), part, sizeof(part), 0);
    if (count > 0) said_.append(part, static_cast<std::size_t>(count));
    // The end of the connection is that of QEMU, which is waited for.
    if (count == 0) guest_.wait(kLookForOutput);
  }

  BackgroundProcess& guest_;
  const std::string& path_;
  const Stop& stop_;
  UniqueFd socket_;
  std::string said_;
};

}  // namespace

std::string guest_request(std::string_view token, std::chrono::seconds most, std::string_view script) {
  return fmt::format("\nAIOLOS-RUN {} {} {}\n", token, most.count(), on_one_line(script));
}

std::optional<GuestAnswer> find_guest_answer(std::string_view said, std::string_view token) {
  const std::string head = fmt::format("AIOLOS-END {} ", token);
  const auto at = said.find(head);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view line = said.substr(at + head.size());
  const auto end = line.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  line = line.substr(0, end);
  if (line.ends_with('\r')) line.remove_suffix(1);
  GuestAnswer answer;
  const auto [after, error] = std::from_chars(line.data(), line.data() + line.size(), answer.status);
  const std::string_view rest = line.substr(static_cast<std::size_t>(after - line.data()));
  auto output = error == std::errc() && rest.starts_with(' ') ? from_base64(rest.substr(1)) : std::nullopt;
  if (!output) return GuestAnswer{-1, "what it answers cannot be read"};
  answer.output = std::move(*output);
  return answer;
}

Result<GuestAnswer> ask_guest(BackgroundProcess& guest, const std::string& control, std::string_view script,
                              std::chrono::seconds most, const Stop& stop) {
  ControlPort port(guest, control, stop);
  const auto booted = port.wait(Clock::now() + kBoot, "it had booted", [&] { return port.said("AIOLOS-READY"); });
  if (!booted) return tl::unexpected(booted.error());
  if (!port.send(guest_request(kToken, most, script)))
    return fail(ErrorKind::hypervisor, "the guest's control port takes no request: " + errno_text(errno), "try again");
  std::optional<GuestAnswer> answer;
  const auto answered = port.wait(Clock::now() + most + kAnswerOnTheWay, "it had done its work", [&] {
    answer = find_guest_answer(port.all_said(), kToken);
    return answer.has_value();
  });
  if (!answered) return tl::unexpected(answered.error());
  return *std::move(answer);
}

}  // namespace aiolos::measure
