// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/data_plane.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "aiolos/core/json.h"
#include "aiolos/core/posix.h"
#include "unix_socket.h"

namespace aiolos {
namespace {

using SteadyClock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// Opening an image and its socket takes milliseconds; taking a disk away waits for what its storage has in flight.
constexpr auto kAnswerTimeout = 30s;
constexpr std::size_t kLongestAnswer = std::size_t{64} << 20;

/// The daemon's own error, as one of ours.
Error error_of(const Json& error) {
  const ErrorKind kind = error_kind_from_string(error.value("kind", ""));
  // What it calls bad input is what we asked, and not what the operator wrote.
  return {kind == ErrorKind::bad_input ? ErrorKind::storage : kind,
          "aiolos-engine: " + error.value("message", std::string("no message")),
          error.value("next", std::string("see its log")),
          {}};
}

Json to_json(const DataPlaneDisk& disk) {
  return {{"name", disk.name},          {"path", disk.path},     {"socket", disk.socket},
          {"group", disk.group},        {"serial", disk.serial}, {"aio", std::string(to_string(disk.aio))},
          {"readonly", disk.read_only}, {"direct", disk.direct}, {"queues", disk.queues}};
}

class AdminSocket : public DataPlane {
 public:
  explicit AdminSocket(std::string admin) : admin_(std::move(admin)) {}

  Result<std::uint64_t> serve(const DataPlaneDisk& disk) override {
    const Json wanted = to_json(disk);
    const auto served = find(disk.name);
    if (!served) return tl::unexpected(served.error());
    if (*served) {
      const auto is_same = [&](const auto& member) { return (*served)->value(member.key(), Json()) == member.value(); };
      bool same = true;
      for (const auto& member : wanted.items()) same = same && is_same(member);
      if (same) return (*served)->value("size", std::uint64_t{0});
      if (auto gone = withdraw(disk.name); !gone) return tl::unexpected(gone.error());
    }
    std::error_code failed;
    const auto folder = std::filesystem::path(disk.socket).parent_path();
    std::filesystem::create_directories(folder, failed);
    if (failed)
      return fail(ErrorKind::configuration,
                  fmt::format("the folder {} for disks' sockets cannot be made: {}", folder.native(), failed.message()),
                  "check data_plane.sockets in the configuration");
    return size_of(ask({{"command", "add-disk"}, {"disk", wanted}}));
  }

  Result<void> withdraw(const std::string& name) override {
    const auto served = find(name);
    if (!served) return tl::unexpected(served.error());
    if (!*served) return {};
    const auto gone = ask({{"command", "remove-disk"}, {"name", name}});
    if (gone) return {};
    const auto still = find(name);  // another may have taken it away meanwhile
    if (still && !*still) return {};
    return tl::unexpected(gone.error());
  }

  Result<std::uint64_t> resize(const std::string& name) override {
    return size_of(ask({{"command", "resize-disk"}, {"name", name}}));
  }

  Result<std::vector<DiskDrain>> drains(const std::string& group) override {
    const auto answer = ask({{"command", "stats"}});
    if (!answer) return tl::unexpected(answer.error());
    std::vector<DiskDrain> found;
    for (const Json& disk : answer->value("disks", Json::array())) {
      if (disk.value("group", "") != group) continue;
      const Json figures = disk.value("drains", Json::object());
      const auto microseconds = [&](const char* name) {
        return std::chrono::microseconds(figures.value(name, std::int64_t{0}));
      };
      const std::string state = figures.value("state", "");
      found.push_back({disk.value("name", ""), microseconds("forecast_us"), microseconds("bound_us"),
                       state == "quiesce" || state == "stopped", figures.value("count", std::uint64_t{0}),
                       microseconds("last_us")});
    }
    return found;
  }

  Result<void> switchover(const std::string& group, bool near) override {
    const auto told = ask({{"command", "switchover"}, {"group", group}, {"near", near}});
    return told ? Result<void>() : tl::unexpected(told.error());
  }

 private:
  static Result<std::uint64_t> size_of(const Result<Json>& answer) {
    if (!answer) return tl::unexpected(answer.error());
    return answer->value("size", std::uint64_t{0});
  }

  /// The disk of that name as the daemon lists it.
  Result<std::optional<Json>> find(const std::string& name) const {
    const auto answer = ask({{"command", "list"}});
    if (!answer) return tl::unexpected(answer.error());
    for (const Json& disk : answer->value("disks", Json::array()))
      if (disk.value("name", "") == name) return disk;
    return std::nullopt;
  }

  Result<Json> ask(const Json& request) const {
    const auto socket = connect();
    if (!socket) return tl::unexpected(socket.error());
    const auto answer = exchange(socket->get(), request.dump() + "\n");
    if (!answer) return tl::unexpected(answer.error());
    const Json document = Json::parse(*answer, nullptr, /*allow_exceptions=*/false);
    if (document.is_object() && document.contains("ok")) return document.at("ok");
    if (document.is_object() && document.contains("error") && document.at("error").is_object())
      return tl::unexpected(error_of(document.at("error")));
    return fail(ErrorKind::configuration, fmt::format("what listens at {} is no aiolos-engine", admin_),
                "name the daemon's admin socket in data_plane.admin");
  }

  Result<UniqueFd> connect() const {
    UniqueFd socket = connect_unix_socket(admin_);
    if (socket) return socket;
    if (errno == ENAMETOOLONG)
      return fail(ErrorKind::configuration, fmt::format("a socket's path has at most 107 bytes: '{}'", admin_),
                  "shorten data_plane.admin");
    return fail(ErrorKind::retry, fmt::format("aiolos-engine cannot be reached at {}: {}", admin_, errno_text(errno)),
                "start it (systemctl start aiolos-engine), or set data_plane.admin to its admin socket");
  }

  /// Sends a line and waits for one.
  Result<std::string> exchange(int socket, const std::string& line) const {
    const auto deadline = SteadyClock::now() + kAnswerTimeout;
    std::string answer;
    for (std::size_t sent = 0; answer.empty() || answer.back() != '\n';) {
      const bool sends = sent < line.size();
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SteadyClock::now());
      pollfd wanted{socket, static_cast<short>(sends ? POLLOUT : POLLIN), 0};
      if (left <= 0ms || ::poll(&wanted, 1, static_cast<int>(left.count())) == 0)
        return fail(ErrorKind::retry,
                    fmt::format("aiolos-engine at {} does not answer within {} s", admin_,
                                std::chrono::seconds(kAnswerTimeout).count()),
                    "a disk is only taken away when nothing of it is in flight: see its storage, then try again");
      char part[4096];
      const ssize_t moved = sends ? ::send(socket, line.data() + sent, line.size() - sent, MSG_NOSIGNAL)
                                  : ::recv(socket, part, sizeof(part), 0);
      if (moved < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (moved <= 0 || answer.size() > kLongestAnswer)
        return fail(ErrorKind::retry,
                    fmt::format("aiolos-engine at {} ended the conversation{}", admin_,
                                moved < 0 ? ": " + errno_text(errno) : std::string()),
                    "see its log: it serves root and its own user only");
      if (sends)
        sent += static_cast<std::size_t>(moved);
      else
        answer.append(part, static_cast<std::size_t>(moved));
    }
    return answer;
  }

  const std::string admin_;
};

}  // namespace

std::unique_ptr<DataPlane> make_data_plane(std::string admin) {
  return std::make_unique<AdminSocket>(std::move(admin));
}

}  // namespace aiolos
