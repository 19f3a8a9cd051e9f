// SPDX-License-Identifier: Apache-2.0
#include "guest_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>

#include "aiolos/core/posix.h"

namespace aiolos::engine {
namespace {

// --- the guard against files that are cut short -------------------------------------------------------------------

/// What is mapped, for the signal handler: a slot is free while its size is 0.
struct GuardedRange {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::size_t> size{0};
};
std::array<GuardedRange, 4096> guarded;
struct sigaction action_before;

/// Puts a page of zeroes where the access went; only calls what a signal handler may call.
void on_sigbus(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const GuardedRange& range : guarded) {
    const std::size_t size = range.size.load(std::memory_order_acquire);
    const std::uintptr_t begin = range.begin.load(std::memory_order_relaxed);
    if (size == 0 || address - begin >= size) continue;
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    void* const place = reinterpret_cast<void*>(address & ~(page - 1));
    if (::mmap(place, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
      return;
  }
  ::sigaction(SIGBUS, &action_before, nullptr);  // not ours: the access is done again, and fails as it would have
  (void)signal;
  (void)context;
}

void guard(void* begin, std::size_t size) {
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    return ::sigaction(SIGBUS, &action, &action_before) == 0;
  }();
  (void)installed;
  for (GuardedRange& range : guarded) {
    std::uintptr_t none = 0;
    if (!range.begin.compare_exchange_strong(none, reinterpret_cast<std::uintptr_t>(begin))) continue;
    range.size.store(size, std::memory_order_release);
    return;
  }
}

void unguard(void* begin) {
  for (GuardedRange& range : guarded) {
    if (range.begin.load() != reinterpret_cast<std::uintptr_t>(begin)) continue;
    range.size.store(0);
    range.begin.store(0);
    return;
  }
}

bool wraps(std::uint64_t begin, std::uint64_t size) { return begin + size < begin; }

bool overlap(std::uint64_t a, std::uint64_t a_size, std::uint64_t b, std::uint64_t b_size) {
  return a < b + b_size && b < a + a_size;
}

}  // namespace

// --- SharedMapping ------------------------------------------------------------------------------------------------

Result<SharedMapping> SharedMapping::map(int fd, std::uint64_t offset, std::uint64_t size) {
  struct stat status {};
  if (fd < 0 || ::fstat(fd, &status) != 0)
    return fail(ErrorKind::bad_input, "shared memory came without its descriptor", kBadFrontEnd);
  if (size == 0 || wraps(offset, size) || offset + size > static_cast<std::uint64_t>(status.st_size))
    return fail(ErrorKind::bad_input,
                fmt::format("shared memory of {} bytes at {} is not in its file of {}", size, offset, status.st_size),
                kBadFrontEnd);
  // On hugetlbfs a block is a huge page, and mappings begin and end with one.
  const auto page = std::max<std::uint64_t>(static_cast<std::uint64_t>(status.st_blksize),
                                            static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  const std::uint64_t begin = offset / page * page;
  const std::uint64_t length = (offset + size - begin + page - 1) / page * page;
  void* const mapped =
      ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, static_cast<off_t>(begin));
  if (mapped == MAP_FAILED)
    return fail(ErrorKind::retry, fmt::format("cannot map {} bytes of shared memory: {}", length, errno_text(errno)),
                "give the guest shared memory: <memoryBacking><source type='memfd'/><access mode='shared'/>");
  ::madvise(mapped, length, MADV_DONTDUMP);
  guard(mapped, length);
  SharedMapping mapping;
  mapping.mapped_ = mapped;
  mapping.mapped_size_ = length;
  mapping.data_ = static_cast<std::byte*>(mapped) + (offset - begin);
  mapping.size_ = size;
  return mapping;
}

SharedMapping::SharedMapping(SharedMapping&& other) noexcept { *this = std::move(other); }

SharedMapping& SharedMapping::operator=(SharedMapping&& other) noexcept {
  std::swap(mapped_, other.mapped_);
  std::swap(mapped_size_, other.mapped_size_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SharedMapping::~SharedMapping() {
  if (!mapped_) return;
  unguard(mapped_);
  ::munmap(mapped_, mapped_size_);
}

// --- GuestMemory --------------------------------------------------------------------------------------------------

Result<void> GuestMemory::add(const MemoryRegion& region, const UniqueFd& fd) {
  const auto refuse = [&](const char* why) {
    return fail(ErrorKind::bad_input,
                fmt::format("guest memory of {} bytes at {:#x} {}", region.size, region.guest_address, why),
                kBadFrontEnd);
  };
  if (regions_.size() == kMostRegions) return refuse("is one region too many");
  if (wraps(region.guest_address, region.size) || wraps(region.user_address, region.size))
    return refuse("wraps around");
  for (const Region& other : regions_)
    if (overlap(region.guest_address, region.size, other.place.guest_address, other.place.size) ||
        overlap(region.user_address, region.size, other.place.user_address, other.place.size))
      return refuse("overlaps another region");
  auto mapping = SharedMapping::map(fd.get(), region.mmap_offset, region.size);
  if (!mapping) return tl::unexpected(mapping.error());
  regions_.push_back({region, std::move(*mapping)});
  return {};
}

Result<void> GuestMemory::remove(const MemoryRegion& region) {
  const auto found = std::find_if(regions_.begin(), regions_.end(), [&](const Region& known) {
    return known.place.guest_address == region.guest_address && known.place.user_address == region.user_address &&
           known.place.size == region.size;
  });
  if (found == regions_.end())
    return fail(ErrorKind::bad_input,
                fmt::format("no guest memory of {} bytes at {:#x} to remove", region.size, region.guest_address),
                kBadFrontEnd);
  regions_.erase(found);
  return {};
}

std::byte* GuestMemory::at_user_address(std::uint64_t address, std::uint64_t size) const {
  for (const Region& region : regions_) {
    const std::uint64_t inside = address - region.place.user_address;  // wraps to a large number below the region
    if (inside < region.place.size && size <= region.place.size - inside) return region.mapping.data() + inside;
  }
  return nullptr;
}

bool GuestMemory::translate(std::uint64_t guest_address, std::uint64_t size, std::vector<iovec>& pieces) const {
  const std::size_t before = pieces.size();
  while (size > 0) {
    const auto holds = [&](const Region& region) {
      return guest_address - region.place.guest_address < region.place.size;
    };
    const auto region = std::find_if(regions_.begin(), regions_.end(), holds);
    if (region == regions_.end()) {
      pieces.resize(before);
      return false;
    }
    const std::uint64_t inside = guest_address - region->place.guest_address;
    const std::uint64_t piece = std::min(size, region->place.size - inside);
    pieces.push_back({region->mapping.data() + inside, piece});
    guest_address += piece;
    size -= piece;
  }
  return true;
}

std::optional<std::uint64_t> GuestMemory::guest_address(const void* byte) const {
  for (const Region& region : regions_) {
    const auto inside = static_cast<std::uint64_t>(static_cast<const std::byte*>(byte) - region.mapping.data());
    if (inside < region.place.size) return region.place.guest_address + inside;
  }
  return std::nullopt;
}

// --- DirtyLog -----------------------------------------------------------------------------------------------------

void DirtyLog::mark(std::uint64_t guest_address, std::uint64_t size) const {
  if (size == 0 || wraps(guest_address, size - 1)) return;
  const std::uint64_t last = std::min((guest_address + size - 1) >> kPageShift, mapping_.size() * 8 - 1);
  if (mapping_.size() == 0) return;
  for (std::uint64_t page = guest_address >> kPageShift; page <= last; ++page) {
    auto& byte = reinterpret_cast<std::uint8_t&>(mapping_.data()[page / 8]);
    std::atomic_ref(byte).fetch_or(static_cast<std::uint8_t>(1U << (page % 8)), std::memory_order_release);
  }
}

}  // namespace aiolos::engine
