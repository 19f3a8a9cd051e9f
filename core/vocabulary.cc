// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/vocabulary.h"

#include <array>
#include <utility>

namespace aiolos {
namespace {

template <typename Enum, std::size_t N>
using Names = std::array<std::pair<Enum, std::string_view>, N>;

constexpr Names<AioMode, 3> kAioModes{
    {{AioMode::threads, "threads"}, {AioMode::native, "native"}, {AioMode::io_uring, "io_uring"}}};

constexpr Names<CacheMode, 6> kCacheModes{{{CacheMode::default_, "default"},
                                           {CacheMode::none, "none"},
                                           {CacheMode::writethrough, "writethrough"},
                                           {CacheMode::writeback, "writeback"},
                                           {CacheMode::directsync, "directsync"},
                                           {CacheMode::unsafe, "unsafe"}}};

constexpr Names<Allocation, 4> kAllocations{{{Allocation::full, "full"},
                                             {Allocation::sparse, "sparse"},
                                             {Allocation::thin, "thin"},
                                             {Allocation::unknown, "unknown"}}};

constexpr Names<SourceKind, 3> kSourceKinds{
    {{SourceKind::file, "file"}, {SourceKind::block, "block"}, {SourceKind::network, "network"}}};

template <typename Enum, std::size_t N>
std::string_view name_of(const Names<Enum, N>& names, Enum value) {
  for (const auto& [candidate, name] : names)
    if (candidate == value) return name;
  return {};
}

template <typename Enum, std::size_t N>
std::optional<Enum> value_of(const Names<Enum, N>& names, std::string_view name) {
  for (const auto& [value, candidate] : names)
    if (candidate == name) return value;
  return std::nullopt;
}

}  // namespace

std::string_view to_string(AioMode mode) { return name_of(kAioModes, mode); }
std::string_view to_string(CacheMode mode) { return name_of(kCacheModes, mode); }
std::string_view to_string(Allocation allocation) { return name_of(kAllocations, allocation); }
std::string_view to_string(SourceKind kind) { return name_of(kSourceKinds, kind); }

std::optional<AioMode> aio_mode_from_string(std::string_view name) { return value_of(kAioModes, name); }
std::optional<CacheMode> cache_mode_from_string(std::string_view name) { return value_of(kCacheModes, name); }
std::optional<Allocation> allocation_from_string(std::string_view name) { return value_of(kAllocations, name); }
std::optional<SourceKind> source_kind_from_string(std::string_view name) { return value_of(kSourceKinds, name); }

bool uses_o_direct(std::optional<CacheMode> mode) { return mode == CacheMode::none || mode == CacheMode::directsync; }

}  // namespace aiolos
