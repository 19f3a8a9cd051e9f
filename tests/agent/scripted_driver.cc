// SPDX-License-Identifier: Apache-2.0
// A driver for the tests of the flows: it fails in the verbs that data.fail names, and runs a command for each side
// effect, so that a test sees when it happens.
#include "aiolos/plugin.hpp"

namespace {

using namespace aiolos;

class ScriptedDriver : public sdk::VolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{.name = "scripted",
                                         .version = "1",
                                         .types = {"scripted"},
                                         .configuration_key = "scripted",
                                         .configuration_defaults = R"({"word": "none"})",
                                         .thread_model = sdk::ThreadModel::per_target,
                                         .nova_driver_io = "native"};

  Result<Attachment> describe(const sdk::Volume& volume) const override {
    Attachment attachment;
    attachment.source.kind = SourceKind::file;
    AIOLOS_TRY(const auto path, volume.data().at("path").string());
    attachment.source.path = path;
    AIOLOS_TRY(attachment.format, volume.data().at("format").string_or("raw"));
    return attachment;
  }
  Result<std::string> target(const sdk::Volume& volume) const override {
    AIOLOS_TRY(const auto path, volume.data().at("path").string());
    return std::string(path);
  }
  Result<Attachment> connect(sdk::Call& call, const sdk::Volume& volume) override {
    AIOLOS_CHECK(act(call, volume, "connect"));
    return describe(volume);
  }
  Result<void> disconnect(sdk::Call& call, const sdk::Volume& volume, const Attachment*, bool force) override {
    return act(call, volume, force ? "disconnect-by-force" : "disconnect");
  }
  Result<std::uint64_t> extend(sdk::Call& call, const sdk::Volume& volume, const Attachment&,
                               std::uint64_t bytes) override {
    AIOLOS_CHECK(act(call, volume, "extend"));
    return bytes;
  }
  /// "verify": it is another volume from the start; "verify later": from the second time it is looked at.
  Result<void> verify(sdk::Call&, const sdk::Volume& volume, const Attachment&) override {
    AIOLOS_TRY(const auto failing, volume.data().at("fail").string_or(""));
    if (failing == "verify" || (failing == "verify later" && std::exchange(looked_at_, true)))
      return sdk::fail(ErrorKind::refused, "it is another volume", "find out which");
    return {};
  }
  Result<AioAdvice> aio_mode(const Attachment&, const StorageFacts* facts) const override {
    return advise_by_allocation(facts, "the image");
  }

 private:
  static Result<void> act(sdk::Call& call, const sdk::Volume& volume, std::string what) {
    AIOLOS_TRY(const auto failing, volume.data().at("fail").string_or(""));
    AIOLOS_TRY(const auto done, call.run(Command{{what}, {}, std::chrono::seconds(1)}));
    const std::string words = " " + std::string(failing) + " ";
    if (words.find(" " + what + " ") != std::string::npos)
      return sdk::fail(ErrorKind::storage, "the script says: fail " + what, "change the script");
    return {};
  }

  bool looked_at_ = false;
};

}  // namespace

AIOLOS_PLUGIN(ScriptedDriver)
