// SPDX-License-Identifier: Apache-2.0
#include "aiolos/image_file.hpp"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

namespace aiolos::sdk {
namespace {

constexpr std::uint64_t kSector = 512;  // QEMU's unit of a disk's size; libvirt's block resize refuses others
// fallocate(2) only writes extents where the file system has them; a hung one must not hold the verb for ever.
constexpr std::chrono::seconds kTimeout{120};

Result<CommandResult> run(Call& call, std::vector<std::string> argv) {
  return call.run(Command{std::move(argv), {}, kTimeout});
}

/// First line of what a command had to say.
std::string complaint(const CommandResult& result) {
  const std::string line = result.errors.substr(0, result.errors.find('\n'));
  return line.empty() ? fmt::format("exit status {}", result.status) : line;
}

/// Nova takes other types for true, so they must not slip through.
bool is_multiattach(const Volume& volume) {
  const Value value = volume.connection_info().at("multiattach");
  return value && value.boolean().value_or(true);
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
  return aiolos::fail(
      ErrorKind::storage,
      fmt::format("{}: allocating it takes {} bytes more, and its file system has {} left", path, wanted, *available),
      std::move(next));
}

/// Sets the end of a raw image of `present` bytes. @param allocate take the new part's space at once; a failure then
/// leaves the image as it was.
Result<void> move_end(Call& call, const std::string& path, std::uint64_t present, std::uint64_t bytes, bool allocate) {
  AIOLOS_TRY(const CommandResult result, allocate ? run(call, {"fallocate", "-o", std::to_string(present), "-l",
                                                               std::to_string(bytes - present), path})
                                                  : run(call, {"truncate", "-s", std::to_string(bytes), path}));
  if (result.status == 0) return {};
  if (allocate) {  // no guest has seen what lies behind the old end
    const auto undone = run(call, {"truncate", "-s", std::to_string(present), path});
    if (!undone || undone->status != 0) call.warning(path + " may be left larger than its guest knows");
  }
  return aiolos::fail(
      ErrorKind::storage, fmt::format("{} cannot be grown to {} bytes: {}", path, bytes, complaint(result)),
      "check the file system's free space and quota, and that it can preallocate (NFS can from 4.2 on); the "
      "image has the size it had");
}

/// Grows a raw image of `present` bytes. @param full it is allocated in full, and stays so.
Result<void> grow(Call& call, const std::string& path, std::uint64_t present, std::uint64_t bytes, bool full) {
  if (full)
    AIOLOS_CHECK(check_room(path, bytes - present, "make room there, then extend it again: a full image is kept full"));
  return call.effect(fmt::format("grow {} from {} to {} bytes", path, present, bytes),
                     [&] { return move_end(call, path, present, bytes, full); });
}

/// See extend_image. @param full the image's space is allocated.
Result<void> check_growth_of_qcow2(const std::string& path, bool full) {
  if (!full) return {};
  return aiolos::fail(
      ErrorKind::refused,
      path +
          " is fully allocated, and what QEMU grows it by would not be: its disk may use the AIO mode native, "
          "which is not safe then",
      "detach it, grow it with qemu-img resize --preallocation=falloc, and attach it again");
}

}  // namespace

Result<std::string> image_format(const Volume& volume) {
  const Value value = volume.data().at("format");
  AIOLOS_TRY(const std::string_view format, value.string_or(kRaw));
  if (format != kRaw && format != kQcow2)
    return value.error(fmt::format("unknown image format '{}'", format), "use raw or qcow2");
  if (format == kQcow2 && is_multiattach(volume))
    return volume.connection_info()
        .at("multiattach")
        .error("a qcow2 image cannot be shared: each guest would change its metadata without the others knowing",
               "use a raw image or a block device for a multiattach volume");
  return std::string(format);
}

Result<std::uint64_t> virtual_size(const StorageFacts& facts, const std::string& path) {
  if (!facts.chain.empty() && facts.chain.front().virtual_size) return *facts.chain.front().virtual_size;
  return aiolos::fail(ErrorKind::storage, "the size of " + path + " cannot be told", "check the storage below it");
}

Result<void> check_new_size(std::uint64_t bytes, std::uint64_t present, const std::string& path) {
  if (bytes == 0 || bytes % kSector != 0)
    return aiolos::fail(ErrorKind::bad_input, fmt::format("a size of {} bytes is no multiple of 512", bytes),
                        "round it to a multiple of 512");
  if (bytes < present)
    return aiolos::fail(
        ErrorKind::refused,
        fmt::format("{} has {} bytes; making it {} would cut off the guest's data", path, present, bytes),
        "ask for at least the present size");
  return {};
}

Result<void> preallocate_image(Call& call, const std::string& path, const StorageFacts& facts) {
  AIOLOS_TRY(const std::uint64_t size, virtual_size(facts, path));
  const std::uint64_t allocated = facts.chain.front().allocated.value_or(0);
  AIOLOS_CHECK(check_room(path, size - std::min(size, allocated), "make room, or let images.preallocate be none"));
  AIOLOS_TRY(const CommandResult result, call.effect("preallocate " + path, [&] {
    return run(call, {"fallocate", "-n", "-l", std::to_string(size), path});
  }));
  if (result.status != 0)
    call.warning("images.preallocate is space, but " + path + " could not be preallocated: " + complaint(result));
  return {};
}

Result<std::uint64_t> extend_image(Call& call, const Attachment& image, const StorageFacts& facts,
                                   std::uint64_t bytes) {
  const std::string& path = image.source.path;
  const bool full = facts.allocation() == Allocation::full;
  AIOLOS_TRY(const std::uint64_t present, virtual_size(facts, path));
  AIOLOS_CHECK(check_new_size(bytes, present, path));
  if (bytes == present) return bytes;
  AIOLOS_CHECK(image.format == kQcow2 ? check_growth_of_qcow2(path, full) : grow(call, path, present, bytes, full));
  return bytes;
}

}  // namespace aiolos::sdk
