// SPDX-License-Identifier: Apache-2.0
// The field's words as types: modes, formats and kinds that several parts of the project speak of. Each enum's
// spelling is libvirt's, given once, in the table that `to_string` and `from_string` share.
#pragma once

#include <optional>
#include <string_view>

namespace aiolos {

/// QEMU's asynchronous I/O engine for a disk: `<driver io=.../>`.
/// Source: libvirt formatdomain, "Hard drives, floppy disks, CDROMs", element driver.
enum class AioMode { threads, native, io_uring };

/// Host page cache handling of a disk: `<driver cache=.../>`. `default_` is libvirt's own word "default".
enum class CacheMode { default_, none, writethrough, writeback, directsync, unsafe };

/// Which image data are backed by allocated storage, as probed on this host.
enum class Allocation {
  full,     ///< Every block that the guest can write is allocated: writing changes no metadata.
  sparse,   ///< Holes exist: a write may have to allocate, which can block io_submit(2).
  thin,     ///< A thin block device of this host (dm-thin, thin LV): allocates on write below the block layer.
  unknown,  ///< Not probed, or the probe could not tell.
};

/// What a source is to libvirt: the `type` of `<disk>` and of `<source>`'s shape.
enum class SourceKind { file, block, network };

std::string_view to_string(AioMode mode);
std::string_view to_string(CacheMode mode);
std::string_view to_string(Allocation allocation);
std::string_view to_string(SourceKind kind);

std::optional<AioMode> aio_mode_from_string(std::string_view name);
std::optional<CacheMode> cache_mode_from_string(std::string_view name);
std::optional<Allocation> allocation_from_string(std::string_view name);
std::optional<SourceKind> source_kind_from_string(std::string_view name);

/// Whether QEMU opens the image with O_DIRECT in this cache mode; no cache mode at all means QEMU's writeback.
bool uses_o_direct(std::optional<CacheMode> mode);

}  // namespace aiolos
