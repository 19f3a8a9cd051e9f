// SPDX-License-Identifier: Apache-2.0
// A guest that keeps its disk busy: for measuring what serves vhost-user-blk disks.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "front_end.h"

namespace aiolos::engine {

/// What a guest asks of its disk.
struct GuestLoad {
  unsigned depth = 32;         ///< Requests in flight, at most 256.
  std::uint32_t bytes = 4096;  ///< Of each request, a multiple of 512.
  bool write = false;
  bool sequential = false;
};

/// One disk with its guest, which starts as many requests as are done. For one thread.
class LoadedDisk {
 public:
  using Clock = std::chrono::steady_clock;

  /// Connects and starts the first requests. ErrorKind::retry if the server does not answer, ErrorKind::bad_input if
  /// the disk is smaller than one request.
  static Result<std::unique_ptr<LoadedDisk>> start(const std::string& socket, const GuestLoad& load);

  /// Takes what is done and, if `again`, starts as much. @return whether anything was done.
  bool turn(bool again);
  /// Forgets what was counted: what comes now counts.
  void reset();
  /// Waits for what is in flight and gives the ring back. @return whether all came back within `most`.
  bool finish(std::chrono::milliseconds most);

  /// Wants to be told of the next completion. @return whether there is one already.
  bool arm() { return front_end_->ring(0).arm(); }
  /// Readable once there is a completion.
  int call_fd() const { return front_end_->call_fd(0); }

  std::span<const float> latencies() const { return latencies_; }  ///< Microseconds, in order of completion.
  unsigned errors() const { return errors_; }
  std::uint64_t blocks() const { return blocks_; }  ///< Requests that the disk's size has room for.

 private:
  explicit LoadedDisk(const GuestLoad& load) : load_(load), began_(load.depth) {}
  Result<void> open(const std::string& socket);
  void start_request(unsigned slot);

  GuestLoad load_;
  std::unique_ptr<FrontEnd> front_end_;
  std::unique_ptr<BlockDriver> driver_;
  std::uint64_t blocks_ = 0;
  std::uint64_t next_ = 0;
  unsigned in_flight_ = 0;
  std::mt19937_64 random_{1};
  std::vector<Clock::time_point> began_;
  std::vector<float> latencies_;
  unsigned errors_ = 0;
};

/// Waits until one of the disks has a completion, for at most 100 ms or until a signal is handled.
void wait_for_any(std::span<const std::unique_ptr<LoadedDisk>> disks);

}  // namespace aiolos::engine
