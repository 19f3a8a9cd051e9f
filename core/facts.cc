// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/facts.h"

#include <charconv>

#include <fmt/format.h>

namespace aiolos {
namespace {

template <typename T>
void put(Json& object, const char* key, const std::optional<T>& value) {
  if (value) object[key] = *value;
}

void put_version(Json& object, const char* key, const std::optional<Version>& value) {
  if (value) object[key] = version_string(*value);
}

/// An enum member that is spelled in JSON as `from_string` reads it; `target` stays as it is if absent.
template <typename Enum>
Result<void> read_enum(const JsonView& object, std::string_view key,
                       std::optional<Enum> (*from_string)(std::string_view), std::string_view expected, Enum& target) {
  const auto text = object.find_string(key);
  if (!text) return tl::unexpected(text.error());
  if (!*text) return {};
  const auto value = from_string(**text);
  if (!value)
    return fail(ErrorKind::bad_input, fmt::format("unknown value '{}'", **text), fmt::format("use {}", expected),
                object.pointer() + "/" + std::string(key));
  target = *value;
  return {};
}

template <typename T, typename U>
Result<void> assign(Result<std::optional<T>> found, std::optional<U>& target) {
  if (!found) return tl::unexpected(found.error());
  if (*found) target = static_cast<U>(**found);
  return {};
}

Result<void> assign(Result<std::optional<std::string>> found, std::string& target) {
  if (!found) return tl::unexpected(found.error());
  if (*found) target = std::move(**found);
  return {};
}

Result<void> read_probes(const JsonView& layer, std::vector<std::string>& probes) {
  const auto list = layer.find("probes");
  if (!list) return tl::unexpected(list.error());
  if (!*list) return {};
  if (!(*list)->json().is_array()) return (*list)->mismatch("an array of strings");
  for (std::size_t i = 0; i < (*list)->json().size(); ++i) {
    const auto text = JsonView((*list)->json()[i], fmt::format("{}/{}", (*list)->pointer(), i)).string();
    if (!text) return tl::unexpected(text.error());
    probes.push_back(*text);
  }
  return {};
}

Result<LayerFacts> layer_from_json(const JsonView& value) {
  LayerFacts layer;
  const auto path = value.at("path").and_then([](const JsonView& member) { return member.string(); });
  if (!path) return tl::unexpected(path.error());
  layer.path = *path;
  Result<void> done = assign(value.find_string("format"), layer.format);
  if (done) done = read_enum(value, "kind", source_kind_from_string, "file, block or network", layer.kind);
  if (done)
    done = read_enum(value, "allocation", allocation_from_string, "full, sparse, thin or unknown", layer.allocation);
  if (done) done = assign(value.find_boolean("o_direct"), layer.o_direct);
  if (done) done = assign(value.find_unsigned("virtual_size"), layer.virtual_size);
  if (done) done = assign(value.find_unsigned("allocated"), layer.allocated);
  if (done) done = assign(value.find_unsigned("logical_block_size"), layer.logical_block_size);
  if (done) done = assign(value.find_string("filesystem"), layer.filesystem);
  if (done) done = read_probes(value, layer.probes);
  if (!done) return tl::unexpected(done.error());
  return layer;
}

}  // namespace

Allocation StorageFacts::allocation() const { return chain.empty() ? Allocation::unknown : chain.front().allocation; }

std::optional<bool> StorageFacts::o_direct() const {
  if (chain.empty()) return std::nullopt;
  bool all_tried = true;
  for (const LayerFacts& layer : chain) {
    if (layer.o_direct == false) return false;
    all_tried = all_tried && layer.o_direct.has_value();
  }
  return all_tried ? std::optional(true) : std::nullopt;
}

std::string version_string(Version value) {
  return fmt::format("{}.{}.{}", value / 1'000'000, value / 1'000 % 1'000, value % 1'000);
}

Version parse_version(std::string_view text) {
  unsigned parts[3] = {0, 0, 0};
  const char* next = text.data();
  const char* const end = text.data() + text.size();
  for (int i = 0; i < 3; ++i) {
    const auto [stop, error] = std::from_chars(next, end, parts[i]);
    if (error != std::errc()) return i == 0 ? 0 : version(parts[0], parts[1]);
    if (stop == end || *stop != '.') break;
    next = stop + 1;
  }
  return version(parts[0], parts[1], parts[2]);
}

IoThreadFacts iothread_facts(const HostFacts& host) {
  IoThreadFacts facts;
  if (host.libvirt) facts.poll_in_xml = *host.libvirt >= version(9, 4);
  if (!host.libvirt || !host.qemu) return facts;
  facts.thread_pool = *host.libvirt >= version(8, 5) && *host.qemu >= version(7, 1);
  facts.queue_mapping = *host.libvirt >= version(10, 0) && *host.qemu >= version(9, 0);
  return facts;
}

Json to_json(const LayerFacts& layer) {
  Json object = {{"path", layer.path},
                 {"format", layer.format},
                 {"kind", to_string(layer.kind)},
                 {"allocation", to_string(layer.allocation)},
                 {"probes", layer.probes}};
  put(object, "o_direct", layer.o_direct);
  put(object, "virtual_size", layer.virtual_size);
  put(object, "allocated", layer.allocated);
  put(object, "logical_block_size", layer.logical_block_size);
  if (!layer.filesystem.empty()) object["filesystem"] = layer.filesystem;
  return object;
}

Json to_json(const StorageFacts& facts) {
  Json chain = Json::array();
  for (const LayerFacts& layer : facts.chain) chain.push_back(to_json(layer));
  Json object = {{"allocation", to_string(facts.allocation())}, {"chain", std::move(chain)}};
  put(object, "o_direct", facts.o_direct());
  return object;
}

Json to_json(const HostFacts& facts) {
  Json object = Json::object();
  put_version(object, "kernel", facts.kernel);
  put_version(object, "libvirt", facts.libvirt);
  put_version(object, "qemu", facts.qemu);
  put(object, "qemu_has_io_uring", facts.qemu_has_io_uring);
  put(object, "io_uring_disabled", facts.io_uring_disabled);
  put(object, "io_uring_works", facts.io_uring_works);
  put(object, "aio_nr", facts.aio_nr);
  put(object, "aio_max_nr", facts.aio_max_nr);
  put(object, "cpus", facts.cpus);
  const IoThreadFacts iothreads = iothread_facts(facts);
  if (iothreads.poll_in_xml) object["iothreads"]["poll_in_xml"] = *iothreads.poll_in_xml;
  if (iothreads.thread_pool) object["iothreads"]["thread_pool"] = *iothreads.thread_pool;
  if (iothreads.queue_mapping) object["iothreads"]["queue_mapping"] = *iothreads.queue_mapping;
  return object;
}

Result<StorageFacts> storage_facts_from_json(const Json& value) {
  StorageFacts facts;
  const auto chain = JsonView(value).at("chain");
  if (!chain) return tl::unexpected(chain.error());
  if (!chain->json().is_array()) return chain->mismatch("an array of layers");
  for (std::size_t i = 0; i < chain->json().size(); ++i) {
    auto layer = layer_from_json(JsonView(chain->json()[i], fmt::format("{}/{}", chain->pointer(), i)));
    if (!layer) return tl::unexpected(layer.error());
    facts.chain.push_back(std::move(*layer));
  }
  return facts;
}

}  // namespace aiolos
