// SPDX-License-Identifier: Apache-2.0
// Breaks the rules in the way that data.fault names; without one it is the good plugin.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "tmpfs_volume.h"

namespace aiolos::tests {

class Misbehaving final : public TmpfsVolume {
 public:
  Result<std::string> target(const sdk::Volume& volume) const override {
    const Result<std::string> path = TmpfsVolume::target(volume);
    if (path && has(volume, "target moves")) return *path + std::to_string(::getpid());
    return path;
  }

  Result<Attachment> describe(const sdk::Volume& volume) const override {
    auto attachment = describe_folder(volume);
    if (!attachment) return wrong_input(volume, std::move(attachment).error());
    if (has(volume, "answers differently")) attachment->state = ++asked_;
    if (has(volume, "describe opens a file")) attachment->state = std::filesystem::exists(attachment->source.path);
    if (has(volume, "not for threads")) keep_in_the_object(*attachment);
    if (has(volume, "gives no reasons")) attachment->state = "gives no reasons";
    return attachment;
  }

  Result<AioAdvice> aio_mode(const Attachment& attachment, const StorageFacts* facts) const override {
    if (attachment.state == "gives no reasons") return AioAdvice{};
    return TmpfsVolume::aio_mode(attachment, facts);
  }

  Result<Attachment> connect(sdk::Call& call, const sdk::Volume& volume) override {
    AIOLOS_TRY(const std::string path, TmpfsVolume::target(volume));
    AIOLOS_TRY(const bool mounted, is_mounted(call, path));
    if (has(volume, "connects once") && mounted)
      return sdk::fail(ErrorKind::refused, path + " is mounted already", "disconnect it first");
    while (has(volume, "never ends")) ::sleep(1);
    if (has(volume, "secret in arguments"))
      AIOLOS_CHECK(call.run(Command{{"true", std::string(volume.data().at("password").string().value_or(""))}, {}}));
    if (has(volume, "leaks a descriptor") && ::open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
      return sdk::fail(ErrorKind::bug, "/dev/null cannot be opened", "see why");
    if (has(volume, "changes before its effect") && !mounted) AIOLOS_CHECK(mount_unseen(call, path));
    auto attachment = TmpfsVolume::connect(call, volume);
    if (!attachment && attachment.error().kind == ErrorKind::storage && has(volume, "blames itself"))
      return sdk::fail(ErrorKind::bug, "this cannot be", "report it");
    return attachment;
  }

  Result<void> disconnect(sdk::Call& call, const sdk::Volume& volume, const Attachment* attachment,
                          bool force) override {
    AIOLOS_TRY(const std::string path, TmpfsVolume::target(volume));
    AIOLOS_TRY(const bool mounted, is_mounted(call, path));
    if (has(volume, "leaves the mount")) return {};
    if (has(volume, "fails when gone") && !mounted)
      return sdk::fail(ErrorKind::storage, path + " is not mounted", "connect it first");
    if (has(volume, "needs its attachment") && attachment == nullptr) return {};
    if (has(volume, "undoes whole connects only") && mounted && !std::filesystem::exists(path + "/image"))
      return sdk::fail(ErrorKind::storage, path + "/image is not there", "look for it");
    if (has(volume, "takes it from others")) return remove(call, path);
    return TmpfsVolume::disconnect(call, volume, attachment, force);
  }

  Result<std::uint64_t> extend(sdk::Call& call, const sdk::Volume& volume, const Attachment& attachment,
                               std::uint64_t bytes) override {
    if (!has(volume, "shrinks")) return TmpfsVolume::extend(call, volume, attachment, bytes);
    AIOLOS_CHECK(run(call, "resize the image", {"truncate", "-s", std::to_string(bytes), attachment.source.path}));
    return bytes;
  }

  Result<void> verify(sdk::Call&, const sdk::Volume& volume, const Attachment& attachment) override {
    if (!has(volume, "verify refuses")) return {};
    return sdk::fail(ErrorKind::refused, attachment.source.path + " is another volume", "connect it again");
  }

 private:
  static bool has(const sdk::Volume& volume, std::string_view fault) {
    return volume.data().at("fault").string().value_or("") == fault;
  }

  /// As TmpfsVolume's, whose target is not the one that moves.
  static Result<Attachment> describe_folder(const sdk::Volume& volume) {
    AIOLOS_TRY(const std::string path, TmpfsVolume().target(volume));
    Attachment attachment;
    attachment.source.kind = SourceKind::file;
    attachment.source.path = path + "/image";
    return attachment;
  }

  static tl::unexpected<Error> wrong_input(const sdk::Volume& volume, Error error) {
    if (has(volume, "crashes on wrong input")) std::raise(SIGSEGV);
    while (has(volume, "hangs on wrong input")) ::sleep(1);
    if (has(volume, "blames no member")) error.where.clear();
    if (has(volume, "blames the storage")) error.kind = ErrorKind::storage;
    return tl::unexpected(std::move(error));
  }

  void keep_in_the_object(Attachment& attachment) const {
    if (inside_++ > 0) attachment.source.path += "?";
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    --inside_;
  }

  static Result<void> mount_unseen(sdk::Call& call, const std::string& path) {
    AIOLOS_CHECK(call.run_checked(Command{{"mkdir", "-p", path}, {}}, "see why"));
    AIOLOS_CHECK(call.run_checked(Command{{"mount", "-t", "tmpfs", "tmpfs", path}, {}}, "see why"));
    return run(call, "make the image in " + path, {"truncate", "-s", "1M", path + "/image"});
  }

  mutable std::atomic<int> asked_ = 0;
  mutable std::atomic<int> inside_ = 0;
};

}  // namespace aiolos::tests

AIOLOS_PLUGIN(aiolos::tests::Misbehaving)
