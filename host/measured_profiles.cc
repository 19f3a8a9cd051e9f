// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/measured_profiles.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "aiolos/core/posix.h"
#include "small_file.h"

namespace aiolos {
namespace {

std::string folder_of(const std::string& state) { return state + "/measured"; }

/// Part of a file's name: what is no letter, digit or "._-" becomes its number in hexadecimal, as in an URL.
std::string name_part(std::string_view text) {
  std::string name;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                       c == '-' || (c == '.' && !name.empty());
    name += plain ? std::string(1, c) : fmt::format("%{:02x}", static_cast<unsigned char>(c));
  }
  return name;
}

std::string file_of(const std::string& state, const StorageClass& storage) {
  return fmt::format("{}/{},{},{},{}.json", folder_of(state), name_part(storage.volume_type), name_part(storage.format),
                     to_string(storage.allocation), name_part(storage.filesystem));
}

Result<MeasuredProfile> read_profile(const std::string& file, const std::string& text) {
  return parse_json(text, file).and_then(measured_profile_from_json).map_error([&](const Error& error) {
    return Error{ErrorKind::configuration,
                 fmt::format("'{}' is no measurement: {}", file, describe(error)),
                 "measure again with aiolos measure --save, or remove the file",
                 {}};
  });
}

}  // namespace

Result<std::optional<MeasuredProfile>> load_measured_profile(const std::string& state, const StorageClass& storage) {
  const std::string file = file_of(state, storage);
  const auto text = read_small_file(file);
  if (!text) {
    if (std::error_code ignored; !std::filesystem::exists(file, ignored)) return std::nullopt;
    return fail(ErrorKind::configuration, fmt::format("cannot read '{}'", file), "let this user read it");
  }
  auto profile = read_profile(file, *text);
  if (!profile) return tl::unexpected(profile.error());
  return std::optional(std::move(*profile));
}

Result<std::string> save_measured_profile(const std::string& state, const MeasuredProfile& profile) {
  std::error_code error;
  std::filesystem::create_directories(folder_of(state), error);
  if (error) return tl::unexpected(storage_error("make", folder_of(state), error.value()));
  const std::string file = file_of(state, profile.storage);
  std::string temporary = file + ".XXXXXX";
  const UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) return tl::unexpected(storage_error("write", file, errno));
  const bool written = write_all(fd.get(), to_json(profile).dump(2) + "\n") && ::fchmod(fd.get(), 0644) == 0 &&
                       ::fsync(fd.get()) == 0 && std::rename(temporary.c_str(), file.c_str()) == 0;
  if (written) return file;
  const int reason = errno;
  ::unlink(temporary.c_str());
  return tl::unexpected(storage_error("write", file, reason));
}

}  // namespace aiolos
