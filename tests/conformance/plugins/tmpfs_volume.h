// SPDX-License-Identifier: Apache-2.0
// A driver without fault, for each file here to spoil in one way: a volume is an image on a tmpfs of its own, which
// connect mounts, and which several guests share.
//
//   {"driver_volume_type": "tmpfs", "data": {"path": "/run/x", "password": "..."}}
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "aiolos/plugin.hpp"

namespace aiolos::tests {

class TmpfsVolume : public sdk::VolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{.name = "tmpfs",
                                         .version = "1.0",
                                         .summary = "images on tmpfs",
                                         .types = {"tmpfs"},
                                         .capabilities = AIOLOS_CAN_MULTIATTACH,
                                         .thread_model = sdk::ThreadModel::per_target};

  Result<std::string> target(const sdk::Volume& volume) const override {
    const sdk::Value path = volume.data().at("path");
    AIOLOS_TRY(const std::string_view text, path.string());
    if (!text.starts_with('/') || text.find('\0') != std::string_view::npos)
      return path.error("this is no absolute path", "give the folder to mount at from the root");
    return std::string(text);
  }

  Result<Attachment> describe(const sdk::Volume& volume) const override {
    AIOLOS_TRY(const std::string path, target(volume));
    Attachment attachment;
    attachment.source.kind = SourceKind::file;
    attachment.source.path = path + "/image";
    return attachment;
  }

  Result<Attachment> connect(sdk::Call& call, const sdk::Volume& volume) override {
    AIOLOS_TRY(const std::string path, target(volume));
    AIOLOS_TRY(const auto lock, call.lock(path));
    AIOLOS_CHECK(call.hold(path));
    AIOLOS_TRY(const bool mounted, is_mounted(call, path));
    if (!mounted) AIOLOS_CHECK(make(call, path));
    return describe(volume);
  }

  Result<void> disconnect(sdk::Call& call, const sdk::Volume& volume, const Attachment*, bool) override {
    AIOLOS_TRY(const std::string path, target(volume));
    AIOLOS_TRY(const auto lock, call.lock(path));
    AIOLOS_TRY(const VolumeJournal::Holders holders, call.holders(path));
    if (holders.others == 0) AIOLOS_CHECK(remove(call, path));
    return call.release(path);
  }

  Result<std::uint64_t> extend(sdk::Call& call, const sdk::Volume&, const Attachment& attachment,
                               std::uint64_t bytes) override {
    AIOLOS_TRY(const StorageFacts facts, call.probe(attachment.source.path, attachment.format));
    return std::max(bytes, facts.chain.front().virtual_size.value_or(0));
  }

  Result<AioAdvice> aio_mode(const Attachment&, const StorageFacts* facts) const override {
    return advise_by_allocation(facts, "the image");
  }

 protected:
  static Result<bool> is_mounted(sdk::Call& call, const std::string& path) {
    AIOLOS_TRY(const std::vector<Mount> mounts, call.mounts());
    return std::any_of(mounts.begin(), mounts.end(), [&](const Mount& mount) { return mount.target == path; });
  }

  static Result<void> run(sdk::Call& call, const std::string& what, std::vector<std::string> argv) {
    return call.effect(what, [&]() -> Result<void> {
      AIOLOS_CHECK(call.run_checked({std::move(argv), {}, std::chrono::seconds(5)}, "see what is at that path"));
      return {};
    });
  }

  static Result<void> make(sdk::Call& call, const std::string& path) {
    AIOLOS_CHECK(run(call, "make the folder " + path, {"mkdir", "-p", path}));
    AIOLOS_CHECK(run(call, "mount a tmpfs at " + path, {"mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", path}));
    return run(call, "make the image in " + path, {"truncate", "-s", "1M", path + "/image"});
  }

  static Result<void> remove(sdk::Call& call, const std::string& path) {
    AIOLOS_TRY(const bool mounted, is_mounted(call, path));
    if (mounted) AIOLOS_CHECK(run(call, "unmount " + path, {"umount", path}));
    if (std::filesystem::exists(path)) AIOLOS_CHECK(run(call, "remove the folder " + path, {"rmdir", path}));
    return {};
  }
};

}  // namespace aiolos::tests
