// SPDX-License-Identifier: Apache-2.0
// Logical volumes of a volume group that several hosts see, active only on the host whose guest uses them.
//
//   {"driver_volume_type": "lvm", "data": {"volume_group": "vg0", "logical_volume": "vol-1"}}
#include <aiolos/plugin.hpp>

namespace {

using namespace aiolos;

class LvmDriver : public sdk::VolumeDriver {
 public:
  static constexpr sdk::DriverInfo kInfo{.name = "lvm",
                                         .version = "1.0",
                                         .summary = "logical volumes of a shared volume group",
                                         .types = {"lvm"},
                                         .configuration_key = "lvm",
                                         .configuration_defaults = R"({"deadline_seconds": 30})",
                                         .thread_model = sdk::ThreadModel::per_target};

  Result<std::string> target(const sdk::Volume& volume) const override {
    AIOLOS_TRY(const std::string_view group, volume.data().at("volume_group").string());
    AIOLOS_TRY(const std::string_view name, volume.data().at("logical_volume").string());
    return std::string(group) + "/" + std::string(name);
  }

  Result<Attachment> describe(const sdk::Volume& volume) const override {
    AIOLOS_TRY(const std::string name, target(volume));
    Attachment attachment;
    attachment.source.kind = SourceKind::block;
    attachment.source.path = "/dev/" + name;
    return attachment;
  }

  Result<Attachment> connect(sdk::Call& call, const sdk::Volume& volume) override {
    AIOLOS_CHECK(lvm(call, volume, {"lvchange", "--activate", "ey"}));
    return describe(volume);
  }

  Result<void> disconnect(sdk::Call& call, const sdk::Volume& volume, const Attachment*, bool) override {
    return lvm(call, volume, {"lvchange", "--activate", "n"});
  }

  Result<std::uint64_t> extend(sdk::Call& call, const sdk::Volume& volume, const Attachment&,
                               std::uint64_t bytes) override {
    AIOLOS_CHECK(lvm(call, volume, {"lvextend", "--size", std::to_string(bytes) + "b"}));
    return bytes;
  }

  /// A thin or snapshotted volume allocates on this host: what the host's own probe finds decides.
  Result<AioAdvice> aio_mode(const Attachment&, const StorageFacts* facts) const override {
    return advise_by_allocation(facts, "the logical volume");
  }

 private:
  Result<void> lvm(sdk::Call& call, const sdk::Volume& volume, std::vector<std::string> argv) {
    AIOLOS_TRY(const std::string name, target(volume));
    AIOLOS_TRY(const std::int64_t seconds, volume.configuration().at("deadline_seconds").integer());
    argv.push_back(name);
    AIOLOS_CHECK(
        call.run_checked({std::move(argv), {}, std::chrono::seconds(seconds)}, "look at the output of `lvs -a`"));
    return {};
  }
};

}  // namespace

AIOLOS_PLUGIN(LvmDriver)
