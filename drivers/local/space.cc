// SPDX-License-Identifier: Apache-2.0
#include "space.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

namespace aiolos::local {
namespace {

// fallocate(2) only writes extents where the file system has them; a hung one must not hold the verb for ever.
constexpr std::chrono::seconds kTimeout{120};

Result<CommandResult> run(sdk::Call& call, std::vector<std::string> argv) {
  return call.run(Command{std::move(argv), {}, kTimeout});
}

/// First line of what a command had to say.
std::string complaint(const CommandResult& result) {
  const std::string line = result.errors.substr(0, result.errors.find('\n'));
  return line.empty() ? "exit status " + std::to_string(result.status) : line;
}

/// Bytes that may still be taken on the file system that holds `path`; nullopt where it does not tell.
std::optional<std::uint64_t> free_bytes(const std::string& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) return std::nullopt;
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

/// Asked before and not learnt from ENOSPC: an fallocate that runs out of room may keep what it has got so far.
/// @param next what to do where there is not enough.
Result<void> check_room(const std::string& path, std::uint64_t wanted, std::string next) {
  const std::optional<std::uint64_t> available = free_bytes(path);
  if (!available || wanted <= *available) return {};
  return fail(ErrorKind::storage,
              path + ": allocating it takes " + std::to_string(wanted) + " bytes more, and its file system has " +
                  std::to_string(*available) + " left",
              std::move(next));
}

}  // namespace

Result<void> preallocate(sdk::Call& call, const std::string& path, const Node& image) {
  AIOLOS_CHECK(check_room(path, image.size - std::min(image.size, image.allocated),
                          "make room, or let images.preallocate be none"));
  AIOLOS_TRY(const CommandResult result, run(call, {"fallocate", "-n", "-l", std::to_string(image.size), path}));
  if (result.status != 0)
    call.warning("images.preallocate is space, but " + path + " could not be preallocated: " + complaint(result));
  return {};
}

Result<void> grow(sdk::Call& call, const std::string& path, const Node& image, std::uint64_t bytes, bool allocate) {
  const std::uint64_t more = bytes - image.size;
  if (allocate)
    AIOLOS_CHECK(check_room(path, more, "make room there, then extend it again: a full image is kept full"));
  AIOLOS_TRY(const CommandResult result,
             allocate ? run(call, {"fallocate", "-o", std::to_string(image.size), "-l", std::to_string(more), path})
                      : run(call, {"truncate", "-s", std::to_string(bytes), path}));
  if (result.status == 0) return {};
  if (allocate) {  // no guest has seen what lies behind the old end
    const auto undone = run(call, {"truncate", "-s", std::to_string(image.size), path});
    if (!undone || undone->status != 0) call.warning(path + " may be left larger than its guest knows");
  }
  return fail(ErrorKind::storage,
              path + " cannot be grown to " + std::to_string(bytes) + " bytes: " + complaint(result),
              "check the file system's free space and quota; the image has the size it had");
}

}  // namespace aiolos::local
