// SPDX-License-Identifier: Apache-2.0
// Probes an image with its backing chain, or a block device: puts observations and verdicts together.
#include "aiolos/host/block_devices.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <set>
#include <utility>

#include "block_stack.h"
#include "bounded.h"
#include "file_probe.h"
#include "qemu_image.h"

namespace aiolos {
namespace {

// QEMU itself gives up near 200; libvirt's own limit is 200.
constexpr std::size_t kLongestChain = 200;

/// The first line that a failed command wrote, without the program's name.
std::string complaint(const CommandResult& result) {
  std::string line = result.errors.substr(0, result.errors.find('\n'));
  if (line.starts_with("qemu-img: ")) line.erase(0, 10);
  return line.empty() ? "exit status " + std::to_string(result.status) : line;
}

/// Formats whose guest data lie in the file one to one (after a header), so that the file's allocation is the image's.
bool is_flat(const std::string& format) { return format == "raw" || format == "luks"; }

/// One layer, and what it stands on.
struct ProbedLayer {
  LayerFacts facts;
  std::pair<std::uint64_t, std::uint64_t> identity;  ///< Device and inode.
  std::optional<ImageInfo> info;
};

class RealBlockDevices final : public BlockDevices {
 public:
  RealBlockDevices(CommandRunner& runner, MountTable& mounts, BlockDevicesOptions options)
      : runner_(runner), mounts_(mounts), options_(std::move(options)) {}

  Result<StorageFacts> probe(const std::string& path, const std::string& format) override {
    if (!path.starts_with('/'))
      return fail(ErrorKind::bad_input, "path '" + path + "' is not absolute", "give the path from the root: /...");
    if (format.empty() || format == "auto")
      return fail(
          ErrorKind::bad_input, "no format is given for '" + path + "'",
          "name it (raw, qcow2, ...): it is never guessed, since a guest can write any header into a raw image");
    StorageFacts facts;
    std::set<std::pair<std::uint64_t, std::uint64_t>> seen;
    std::string layer_path = path;
    std::string layer_format = format;
    while (true) {
      Result<ProbedLayer> layer = probe_layer(layer_path, layer_format);
      if (!layer) return tl::unexpected(with_parent(layer.error(), facts));
      if (!seen.insert(layer->identity).second || facts.chain.size() >= kLongestChain)
        return fail(ErrorKind::storage, fmt::format("the backing chain of '{}' comes back to '{}'", path, layer_path),
                    "break the loop: qemu-img rebase -u on the image whose backing file is wrong");
      facts.chain.push_back(std::move(layer->facts));
      if (!layer->info || !layer->info->backing) return facts;

      const BackingPlace place = backing_place(*layer->info->backing, layer_path);
      if (!place.local) {
        facts.chain.push_back(network_layer(place, *layer->info));
        return facts;
      }
      const Result<std::string> next = backing_format(place, *layer->info, layer_path);
      if (!next) return tl::unexpected(next.error());
      layer_path = place.path;
      layer_format = *next;
    }
  }

 private:
  // --- layers

  Result<ProbedLayer> probe_layer(const std::string& path, const std::string& format) {
    Result<FileObservation> file = observe(path);
    if (!file) return tl::unexpected(file.error());
    ProbedLayer layer;
    layer.identity = {file->device, file->block_device ? 0 : file->inode};
    layer.facts.path = path;
    layer.facts.format = format;
    layer.facts.kind = file->block_device ? SourceKind::block : SourceKind::file;
    layer.facts.virtual_size = file->size;
    layer.facts.logical_block_size = file->direct.alignment;
    if (file->real_path != path) layer.facts.probes.push_back(fmt::format("'{}' is '{}'", path, file->real_path));
    if (!file->block_device) {
      layer.facts.allocated = file->allocated;
      layer.facts.filesystem = filesystem_of(*file);
    }

    if (is_flat(format)) {
      if (auto done = judge_flat(*file, layer); !done) return tl::unexpected(done.error());
    } else if (auto done = judge_image(*file, layer); !done) {
      return tl::unexpected(done.error());
    }
    layer.facts.o_direct = judge_direct_io(file->direct, layer.facts.probes);
    return layer;
  }

  /// raw: the guest can write every byte. Content is not looked at: a guest may have written an image header.
  Result<void> judge_flat(const FileObservation& file, ProbedLayer& layer) {
    if (layer.facts.format != "raw")
      if (auto matches = require_format(file, layer.facts); !matches) return matches;
    Result<Verdict> verdict = judge_below(file, layer.facts, {{0, file.size}});
    if (!verdict) return tl::unexpected(verdict.error());
    take(layer.facts, std::move(*verdict));
    return {};
  }

  /// qcow2 and its like: qemu-img says where guest clusters lie, the storage below whether those places are allocated.
  Result<void> judge_image(const FileObservation& file, ProbedLayer& layer) {
    LayerFacts& facts = layer.facts;
    if (auto matches = require_format(file, facts); !matches) return matches;
    Result<ImageInfo> info = image_info(facts.path, facts.format);
    if (!info) return tl::unexpected(info.error());
    facts.virtual_size = info->virtual_size;
    layer.info = std::move(*info);
    note_features(*layer.info, facts);
    if (const std::string reason = why_not_mapped(*layer.info, facts.format); !reason.empty()) {
      facts.probes.push_back(reason);
      return {};
    }
    Result<ImageMap> map = image_map(facts.path, facts.format, file.block_device);
    if (!map) {
      if (map.error().kind == ErrorKind::configuration) return tl::unexpected(map.error());
      facts.probes.push_back("qemu-img map failed: " + describe(map.error()));
      return {};
    }
    Result<Verdict> below = judge_below(file, facts, map->areas);
    if (!below) return tl::unexpected(below.error());
    judge_clusters(*layer.info, *map, std::move(*below), facts);
    return {};
  }

  static void note_features(const ImageInfo& info, LayerFacts& facts) {
    facts.probes.push_back(fmt::format("qemu-img info: {} of virtual size {}, clusters of {}", info.format,
                                       bytes_text(info.virtual_size), bytes_text(info.cluster_size)));
    if (info.corrupt) facts.probes.push_back("qemu-img info: the image is marked corrupt");
    if (info.extended_l2) facts.probes.push_back("qemu-img info: extended L2 entries");
    if (info.lazy_refcounts) facts.probes.push_back("qemu-img info: lazy refcounts");
  }

  /// Why the map of clusters would not answer the question, so that allocation stays unknown; empty if it does.
  static std::string why_not_mapped(const ImageInfo& info, const std::string& format) {
    if (info.encrypted) return "encrypted: where its clusters lie can't be read without the key";
    if (info.data_file) return "guest data lie in an external data file, which is not looked at";
    if (format != "qcow2") return "allocation of " + format + " images is not looked at";
    return {};
  }

  /// Full only if every guest cluster has its own place in this layer and every such place is allocated below.
  static void judge_clusters(const ImageInfo& info, const ImageMap& map, Verdict below, LayerFacts& facts) {
    const auto because = [&](std::uint64_t bytes, std::string_view what) {
      if (bytes == 0) return;
      below.allocation = below.allocation == Allocation::thin ? Allocation::thin : Allocation::sparse;
      below.probes.push_back(fmt::format("qemu-img map: {} {}", bytes_text(bytes), what));
    };
    if (map.areas.empty()) below.allocation = Allocation::full;  // nothing below is used; the reasons follow
    because(map.unallocated, "of the guest's disk have no cluster in this layer: a write allocates one");
    because(map.without_place, "are in compressed clusters: a write allocates new ones");
    if (info.snapshots > 0) {
      below.allocation = below.allocation == Allocation::thin ? Allocation::thin : Allocation::sparse;
      below.probes.push_back(fmt::format("qemu-img info: {} internal snapshot{} share clusters: a write copies",
                                         info.snapshots, info.snapshots == 1 ? "" : "s"));
    }
    if (map.unallocated == 0 && map.without_place == 0)
      below.probes.push_back("qemu-img map: every guest cluster has its place in this layer");
    take(facts, std::move(below));
  }

  static void take(LayerFacts& facts, Verdict verdict) {
    facts.allocation = verdict.allocation;
    for (std::string& probe : verdict.probes) facts.probes.push_back(std::move(probe));
  }

  /// The storage under an image: its file, or the stack of its block device.
  Result<Verdict> judge_below(const FileObservation& file, LayerFacts& facts, const std::vector<Range>& areas) {
    if (!file.block_device) return judge_file(file, facts.filesystem, areas);
    const Result<BlockStackFacts> stack =
        inspect_block_stack(options_.sys, major(file.device), minor(file.device), hooks());
    if (!stack) return tl::unexpected(stack.error());
    if (stack->logical_block_size) facts.logical_block_size = stack->logical_block_size;
    return stack->verdict;
  }

  BlockStackHooks hooks() {
    BlockStackHooks hooks;
    hooks.dm_table = [this](unsigned major, unsigned minor) { return dm_table(major, minor); };
    hooks.loop_file = [this](const std::string& path) -> Result<Verdict> {
      const Result<FileObservation> file = observe(path);
      if (!file) return tl::unexpected(file.error());
      return judge_file(*file, filesystem_of(*file), {{0, file->size}});
    };
    return hooks;
  }

  // --- backing images

  /// The format that the image above names. Where it names none, libvirt takes raw, and refuses if the content looks
  /// like anything else, since then a guest could have chosen the format; so it is here.
  Result<std::string> backing_format(const BackingPlace& place, const ImageInfo& above, const std::string& path) {
    if (above.backing_format) return *above.backing_format;
    if (place.format) return *place.format;
    const Result<FileObservation> file = observe(place.path);
    if (!file) return tl::unexpected(with_backing(file.error(), path));
    const std::string_view looks_like = format_by_magic(file->head);
    if (looks_like.empty()) return std::string("raw");
    return fail(
        ErrorKind::storage,
        fmt::format("'{}' does not say which format its backing image '{}' has, and it is not raw", path, place.path),
        fmt::format("if it really is {0}: qemu-img rebase -u -F {0} -b {1} {2}", looks_like, place.path, path));
  }

  static LayerFacts network_layer(const BackingPlace& place, const ImageInfo& above) {
    LayerFacts layer;
    layer.path = place.path;
    layer.format = above.backing_format.value_or(place.format.value_or(""));
    layer.kind = SourceKind::network;
    layer.probes.push_back("reached by QEMU's own client: not looked at, nor what lies below it");
    return layer;
  }

  static Error with_backing(Error error, const std::string& image) {
    error.message = fmt::format("backing image of '{}': {}", image, error.message);
    return error;
  }
  static Error with_parent(Error error, const StorageFacts& facts) {
    return facts.chain.empty() ? error : with_backing(std::move(error), facts.chain.back().path);
  }

  // --- the outside, bounded

  Result<FileObservation> observe(const std::string& path) const {
    return run_bounded<FileObservation>(
        options_.file_timeout, "probing '" + path + "'",
        [path](const std::atomic<bool>& abandoned) { return observe_file(path, abandoned); });
  }

  std::string filesystem_of(const FileObservation& file) {
    const Result<Mount> mount = mounts_.holding(file.real_path);
    return mount ? mount->fstype : filesystem_name(file.filesystem);
  }

  /// qcow2's content must be qcow2. Other formats have no magic that is always there: qemu-img refuses those.
  static Result<void> require_format(const FileObservation& file, const LayerFacts& facts) {
    const std::string_view found = format_by_magic(file.head);
    if (found == facts.format || (facts.format != "qcow2" && facts.format != "luks")) return {};
    return fail(ErrorKind::bad_input,
                fmt::format("'{}' is not a {} image{}", facts.path, facts.format,
                            found.empty() ? "" : fmt::format(", it looks like {}", found)),
                "correct the format that the volume's connection_info gives, or the image");
  }

  Result<ImageInfo> image_info(const std::string& path, const std::string& format) {
    const Result<std::string> json = qemu_img({"qemu-img", "info", "--output=json", "-U", "-f", format, path}, path);
    if (!json) return tl::unexpected(json.error());
    return parse_image_info(*json, path);
  }

  Result<ImageMap> image_map(const std::string& path, const std::string& format, bool block_device) {
    const Result<std::string> json =
        qemu_img({"qemu-img", "map", "--output=json", "-U", image_without_backing(path, format, block_device)}, path);
    if (!json) return tl::unexpected(json.error());
    return parse_image_map(*json, path);
  }

  Result<std::string> qemu_img(std::vector<std::string> argv, const std::string& path) {
    Result<CommandResult> result = runner_.run({std::move(argv), {}, options_.command_timeout});
    if (!result) return tl::unexpected(result.error());
    if (result->status == 0) return std::move(result->output);
    return fail(ErrorKind::storage, fmt::format("qemu-img cannot read '{}': {}", path, complaint(*result)),
                "try 'qemu-img check -U " + path + "'");
  }

  std::optional<std::string> dm_table(unsigned major, unsigned minor) {
    const Result<CommandResult> result =
        runner_.run({{"dmsetup", "table", "--major", std::to_string(major), "--minor", std::to_string(minor)},
                     {},
                     options_.command_timeout});
    if (!result || result->status != 0) return std::nullopt;
    return result->output;
  }

  CommandRunner& runner_;
  MountTable& mounts_;
  BlockDevicesOptions options_;
};

}  // namespace

std::unique_ptr<BlockDevices> make_block_devices(CommandRunner& runner, MountTable& mounts,
                                                 BlockDevicesOptions options) {
  return std::make_unique<RealBlockDevices>(runner, mounts, std::move(options));
}

}  // namespace aiolos
