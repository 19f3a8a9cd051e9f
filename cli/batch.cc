// SPDX-License-Identifier: Apache-2.0
#include "batch.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace aiolos::cli {
namespace {

// Big enough that starting a thread for a part of it, and waiting for the slower one, cost nothing beside the work.
constexpr std::size_t kChunk = std::size_t{4} << 20;
// Less than this is not worth a thread.
constexpr std::size_t kSmall = std::size_t{64} << 10;

/// Answers one line of input after the other, with the same memory for all. For one thread at a time.
class Answerer {
 public:
  explicit Answerer(Agent& agent) : agent_(&agent) {}

  /// One line of output for each of input that is not blank. The answers live until the next call.
  std::string_view answer_lines(std::string_view lines) {
    answers_.clear();
    while (!lines.empty()) {
      const std::size_t end = lines.find('\n');
      const std::string_view line = lines.substr(0, end);
      if (line.find_first_not_of(" \t\r") != std::string_view::npos) answer(line);
      lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
    }
    return answers_;
  }

 private:
  void answer(std::string_view line) {
    if (const auto done = disk_xml(line)) {
      answers_ += R"({"xml":)";
      append_json_string(answers_, xml_);
      answers_ += '}';
    } else {
      answers_ += to_json(done.error()).dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    answers_ += '\n';
  }

  Result<void> disk_xml(std::string_view line) {
    const auto request = document_.parse(line, "line");
    if (!request) return tl::unexpected(request.error());
    const NodeView view(**request);
    const auto connection = view.at("connection_info");
    if (!connection) return tl::unexpected(connection.error());
    const auto disk = view.at("disk_info");
    if (!disk) return tl::unexpected(disk.error());
    return agent_->disk_xml(connection->node(), disk->node(), xml_);
  }

  Agent* agent_;
  JsonDocument document_;
  std::string xml_;
  std::string answers_;
};

/// Answers whole lines with all cores, in order.
class Answerers {
 public:
  explicit Answerers(Agent& agent) {
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    for (unsigned i = 0; i < cores; ++i) answerers_.emplace_back(agent);
  }

  /// @param take is given the answers piece by piece; an error of its ends the work.
  Result<void> answer(std::string_view lines, const std::function<Result<void>(std::string_view)>& take) {
    std::vector<std::future<std::string_view>> work;
    const std::size_t parts = answerers_.size();
    for (std::size_t i = 0; i < parts && !lines.empty(); ++i) {
      std::size_t size = lines.size() / (parts - i);
      const std::size_t end = i + 1 == parts ? std::string_view::npos : lines.find('\n', size);
      size = end == std::string_view::npos ? lines.size() : end + 1;
      // A small input is answered at once: a shell loop that feeds line by line must not wait for threads.
      const auto policy = size < kSmall ? std::launch::deferred : std::launch::async;
      work.push_back(std::async(policy, &Answerer::answer_lines, &answerers_[i], lines.substr(0, size)));
      lines.remove_prefix(size);
    }
    Result<void> done;
    for (auto& part : work) {
      const std::string_view answers = part.get();
      if (done) done = take(answers);
    }
    return done;
  }

 private:
  std::vector<Answerer> answerers_;
};

/// Reads whole lines, as many as there are at once.
class Input {
 public:
  explicit Input(int fd) : fd_(fd) {}

  /// Waits for a line and takes what came with it; the last may lack its newline. Empty at the end of the input. Lives
  /// until the next call.
  Result<std::string_view> read_lines() {
    std::memmove(buffer_.get(), buffer_.get() + taken_, filled_ - taken_);
    filled_ -= std::exchange(taken_, 0);
    while (taken_ == 0) {
      const auto got = read_more();
      if (!got) return tl::unexpected(got.error());
      const std::string_view whole(buffer_.get(), filled_);
      taken_ = *got == 0 ? filled_ : whole.rfind('\n') + 1;  // npos + 1 is 0: no whole line yet
      if (*got == 0) break;
    }
    return std::string_view(buffer_.get(), taken_);
  }

 private:
  Result<std::size_t> read_more() {
    if (capacity_ - filled_ < kChunk) {
      auto larger = std::make_unique_for_overwrite<char[]>(capacity_ = 2 * filled_ + kChunk);
      std::memcpy(larger.get(), buffer_.get(), filled_);
      buffer_ = std::move(larger);
    }
    while (true) {
      const ssize_t got = ::read(fd_, buffer_.get() + filled_, kChunk);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0)
        return fail(ErrorKind::bad_input, fmt::format("cannot read standard input: {}", std::strerror(errno)),
                    "give JSON lines on standard input");
      filled_ += static_cast<std::size_t>(got);
      return static_cast<std::size_t>(got);
    }
  }

  int fd_;
  std::unique_ptr<char[]> buffer_ = std::make_unique_for_overwrite<char[]>(2 * kChunk);
  std::size_t capacity_ = 2 * kChunk;
  std::size_t filled_ = 0;
  std::size_t taken_ = 0;  // of what is filled, handed out
};

Result<void> write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      return fail(ErrorKind::storage, fmt::format("cannot write the answers: {}", std::strerror(errno)),
                  "check where standard output goes");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Result<void> run_batch(Agent& agent, int input_fd, int output_fd) {
  Answerers answerers(agent);
  Input input(input_fd);
  while (true) {
    const auto lines = input.read_lines();
    if (!lines) return tl::unexpected(lines.error());
    if (lines->empty()) return {};
    const auto write = [&](std::string_view answers) { return write_all(output_fd, answers); };
    if (auto done = answerers.answer(*lines, write); !done) return done;
  }
}

}  // namespace aiolos::cli
