// SPDX-License-Identifier: Apache-2.0
#include "batch.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

namespace aiolos::cli {
namespace {

// Big enough that starting a thread for a part of it costs nothing beside the work.
constexpr std::size_t kChunk = std::size_t{1} << 20;

/// One line of output for one of input.
void answer(Agent& agent, std::string_view line, std::string& out) {
  const auto request = parse_json(line, "line");
  Result<std::string> xml = [&]() -> Result<std::string> {
    if (!request) return tl::unexpected(request.error());
    const JsonView view(*request);
    const auto connection = view.at("connection_info");
    if (!connection) return tl::unexpected(connection.error());
    const auto disk = view.at("disk_info");
    if (!disk) return tl::unexpected(disk.error());
    return agent.disk_xml(connection->json(), disk->json());
  }();
  const Json object = xml ? Json{{"xml", std::move(*xml)}} : to_json(xml.error());
  out += object.dump(-1, ' ', false, Json::error_handler_t::replace);
  out += '\n';
}

std::string answer_lines(Agent& agent, std::string_view lines) {
  std::string out;
  out.reserve(lines.size() * 2);
  while (!lines.empty()) {
    const std::size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) answer(agent, line, out);
    lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
  }
  return out;
}

/// Answers whole lines with all cores, in order.
std::vector<std::string> answer_in_parallel(Agent& agent, std::string_view lines) {
  const std::size_t parts = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::future<std::string>> work;
  for (std::size_t i = 0; i < parts && !lines.empty(); ++i) {
    std::size_t size = lines.size() / (parts - i);
    const std::size_t end = i + 1 == parts ? std::string_view::npos : lines.find('\n', size);
    size = end == std::string_view::npos ? lines.size() : end + 1;
    // A small input is answered at once: a shell loop that feeds line by line must not wait for threads.
    const auto policy = size < kChunk / 16 ? std::launch::deferred : std::launch::async;
    work.push_back(std::async(policy, answer_lines, std::ref(agent), lines.substr(0, size)));
    lines.remove_prefix(size);
  }
  std::vector<std::string> answers;
  for (auto& part : work) answers.push_back(part.get());
  return answers;
}

Result<void> write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      return fail(ErrorKind::bad_input, fmt::format("cannot write the answers: {}", std::strerror(errno)),
                  "check where standard output goes");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Result<void> run_batch(Agent& agent, int input_fd, int output_fd) {
  std::string pending;
  for (bool at_end = false; !at_end;) {
    const std::size_t filled = pending.size();
    pending.resize(filled + kChunk);
    const ssize_t got = ::read(input_fd, pending.data() + filled, kChunk);
    if (got < 0 && errno != EINTR)
      return fail(ErrorKind::bad_input, fmt::format("cannot read standard input: {}", std::strerror(errno)),
                  "give JSON lines on standard input");
    pending.resize(filled + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    at_end = got == 0;
    const std::size_t last = at_end ? pending.size() : pending.rfind('\n') + 1;  // npos + 1 is 0: no whole line yet
    if (last == 0) continue;
    for (const std::string& answers : answer_in_parallel(agent, std::string_view(pending).substr(0, last)))
      if (auto done = write_all(output_fd, answers); !done) return done;
    pending.erase(0, last);
  }
  return {};
}

}  // namespace aiolos::cli
