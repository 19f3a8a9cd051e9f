// SPDX-License-Identifier: Apache-2.0
// Image files, raw and qcow2: what drivers whose volumes are files have in common. Part of the C++ SDK.
//
// Every function that touches the file wants the host's probe (Call::probe) first: that has a deadline, and a file
// system that hangs (a dead NFS server) never answers a system call.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "aiolos/plugin.hpp"

namespace aiolos::sdk {

inline constexpr std::string_view kRaw = "raw";
inline constexpr std::string_view kQcow2 = "qcow2";

/// `data.format`, raw if absent. ErrorKind::bad_input for another than raw and qcow2, and for a qcow2 that several
/// guests are to share.
Result<std::string> image_format(const Volume& volume);

/// Bytes that the guest can see of an image or device, as the host probes it. @param path for the error.
Result<std::uint64_t> virtual_size(const StorageFacts& facts, const std::string& path);

/// Whether a volume of `present` bytes may be made one of `bytes`: ErrorKind::bad_input unless that is a multiple of
/// 512, ErrorKind::refused if it is less.
Result<void> check_new_size(std::uint64_t bytes, std::uint64_t present, const std::string& path);

/// Allocates what a raw image lacks, as Nova's preallocate_images=space does: fallocate -n -l SIZE. Its content and
/// size stay, so a running guest is not in the way; doing it again changes nothing.
/// @return ErrorKind::storage if the file system has not that much room, before anything is taken. A file system that
/// cannot preallocate is only warned of: the volume works, and the AIO decision goes by what was really allocated.
Result<void> preallocate_image(Call& call, const std::string& path, const StorageFacts& facts);

/// Makes an image ready for QEMU's own resize of the disk, which follows.
///
/// A raw image is grown here: QEMU would leave the new part of a full image unallocated, and `native` is not safe on
/// holes. qemu-img cannot: the running guest holds the image's lock. A failure leaves a full image at its present size.
/// A qcow2's size is in its header, which only the QEMU that has it open may change; that allocates nothing, so a full
/// one is refused: its disk goes on in the AIO mode it has, `native` perhaps.
///
/// @param facts of the image, fresh. @param bytes the new size. @return `bytes`; errors of check_new_size, and
/// ErrorKind::storage if there is not that much room (before anything is taken) or the file system will not.
Result<std::uint64_t> extend_image(Call& call, const Attachment& image, const StorageFacts& facts, std::uint64_t bytes);

}  // namespace aiolos::sdk
