// SPDX-License-Identifier: Apache-2.0
// What qemu-img says of an image, as values. Pure: text in, facts out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/result.h"
#include "extents.h"

namespace aiolos {

/// `qemu-img info --output=json`, as far as allocation and the backing chain go.
/// Source: QEMU qapi/block-core.json, ImageInfo.
struct ImageInfo {
  std::string format;
  std::uint64_t virtual_size = 0;
  std::uint64_t cluster_size = 0;  ///< 0 where the format has none.
  std::size_t snapshots = 0;       ///< Internal ones: they share clusters with the live image.
  bool encrypted = false;
  bool extended_l2 = false;
  bool lazy_refcounts = false;
  bool corrupt = false;
  std::optional<std::string> data_file;  ///< qcow2's external data file.
  std::optional<std::string> backing;    ///< As the image names it, made absolute by qemu-img where it could.
  std::optional<std::string> backing_format;
};

/// @param path the image, for errors. @return ErrorKind::bug if it is not qemu-img's JSON.
Result<ImageInfo> parse_image_info(std::string_view json, const std::string& path);

/// `qemu-img map --output=json` of one layer without its backing chain. Source: QEMU qapi/block-core.json, MapEntry.
struct ImageMap {
  std::vector<Range> areas;         ///< In the file: where guest clusters of this layer lie.
  std::uint64_t unallocated = 0;    ///< Guest bytes without a cluster in this layer.
  std::uint64_t without_place = 0;  ///< Guest bytes in compressed clusters.
};

Result<ImageMap> parse_image_map(std::string_view json, const std::string& path);

/// Where a backing image lies.
struct BackingPlace {
  bool local = true;                  ///< A path on this host; else only QEMU's own client reaches it.
  std::string path;                   ///< Absolute path; or the name for people, secrets taken out.
  std::optional<std::string> format;  ///< If the name itself says it, as json: names do.
};

/// Resolves an image's backing name as QEMU does: protocols, `json:` and `file:` names, paths relative to the image.
/// @param image the absolute path of the image that names it.
BackingPlace backing_place(const std::string& name, const std::string& image);

/// The format whose magic number `head` begins with: "qcow2", "luks", "vmdk", ...; empty if none is known.
/// For refusing what is not what it is said to be; never for choosing how to open an image.
std::string_view format_by_magic(std::string_view head);

/// A file name for qemu-img that opens `path` as `format` and nothing below it: no backing image, no guess.
std::string image_without_backing(const std::string& path, const std::string& format, bool block_device);

}  // namespace aiolos
