// SPDX-License-Identifier: Apache-2.0
// Where Nova mounts a share and finds a volume's file on it.
#include <fmt/format.h>
#include <nettle/md5.h>

#include <array>

#include "aiolos/plugin.hpp"

namespace aiolos::sdk {
namespace {

bool leads_out(std::string_view name) {
  if (name.empty() || name.front() == '/' || name.find('\0') != std::string_view::npos) return true;
  while (!name.empty()) {
    const std::size_t slash = name.find('/');
    if (name.substr(0, slash) == "..") return true;
    if (slash == std::string_view::npos) break;
    name.remove_prefix(slash + 1);
  }
  return false;
}

}  // namespace

std::string md5_hex(std::string_view text) {
  md5_ctx context;
  md5_init(&context);
  md5_update(&context, text.size(), reinterpret_cast<const std::uint8_t*>(text.data()));
  std::array<std::uint8_t, MD5_DIGEST_SIZE> digest;
  md5_digest(&context, digest.size(), digest.data());
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex(2 * digest.size(), '\0');
  for (std::size_t i = 0; i < digest.size(); ++i) {
    hex[2 * i] = kDigits[digest[i] >> 4];
    hex[2 * i + 1] = kDigits[digest[i] & 0xf];
  }
  return hex;
}

std::string mount_point_path(std::string_view base, std::string_view share) {
  std::string path(base);
  if (!path.ends_with('/')) path.push_back('/');
  path += md5_hex(share);
  return path;
}

Result<std::string> mounted_path(std::string_view base, std::string_view share, std::string_view name) {
  if (leads_out(name))
    return aiolos::fail(ErrorKind::bad_input, fmt::format("\"{}\" is no file below the mount point", name),
                        "give the volume's file name on the share");
  std::string path = mount_point_path(base, share);
  path.push_back('/');
  path.append(name);
  return path;
}

}  // namespace aiolos::sdk
