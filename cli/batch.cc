// SPDX-License-Identifier: Apache-2.0
#include "batch.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "aiolos/core/posix.h"

namespace aiolos::cli {
namespace {

// What one thread takes at a time: enough that taking turns costs nothing beside the work, and little enough that it
// and its answers stay in a core's cache.
constexpr std::size_t kChunk = std::size_t{256} << 10;

/// Whole lines of the input, without their newlines, and where they stand in it.
struct Chunk {
  std::vector<std::string_view> lines;
  std::size_t number = 0;      ///< Of the chunk, from 0.
  std::size_t first_line = 0;  ///< From 1.
};

/// Memory for a chunk that grows with the longest line and is never zeroed.
class ChunkBuffer {
 public:
  char* data() { return data_.get(); }
  std::size_t capacity() const { return capacity_; }
  void grow(std::size_t capacity, std::size_t kept) {
    auto larger = std::make_unique_for_overwrite<char[]>(capacity);
    std::memcpy(larger.get(), data_.get(), kept);
    data_ = std::move(larger);
    capacity_ = capacity;
  }

 private:
  std::size_t capacity_ = kChunk;
  std::unique_ptr<char[]> data_ = std::make_unique_for_overwrite<char[]>(kChunk);
};

/// The input, handed out in chunks. For one thread at a time.
class Input {
 public:
  explicit Input(int fd) : fd_(fd) {}

  /// Waits for a line and takes what came with it; the last may lack its newline. No lines at the end of the input.
  /// They live as long as `buffer` is not used again. @return how many bytes they are.
  Result<std::size_t> take(ChunkBuffer& buffer, Chunk& chunk) {
    std::size_t filled = rest_.size();
    if (buffer.capacity() < filled + kChunk / 2) buffer.grow(filled + kChunk, 0);
    std::memcpy(buffer.data(), rest_.data(), filled);
    std::size_t whole = 0;
    for (bool at_end = false; whole == 0 && !at_end;) {
      if (filled == buffer.capacity()) buffer.grow(2 * filled, filled);
      const auto got = read_some(buffer.data() + filled, buffer.capacity() - filled);
      if (!got) return tl::unexpected(got.error());
      // Only what is new is searched: a line of many reads would cost the square of its length.
      const std::size_t end = std::string_view(buffer.data() + filled, *got).rfind('\n');
      at_end = *got == 0;
      if (at_end) whole = filled;
      if (end != std::string_view::npos) whole = filled + end + 1;
      filled += *got;
    }
    rest_.assign(buffer.data() + whole, filled - whole);
    chunk.lines.clear();
    for (std::string_view rest(buffer.data(), whole); !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      chunk.lines.push_back(line);
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    }
    chunk.number = number_++;
    chunk.first_line = std::exchange(line_, line_ + chunk.lines.size());
    return whole;
  }

 private:
  Result<std::size_t> read_some(char* place, std::size_t size) {
    while (true) {
      const ssize_t got = ::read(fd_, place, size);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0)
        return fail(ErrorKind::bad_input, fmt::format("cannot read standard input: {}", errno_text(errno)),
                    "give JSON lines on standard input");
      return static_cast<std::size_t>(got);
    }
  }

  const int fd_;
  std::string rest_;  ///< The beginning of a line whose end was not read yet.
  std::size_t number_ = 0;
  std::size_t line_ = 1;
};

Result<void> write_answers(int fd, std::string_view answers) {
  if (write_all(fd, answers)) return {};
  return fail(ErrorKind::storage, fmt::format("cannot write the answers: {}", errno_text(errno)),
              "check where standard output goes");
}

/// Answers lines, with the same memory for all. For one thread at a time.
class Answerer {
 public:
  explicit Answerer(Agent& agent) : agent_(agent) {}

  /// One line of output for each of input that is not blank. The answers live until the next call.
  std::string_view answer(const Chunk& chunk) {
    answers_.clear();
    batch_ = agent_.disk_xml_batch();  // a secret that is defined between two chunks is seen
    line_ = chunk.first_line;
    for (const std::string_view line : chunk.lines) {
      if (line.find_first_not_of(" \t\r") != std::string_view::npos) answer_line(line);
      ++line_;
    }
    return answers_;
  }

 private:
  void answer_line(std::string_view line) {
    const std::size_t before = answers_.size();
    answers_ += R"({"xml":)";
    if (const auto done = append_xml(line)) {
      answers_ += '}';
    } else {
      answers_.resize(before);
      answers_ += to_json(done.error()).dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    answers_ += '\n';
  }

  Result<void> append_xml(std::string_view line) {
    auto request = document_.parse(line, "line");
    if (!request) request = document_.parse(line, fmt::format("line {}", line_));  // the same, told better
    if (!request) return tl::unexpected(request.error());
    const NodeView view(**request);
    const auto connection = view.at("connection_info");
    if (!connection) return tl::unexpected(connection.error());
    const auto disk = view.at("disk_info");
    if (!disk) return tl::unexpected(disk.error());
    return batch_->append_json(connection->node(), disk->node(), answers_);
  }

  Agent& agent_;
  std::unique_ptr<DiskXmlBatch> batch_;
  JsonDocument document_;
  std::string answers_;
  std::size_t line_ = 0;
};

/// Threads that each take a chunk, answer it, and write when all before it have been written.
class Batch {
 public:
  Batch(Agent& agent, int input_fd, int output_fd) : agent_(agent), input_(input_fd), output_fd_(output_fd) {}

  Result<void> run() {
    std::vector<std::jthread> helpers;
    Worker worker(agent_);
    while (step(worker)) {
      // A small input, or a caller that waits for each answer, is done before a thread would have started.
      if (is_large_ && helpers.empty()) start(helpers);
    }
    helpers.clear();
    return output_result_ ? input_result_ : output_result_;
  }

 private:
  /// What one thread needs.
  struct Worker {
    explicit Worker(Agent& agent) : answerer(agent) {}
    ChunkBuffer buffer;
    Chunk chunk;
    Answerer answerer;
  };

  void start(std::vector<std::jthread>& helpers) {
    try {
      for (unsigned core = 1; core < std::thread::hardware_concurrency(); ++core)
        helpers.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // The host has no more threads to give; those there are do the work.
    }
  }

  void work() {
    Worker worker(agent_);
    while (step(worker)) {
    }
  }

  /// One chunk. @return false at the end of the input, or after an error.
  bool step(Worker& worker) {
    try {
      return take(worker) && write(worker.chunk.number, worker.answerer.answer(worker.chunk));
    } catch (const std::exception& error) {
      // Told at once: other threads may wait for this one's turn, which never comes.
      end_output(fail(ErrorKind::bug, fmt::format("cannot answer standard input: {}", error.what()),
                      "give less at a time; report this if memory is not short"));
      return false;
    }
  }

  bool take(Worker& worker) {
    const std::lock_guard lock(input_mutex_);
    if (std::exchange(ended_, true) || has_failed()) return false;
    const auto taken = input_.take(worker.buffer, worker.chunk);
    if (!taken) input_result_ = tl::unexpected(taken.error());  // what was taken before is still answered
    if (!taken || *taken == 0) return false;
    is_large_ = *taken >= kChunk / 2;
    ended_ = false;  // not before: after an exception there is no telling what the next read would give
    return true;
  }

  bool write(std::size_t number, std::string_view answers) {
    std::unique_lock lock(output_mutex_);
    turn_.wait(lock, [&] { return written_ == number || !output_result_; });
    if (!output_result_) return false;
    output_result_ = write_answers(output_fd_, answers);
    ++written_;
    turn_.notify_all();
    return output_result_.has_value();
  }

  bool has_failed() {
    const std::lock_guard lock(output_mutex_);
    return !output_result_;
  }

  void end_output(tl::unexpected<Error> error) {
    const std::lock_guard lock(output_mutex_);
    if (output_result_) output_result_ = std::move(error);
    turn_.notify_all();
  }

  Agent& agent_;
  std::mutex input_mutex_;
  Input input_;
  bool ended_ = false;
  Result<void> input_result_;
  std::atomic<bool> is_large_ = false;  ///< Whether the last chunk was worth more threads.
  std::mutex output_mutex_;             ///< May be taken while input_mutex_ is held, never the other way round.
  std::condition_variable turn_;
  const int output_fd_;
  std::size_t written_ = 0;
  Result<void> output_result_;
};

}  // namespace

Result<void> run_batch(Agent& agent, int input_fd, int output_fd) { return Batch(agent, input_fd, output_fd).run(); }

}  // namespace aiolos::cli
