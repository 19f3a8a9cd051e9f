// SPDX-License-Identifier: Apache-2.0
// What libvirt's schema lets pass and libvirt or QEMU refuse, or die of. One function for each part of a disk.
//
// Sources: libvirt formatdomain; each rule was tried on libvirt 9.0 and QEMU 7.2, or is QEMU's own (block/throttle,
// hw/block/block.c, hw/block/virtio-blk.c).
#include <algorithm>
#include <bit>
#include <span>

#include "aiolos/disk/disk_xml.h"
#include "property_table.h"
#include "xml_text.h"

namespace aiolos::disk {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

constexpr std::uint64_t kMinQueueSize = 4;  // QEMU 7.2: "invalid queue-size property (2), must be > 2".
constexpr std::uint64_t kMaxQueueSize = 1024;
constexpr std::uint64_t kMaxQueues = 1024;             // Hot-plugging more kills a running QEMU 7.2.
constexpr std::uint64_t kMinBlockSize = 512;           // QEMU's MIN_BLOCK_SIZE.
constexpr std::uint64_t kMaxBlockSize = 2 << 20;       // QEMU's MAX_BLOCK_SIZE.
constexpr std::uint64_t kMaxRate = 1000000000000000U;  // QEMU's THROTTLE_VALUE_MAX.

bool is_power_of_2(std::uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

bool consists_of(std::string_view text, std::string_view punctuation) {
  return std::all_of(text.begin(), text.end(), [punctuation](char c) {
    const bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return alphanumeric || punctuation.find(c) != std::string_view::npos;
  });
}

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7E; });
}

/// A property below an element, such as `driver/@cache`, looked up once. Lists are not looked into.
class PropertyPath {
 public:
  PropertyPath(const Table& table, std::string_view path) : text_(path) {
    const Table* within = &table;
    for (std::string_view rest = path; within != nullptr && !rest.empty();) {
      const std::string_view head = rest.substr(0, rest.find('/'));
      const bool is_attribute = head.starts_with('@');
      const auto is_it = [&, name = head.substr(is_attribute ? 1 : 0)](const Row& row) {
        return row.name == name && (row.shape == Row::Shape::attribute) == is_attribute;
      };
      const auto row = std::find_if(within->rows.begin(), within->rows.end(), is_it);
      if (row == within->rows.end()) {
        rows_.clear();
        return;
      }
      rows_.push_back(&*row);
      within = row->shape == Row::Shape::element ? &row->table() : nullptr;
      rest.remove_prefix(std::min(head.size() + 1, rest.size()));
    }
  }

  std::string_view text() const { return text_; }

  /// Empty for an element; nothing if it is not set, or the model has no such property.
  std::optional<std::string> value(const void* owner) const {
    for (const Row* row : rows_) {
      if (row->shape != Row::Shape::element) {
        char scratch[kScratchSize];
        std::string_view value;
        return row->get(owner, scratch, value) ? std::optional<std::string>(value) : std::nullopt;
      }
      if (row->count(owner) == 0) return std::nullopt;
      owner = row->at(owner, 0);
    }
    return rows_.empty() ? std::nullopt : std::optional<std::string>("");
  }

 private:
  std::string_view text_;
  std::vector<const Row*> rows_;
};

std::vector<PropertyPath> properties(const Table& table, std::span<const std::string_view> paths) {
  std::vector<PropertyPath> found;
  for (const std::string_view path : paths) found.emplace_back(table, path);
  return found;
}

std::vector<PropertyPath> disk_properties(std::initializer_list<std::string_view> paths) {
  return properties(disk_table(), paths);
}

std::string quote(std::string_view text) { return '\'' + std::string(text) + '\''; }

bool is_set(const Text& text) { return text && !text->empty(); }

/// Whether the document named a value for the property that the model does not know, a newer libvirt's.
bool is_kept(const Extra& extra, std::string_view name) {
  return std::any_of(extra.items().begin(), extra.items().end(), [name](const ExtraItem& item) {
    return item.kind == ExtraItem::Kind::value && item.name == name;
  });
}

/// The bus, which libvirt takes from the target's name if it is not given.
std::optional<Bus> bus_of(const DiskConfig& disk) {
  if (disk.target.bus || is_kept(disk.target.extra, "bus")) return disk.target.bus;
  static constexpr std::pair<std::string_view, Bus> prefixes[] = {
      {"vd", Bus::virtio}, {"sd", Bus::scsi}, {"hd", Bus::ide}, {"fd", Bus::fdc}, {"xvd", Bus::xen}, {"ubd", Bus::uml}};
  for (const auto& [prefix, bus] : prefixes)
    if (disk.target.dev && disk.target.dev->starts_with(prefix)) return bus;
  return std::nullopt;
}

bool is_one_of(std::optional<Bus> bus, std::initializer_list<Bus> list) {
  return !bus || std::find(list.begin(), list.end(), *bus) != list.end();
}

class Validator {
 public:
  Validator(const DiskConfig& disk, std::vector<Violation>& violations)
      : disk_(disk), bus_(bus_of(disk)), violations_(violations) {}

  void run() {
    device();
    formats();
    caching();
    queues();
    iothreads();
    virtio_only();
    statistics();
    sources();
    old_places();
    geometry();
    blockio();
    target();
    iotune();
    throttle_filters();
    access();
    identity();
    boot();
    address();
    vhost();
    characters(disk_table(), &disk_, Place{nullptr, nullptr});
  }

 private:
  void refuse(std::string path, std::string value, std::string_view why, std::string next) {
    std::string message = path + (value.empty() ? "" : '=' + quote(value)) + ' ' + std::string(why);
    violations_.push_back({std::move(path), std::move(value), std::move(message), std::move(next)});
  }

  void missing(std::string path, std::string_view why, std::string next) {
    std::string message = path + " is missing: " + std::string(why);
    violations_.push_back({std::move(path), {}, std::move(message), std::move(next)});
  }

  void in_range(const Number& number, std::string path, std::uint64_t least, std::uint64_t most) {
    if (!number || (*number >= least && *number <= most)) return;
    const std::string range =
        least == most ? std::to_string(least) : "from " + std::to_string(least) + " to " + std::to_string(most);
    refuse(std::move(path), std::to_string(*number), "is not " + range, "use a value " + range);
  }

  /// Refuses each property of the list that is set.
  void refuse_all(const std::vector<PropertyPath>& paths, std::string_view why, const std::string& next) {
    for (const PropertyPath& path : paths)
      if (const auto value = path.value(&disk_)) refuse("disk/" + std::string(path.text()), *value, why, next);
  }

  bool is_vhost() const { return disk_.type == SourceType::vhostuser || disk_.type == SourceType::vhostvdpa; }
  bool is_lun() const { return disk_.device == DeviceKind::lun; }
  bool is_removable() const { return disk_.device == DeviceKind::cdrom || disk_.device == DeviceKind::floppy; }
  std::string bus_name() const { return bus_ ? std::string(to_string(*bus_)) : std::string("?"); }

  // <disk>: what kinds of device sit on which bus.
  void device() {
    if (disk_.device == DeviceKind::floppy && !is_one_of(bus_, {Bus::fdc}))
      refuse("disk/@device", "floppy", "needs the bus fdc, not " + bus_name(), "set target/@bus to fdc");
    if (disk_.device != DeviceKind::floppy && bus_ == Bus::fdc)
      refuse("disk/target/@bus", "fdc", "takes floppies only", "set disk/@device to floppy, or another bus");
    if (disk_.device == DeviceKind::cdrom && (bus_ == Bus::virtio || bus_ == Bus::xen))
      refuse("disk/@device", "cdrom", "does not work on the bus " + bus_name(), "use the bus sata, scsi, ide or usb");
    model();
    if (is_lun())
      lun();
    else
      not_lun();
  }

  void model() {
    if (!disk_.model || !bus_) return;
    const bool usb = disk_.model == DiskModel::usb_storage || disk_.model == DiskModel::usb_bot;
    if (bus_ != (usb ? Bus::usb : Bus::virtio))
      refuse("disk/@model", std::string(to_string(*disk_.model)), "does not exist on the bus " + bus_name(),
             usb ? "set target/@bus to usb, or no model" : "set target/@bus to virtio, or no model");
  }

  void lun() {
    const bool iscsi = disk_.type == SourceType::network && disk_.source.protocol == Protocol::iscsi;
    if (!iscsi && disk_.type != SourceType::block && disk_.type != SourceType::volume)
      refuse("disk/@device", "lun", "passes SCSI commands through, which needs a block device or iSCSI",
             "use disk/@type block, volume, or network with iscsi; or disk/@device disk");
    if (!is_one_of(bus_, {Bus::scsi, Bus::virtio}))
      refuse("disk/@device", "lun", "does not work on the bus " + bus_name(), "use the bus scsi");
    if (disk_.driver.type && *disk_.driver.type != "raw")
      refuse("disk/driver/@type", *disk_.driver.type, "does not work with device='lun'", "use raw");
    const std::string why = "is not supported with device='lun': the guest sees the real device's";
    static const auto identity = disk_properties({"wwn", "vendor", "product"});
    static const auto serial = disk_properties({"serial"});
    refuse_all(identity, why, "leave it out");
    if (disk_.type == SourceType::block && bus_ == Bus::scsi) refuse_all(serial, why, "leave it out");
  }

  void not_lun() {
    static const auto of_luns = disk_properties({"@rawio", "@sgio", "source/reservations"});
    refuse_all(of_luns, "is for device='lun' only", "leave it out, or set disk/@device to lun");
  }

  void formats() {
    // Source: libvirt, storagecommon.rng, storageFormat; "aio" is libvirt's old word for raw.
    static constexpr std::string_view kFormats[] = {"raw",  "dir",   "bochs", "cloop", "dmg",   "iso",
                                                    "vpc",  "vdi",   "fat",   "vhd",   "ploop", "cow",
                                                    "qcow", "qcow2", "qed",   "vmdk",  "aio"};
    if (!disk_.driver.type || *disk_.driver.type == "qcow2") return;
    if (std::find(std::begin(kFormats), std::end(kFormats), *disk_.driver.type) == std::end(kFormats))
      refuse("disk/driver/@type", *disk_.driver.type, "is no image format that libvirt knows", "use raw or qcow2");
    static const auto of_qcow2 =
        disk_properties({"driver/@discard_no_unref", "driver/metadata_cache", "source/dataStore"});
    refuse_all(of_qcow2, "is for qcow2 only, not " + *disk_.driver.type, "leave it out");
  }

  void caching() {
    const Driver& driver = disk_.driver;
    const bool direct = driver.cache == CacheMode::none || driver.cache == CacheMode::directsync;
    if (driver.io == AioMode::native && !direct && !is_vhost())
      refuse("disk/driver/@io", "native",
             "needs O_DIRECT, but driver/@cache is " +
                 (driver.cache ? quote(to_string(*driver.cache)) : std::string("not set (writeback)")),
             "set driver/@cache to none or directsync, or driver/@io to threads or io_uring");
    if (disk_.shareable && driver.cache && !direct && driver.cache != CacheMode::default_)
      refuse("disk/driver/@cache", std::string(to_string(*driver.cache)),
             "keeps data in this host's page cache, where the other guests of a shareable disk do not see them",
             "set driver/@cache to none");
    if (driver.detect_zeroes == DetectZeroes::unmap && driver.discard != Discard::unmap)
      refuse("disk/driver/@detect_zeroes", "unmap", "has no effect without discard='unmap'",
             "set driver/@discard to unmap, or detect_zeroes to on");
    if (driver.copy_on_read == true && disk_.readonly)
      refuse("disk/driver/@copy_on_read", "on", "cannot write to a read-only disk", "drop <readonly/> or copy_on_read");
  }

  void queues() {
    in_range(disk_.driver.queues, "disk/driver/@queues", 1, kMaxQueues);
    const Number& size = disk_.driver.queue_size;
    if (size && (!is_power_of_2(*size) || *size < kMinQueueSize || *size > kMaxQueueSize))
      refuse("disk/driver/@queue_size", std::to_string(*size), "is not a power of 2 from 4 to 1024, and QEMU exits",
             "use 4, 8, 16, 32, 64, 128, 256, 512 or 1024");
  }

  void iothreads() {
    const Driver& driver = disk_.driver;
    if (driver.iothread == 0U)
      refuse("disk/driver/@iothread", "0", "is no iothread: they count from 1", "use 1 or more, or leave it out");
    if (!driver.iothreads) return;
    if (driver.iothread)
      refuse("disk/driver/@iothread", std::to_string(*driver.iothread), "stands beside <iothreads>",
             "keep one of the two");
    std::vector<std::uint64_t> ids;
    std::size_t with_queues = 0;
    for (const IoThread& iothread : driver.iothreads->iothreads) {
      with_queues += iothread.queues.empty() ? 0 : 1;
      const std::string path = "disk/driver/iothreads/iothread[" + std::to_string(ids.size() + 1) + "]/@id";
      if (iothread.id.value_or(0) == 0) {
        missing(path, "an iothread's number, from 1", "name the iothread");
      } else if (std::find(ids.begin(), ids.end(), *iothread.id) != ids.end()) {
        refuse(path, std::to_string(*iothread.id), "is mapped twice", "list each iothread once, with all its queues");
      }
      ids.push_back(iothread.id.value_or(0));
    }
    if (ids.empty()) missing("disk/driver/iothreads/iothread", "the mapping is empty", "list the iothreads");
    if (with_queues > 0) queue_mapping(with_queues == ids.size());
  }

  /// A mapping that names queues must name each of the disk's queues once.
  void queue_mapping(bool every_iothread_has_queues) {
    const std::string path = "disk/driver/iothreads";
    if (!every_iothread_has_queues)
      refuse(path, "", "gives queues to some iothreads only", "give every iothread queues, or none");
    if (!disk_.driver.queues) {
      missing("disk/driver/@queues", "<iothreads> maps queues", "set it to the number of queues that are mapped");
      return;
    }
    std::vector<std::uint64_t> seen;
    for (const IoThread& iothread : disk_.driver.iothreads->iothreads)
      for (const IoThreadQueue& queue : iothread.queues) {
        const std::uint64_t id = queue.id.value_or(UINT64_MAX);
        if (id >= *disk_.driver.queues)
          refuse(path + "/iothread/queue/@id", queue.id ? std::to_string(id) : "", "is no queue of this disk",
                 "queues count from 0 to driver/@queues - 1");
        else if (std::find(seen.begin(), seen.end(), id) != seen.end())
          refuse(path + "/iothread/queue/@id", std::to_string(id), "is mapped twice", "map each queue once");
        else
          seen.push_back(id);
      }
    if (seen.size() < *disk_.driver.queues)
      refuse("disk/driver/@queues", std::to_string(*disk_.driver.queues),
             "is more than the " + std::to_string(seen.size()) + " queues that <iothreads> maps",
             "map each queue from 0 to driver/@queues - 1");
  }

  void virtio_only() {
    if (bus_ == Bus::virtio || !bus_) return;
    static const auto of_virtio = disk_properties({"driver/@ioeventfd", "driver/@event_idx", "driver/@iothread",
                                                   "driver/@queues", "driver/@queue_size", "driver/@iommu",
                                                   "driver/@ats", "driver/@packed", "driver/@page_per_vq",
                                                   "driver/iothreads"});
    refuse_all(of_virtio, "is for the bus virtio only, not " + bus_name(), "leave it out");
  }

  void statistics() {
    if (!disk_.driver.statistics) return;
    const std::string path = "disk/driver/statistics/";
    for (const Statistic& statistic : disk_.driver.statistics->statistics)
      if (statistic.interval.value_or(0) == 0)
        missing(path + "statistic/@interval", "it must be at least one second", "set it to 1 or more");
    for (const LatencyHistogram& histogram : disk_.driver.statistics->histograms) {
      const auto& bins = histogram.bins;
      const auto starts_after = [](const HistogramBin& a, const HistogramBin& b) { return a.start >= b.start; };
      if (std::adjacent_find(bins.begin(), bins.end(), starts_after) != bins.end())
        refuse(path + "latency-histogram/bin/@start", "", "does not rise from bin to bin", "sort the bins");
    }
  }

  void sources() {
    if (is_kept(disk_.extra, "type")) return;
    const SourceType type = disk_.type.value_or(SourceType::file);
    source(disk_.source, type, "disk/source");
    if (!is_removable() && !has_location(disk_.source, type))
      missing("disk/source", "only cdrom and floppy drives may be empty",
              "set source/" + std::string(location_of(type).text()));
    if (disk_.source.startup_policy == StartupPolicy::requisite && !is_removable())
      refuse("disk/source/@startupPolicy", "requisite", "is for cdrom and floppy drives only", "use mandatory");
    std::string path = "disk";
    for (const BackingStore* store = disk_.backing_store ? &*disk_.backing_store : nullptr; store;
         store = store->backing_store ? &*store->backing_store : nullptr) {
      path += "/backingStore";
      if (store->type) source(store->source, *store->type, path + "/source");
    }
  }

  /// The property of <source> without which there is none.
  static const PropertyPath& location_of(SourceType type) {
    static constexpr std::string_view places[] = {"@file",   "@dev",  "@dir", "@protocol", "@volume",
                                                  "address", "@path", "@dev", "@dev"};
    static_assert(std::size(places) == std::size(spellings<SourceType>));
    static const auto found = properties(source_table(), places);
    return found[static_cast<std::size_t>(type)];
  }

  static bool has_location(const Source& source, SourceType type) {
    if (type == SourceType::nvme) return source.address.has_value();
    const PropertyPath& place = location_of(type);
    if (is_kept(source.extra, place.text().substr(1))) return true;
    const auto value = place.value(&source);
    return value && !value->empty();
  }

  void source(const Source& source, SourceType type, const std::string& path) {
    foreign_attributes(source, type, path);
    if (type == SourceType::network) network(source, path);
    if (type == SourceType::nvme && source.namespace_id.value_or(0) == 0)
      missing(path + "/@namespace", "an NVMe name space, from 1", "set it");
    if (is_set(source.pool) != is_set(source.volume))
      missing(path + (is_set(source.pool) ? "/@volume" : "/@pool"), "pool and volume belong together", "set both");
    if (source.auth) auth(*source.auth, source.protocol, path + "/auth");
    if (source.encryption) encryption(*source.encryption, path + "/encryption");
    if (source.slices)
      for (const Slice& slice : source.slices->slices)
        if (slice.size.value_or(0) == 0) missing(path + "/slices/slice/@size", "a slice of no bytes", "set it");
  }

  /// libvirt ignores the attributes of other source types silently; then the guest gets another disk than was meant.
  void foreign_attributes(const Source& source, SourceType type, const std::string& path) {
    const auto check = [&](std::string_view name, const Text& text, std::initializer_list<SourceType> types) {
      if (is_set(text) && std::find(types.begin(), types.end(), type) == types.end())
        refuse(path + "/@" + std::string(name), *text, "is not read with type='" + std::string(to_string(type)) + "'",
               "leave it out, or set the type that it belongs to");
    };
    check("file", source.file, {SourceType::file});
    check("dev", source.dev, {SourceType::block, SourceType::vhostvdpa, SourceType::ctl});
    check("dir", source.dir, {SourceType::dir});
    check("name", source.name, {SourceType::network});
    check("pool", source.pool, {SourceType::volume});
    check("volume", source.volume, {SourceType::volume});
    check("path", source.path, {SourceType::vhostuser});
  }

  void network(const Source& source, const std::string& path) {
    if (!source.protocol) return;
    const Protocol protocol = *source.protocol;
    const std::string name(to_string(protocol));
    if (protocol != Protocol::nbd && !is_set(source.name))
      missing(path + "/@name", name + " needs the image's name", "set it");
    const bool many = protocol == Protocol::rbd || protocol == Protocol::gluster;
    const std::size_t hosts = source.hosts.size();
    if (!many && hosts > 1)
      refuse(path + "/host", std::to_string(hosts) + " hosts", "are too many: " + name + " takes one", "keep one");
    // libvirt 9.0 crashes on an iSCSI source without a host.
    if (hosts == 0 && protocol != Protocol::rbd && protocol != Protocol::sheepdog)
      missing(path + "/host", name + " needs a host", "add <host name= port=/>");
    for (std::size_t i = 0; i < hosts; ++i) host(source.hosts[i], path + "/host[" + std::to_string(i + 1) + ']');
  }

  void host(const Host& host, const std::string& path) {
    const bool unix_socket = host.transport == Transport::unix_;
    if (unix_socket && !is_set(host.socket))
      missing(path + "/@socket", "transport='unix' needs the socket's path", "set it");
    if (!unix_socket && host.socket)
      refuse(path + "/@socket", *host.socket, "needs transport='unix'", "set host/@transport to unix");
    if (!unix_socket && !is_set(host.name)) missing(path + "/@name", "the server's name or address", "set it");
    in_range(host.port, path + "/@port", 0, 65535);
  }

  void auth(const Auth& auth, std::optional<Protocol> protocol, const std::string& path) {
    if (!is_set(auth.username)) missing(path + "/@username", "libvirt needs it", "set it");
    secret(auth.secret, path + "/secret");
    const auto wanted = protocol == Protocol::rbd     ? std::optional(SecretType::ceph)
                        : protocol == Protocol::iscsi ? std::optional(SecretType::iscsi)
                                                      : std::nullopt;
    if (wanted && auth.secret.type && auth.secret.type != wanted)
      refuse(path + "/secret/@type", std::string(to_string(*auth.secret.type)),
             "does not fit the protocol " + std::string(to_string(*protocol)),
             "use " + std::string(to_string(*wanted)));
  }

  void secret(const Secret& secret, const std::string& path) {
    if (is_set(secret.uuid) == is_set(secret.usage))
      missing(path + "/@uuid", "exactly one of uuid and usage names the secret", "set uuid or usage");
  }

  void encryption(const Encryption& encryption, const std::string& path) {
    for (const Secret& each : encryption.secrets) {
      secret(each, path + "/secret");
      if (each.type && each.type != SecretType::passphrase)
        refuse(path + "/secret/@type", std::string(to_string(*each.type)), "does not unlock an image",
               "use passphrase");
    }
    if (encryption.engine == EncryptionEngine::librbd && disk_.source.protocol != Protocol::rbd)
      refuse(path + "/@engine", "librbd", "needs an rbd source", "use qemu, or leave it out");
  }

  void old_places() {
    if (disk_.auth && disk_.source.auth)
      refuse("disk/auth", "", "stands in <disk> and in <source>", "keep the one in <source>");
    else if (disk_.auth)
      auth(*disk_.auth, disk_.source.protocol, "disk/auth");
    if (disk_.encryption && disk_.source.encryption)
      refuse("disk/encryption", "", "stands in <disk> and in <source>", "keep the one in <source>");
    else if (disk_.encryption)
      encryption(*disk_.encryption, "disk/encryption");
  }

  void geometry() {
    if (!disk_.geometry) return;
    const Geometry& geometry = *disk_.geometry;
    if (!geometry.cyls || !geometry.heads || !geometry.secs)
      missing("disk/geometry", "cyls, heads and secs belong together", "set all three");
    if (geometry.trans && bus_ != Bus::ide)
      refuse("disk/geometry/@trans", std::string(to_string(*geometry.trans)), "is for the bus ide only",
             "leave it out");
  }

  void blockio() {
    if (!disk_.blockio) return;
    const BlockIo& blockio = *disk_.blockio;
    block_size(blockio.logical_block_size, "disk/blockio/@logical_block_size");
    block_size(blockio.physical_block_size, "disk/blockio/@physical_block_size");
    const std::uint64_t logical = blockio.logical_block_size.value_or(kMinBlockSize);
    if (blockio.physical_block_size && *blockio.physical_block_size < logical)
      refuse("disk/blockio/@physical_block_size", std::to_string(*blockio.physical_block_size),
             "is smaller than the logical block size " + std::to_string(logical), "use a multiple of it");
    if (blockio.discard_granularity && logical > 0 && *blockio.discard_granularity % logical != 0)
      refuse("disk/blockio/@discard_granularity", std::to_string(*blockio.discard_granularity),
             "is no multiple of the logical block size " + std::to_string(logical), "use a multiple of it");
  }

  void block_size(const Number& size, std::string path) {
    if (!size || (is_power_of_2(*size) && *size >= kMinBlockSize && *size <= kMaxBlockSize)) return;
    refuse(std::move(path), std::to_string(*size), "is not a power of 2 from 512 to 2097152, and QEMU exits",
           "use 512 or 4096, as the storage has it");
  }

  void target() {
    const Target& target = disk_.target;
    if (!is_set(target.dev)) {
      missing("disk/target/@dev", "libvirt needs the device's name", "set it, e.g. to vdb");
    } else if (!is_target_name(*target.dev)) {
      refuse("disk/target/@dev", *target.dev, "is no disk name that libvirt knows",
             "use fd, hd, sd, vd or xvd and letters");
    }
    if (target.tray && !is_removable())
      refuse("disk/target/@tray", std::string(to_string(*target.tray)), "is for cdrom and floppy drives only",
             "leave it out");
    if (target.removable && !is_one_of(bus_, {Bus::usb, Bus::scsi}))
      refuse("disk/target/@removable", *target.removable ? "on" : "off", "is for the buses usb and scsi only",
             "leave it out");
    if (target.dpofua && !is_one_of(bus_, {Bus::scsi}))
      refuse("disk/target/@dpofua", *target.dpofua ? "on" : "off", "is for the bus scsi only", "leave it out");
    rotation_rate();
  }

  static bool is_target_name(std::string_view name) {
    if (name.starts_with("ioemu:")) name.remove_prefix(6);
    if (name.starts_with("nvme")) return name.size() > 4 && consists_of(name, "");
    for (const std::string_view prefix : {"fd", "hd", "sd", "vd", "xvd", "ubd"})
      if (name.starts_with(prefix)) return name.size() > prefix.size() && consists_of(name, "_");
    return false;
  }

  void rotation_rate() {
    const Number& rate = disk_.target.rotation_rate;
    if (!rate) return;
    if (!is_one_of(bus_, {Bus::scsi, Bus::ide, Bus::sata}))
      refuse("disk/target/@rotation_rate", std::to_string(*rate), "is for the buses scsi, ide and sata only",
             "leave it out");
    if (*rate != 1 && (*rate < 1025 || *rate > 65534))
      refuse("disk/target/@rotation_rate", std::to_string(*rate), "is neither 1 nor from 1025 to 65534",
             "use 1 for solid state, or revolutions per minute");
  }

  /// The throttle of one direction: its limit, its burst and the burst's length.
  struct Bucket {
    std::string_view name;
    const Number& rate;
    const Number& max;
    const Number& length;
  };

  void iotune() {
    if (!disk_.iotune) return;
    const IoTune& t = *disk_.iotune;
    const Bucket buckets[] = {
        {"total_bytes_sec", t.total_bytes_sec, t.total_bytes_sec_max, t.total_bytes_sec_max_length},
        {"read_bytes_sec", t.read_bytes_sec, t.read_bytes_sec_max, t.read_bytes_sec_max_length},
        {"write_bytes_sec", t.write_bytes_sec, t.write_bytes_sec_max, t.write_bytes_sec_max_length},
        {"total_iops_sec", t.total_iops_sec, t.total_iops_sec_max, t.total_iops_sec_max_length},
        {"read_iops_sec", t.read_iops_sec, t.read_iops_sec_max, t.read_iops_sec_max_length},
        {"write_iops_sec", t.write_iops_sec, t.write_iops_sec_max, t.write_iops_sec_max_length},
    };
    for (const Bucket& bucket : buckets) throttle(bucket);
    for (const std::size_t total : {0U, 3U}) {
      const std::string path = "disk/iotune/" + std::string(buckets[total].name);
      exclusive(buckets[total].rate, buckets[total + 1].rate, buckets[total + 2].rate, path);
      exclusive(buckets[total].max, buckets[total + 1].max, buckets[total + 2].max, path + "_max");
    }
    if (t.size_iops_sec.value_or(0) > 0 && !t.total_iops_sec && !t.read_iops_sec && !t.write_iops_sec)
      refuse("disk/iotune/size_iops_sec", std::to_string(*t.size_iops_sec), "needs an iops limit, or QEMU exits",
             "set total_iops_sec, or read_iops_sec and write_iops_sec");
    if (disk_.throttle_filters) refuse("disk/iotune", "", "stands beside <throttlefilters>", "keep one of the two");
  }

  void throttle(const Bucket& bucket) {
    const std::string path = "disk/iotune/" + std::string(bucket.name);
    in_range(bucket.rate, path, 0, kMaxRate);
    in_range(bucket.max, path + "_max", 0, kMaxRate);
    const std::uint64_t rate = bucket.rate.value_or(0);
    const std::uint64_t max = bucket.max.value_or(0);
    if (max > 0 && rate == 0)
      refuse(path + "_max", std::to_string(max), "is a burst without " + std::string(bucket.name) + ", and QEMU exits",
             "set " + std::string(bucket.name) + " too");
    else if (max > 0 && max < rate)
      refuse(path + "_max", std::to_string(max), "is lower than the limit " + std::to_string(rate) + ", and QEMU exits",
             "use a higher value than the limit");
    if (bucket.length.value_or(0) > 0 && max == 0)
      refuse(path + "_max_length", std::to_string(*bucket.length), "is the length of a burst that is not allowed",
             "set " + std::string(bucket.name) + "_max too");
  }

  void exclusive(const Number& total, const Number& reads, const Number& writes, std::string path) {
    if (total.value_or(0) > 0 && (reads.value_or(0) > 0 || writes.value_or(0) > 0))
      refuse(std::move(path), std::to_string(*total), "excludes separate limits for reads and writes",
             "keep the total, or the separate ones");
  }

  void throttle_filters() {
    if (!disk_.throttle_filters) return;
    std::vector<std::string_view> seen;
    for (const ThrottleFilter& filter : disk_.throttle_filters->filters) {
      const std::string path = "disk/throttlefilters/throttlefilter[" + std::to_string(seen.size() + 1) + "]/@group";
      const std::string_view group = filter.group ? std::string_view(*filter.group) : ""sv;
      if (group.empty())
        missing(path, "a throttle group of the domain", "name it");
      else if (std::find(seen.begin(), seen.end(), group) != seen.end())
        refuse(path, std::string(group), "stands twice", "list each group once");
      seen.push_back(group);
    }
  }

  void access() {
    if (disk_.shareable && !disk_.readonly && disk_.driver.type && *disk_.driver.type != "raw")
      refuse("disk/driver/@type", *disk_.driver.type, "cannot be written by several guests at once",
             "use raw for a shareable disk");
    if (disk_.transient && disk_.readonly)
      refuse("disk/transient", "", "needs a disk that the guest can write", "drop <readonly/> or <transient/>");
    if (disk_.transient && disk_.shareable)
      refuse("disk/transient", "", "throws away what other guests of a shareable disk wrote",
             "drop <shareable/> or <transient/>");
  }

  void identity() {
    if (disk_.serial && (disk_.serial->size() > 247 || !consists_of(*disk_.serial, "_.+- ")))
      refuse("disk/serial", *disk_.serial, "is not made of up to 247 letters, digits, and _ . + - or blanks",
             "use the volume's id");
    if (disk_.wwn) {
      std::string_view digits = *disk_.wwn;
      if (digits.starts_with("0x")) digits.remove_prefix(2);
      if (digits.size() != 16 || !is_hex(digits))
        refuse("disk/wwn", *disk_.wwn, "is not 16 hexadecimal digits", "use 16 digits, e.g. 5000c50015ea71ac");
      if (!is_one_of(bus_, {Bus::scsi, Bus::ide, Bus::sata}))
        refuse("disk/wwn", *disk_.wwn, "is for the buses scsi, ide and sata only", "leave it out");
    }
    inquiry("disk/vendor", disk_.vendor, 8, is_one_of(bus_, {Bus::scsi}));
    // Since libvirt 11.1 on sata and ide too, where 40 characters fit.
    const bool ata = bus_ == Bus::sata || bus_ == Bus::ide;
    inquiry("disk/product", disk_.product, ata ? 40 : 16, ata || is_one_of(bus_, {Bus::scsi}));
  }

  void inquiry(const char* path, const Text& text, std::size_t most, bool bus_has_it) {
    if (!text) return;
    if (text->size() > most || !is_printable(*text))
      refuse(path, *text, "is not up to " + std::to_string(most) + " printable characters", "shorten it");
    if (!bus_has_it) refuse(path, *text, "does not exist on the bus " + bus_name(), "leave it out");
  }

  void boot() {
    if (disk_.boot.order == 0U)
      refuse("disk/boot/@order", "0", "is no place in the boot order: they count from 1", "use 1 or more");
    const Text& loadparm = disk_.boot.loadparm;
    if (loadparm && (loadparm->empty() || loadparm->size() > 8 || !consists_of(*loadparm, ". ")))
      refuse("disk/boot/@loadparm", *loadparm, "is not 1 to 8 letters, digits, dots or blanks", "shorten it");
  }

  void address() {
    if (!disk_.address || !disk_.address->type) return;
    const Address& address = *disk_.address;
    const bool drive = address.type == AddressType::drive;
    const bool bus_takes_drive = is_one_of(bus_, {Bus::ide, Bus::scsi, Bus::sata, Bus::fdc}) && bus_;
    if (bus_ && bus_ != Bus::nvme && drive != bus_takes_drive)
      refuse("disk/address/@type", std::string(to_string(*address.type)), "does not fit the bus " + bus_name(),
             bus_takes_drive ? "use drive" : "use pci, or usb on that bus");
    if (drive) drive_address(address);
    if (address.type == AddressType::pci) pci_address(address);
    if (address.type == AddressType::ccw) {
      in_range(address.cssid, "disk/address/@cssid", 0, 0xFE);
      in_range(address.ssid, "disk/address/@ssid", 0, 3);
      in_range(address.devno, "disk/address/@devno", 0, 0xFFFF);
    }
  }

  /// How far a drive's address goes on each bus: ICH9 SATA has 6 ports, virtio-scsi 256 targets of 16384 LUNs.
  void drive_address(const Address& address) {
    struct Limits {
      Bus bus;
      std::uint64_t bus_number, target, unit;
    };
    static constexpr Limits limits[] = {
        {Bus::ide, 1, 0, 1}, {Bus::fdc, 0, 0, 1}, {Bus::sata, 0, 0, 5}, {Bus::scsi, 0, 255, 16383}};
    for (const Limits& limit : limits) {
      if (bus_ != limit.bus) continue;
      in_range(address.bus, "disk/address/@bus", 0, limit.bus_number);
      in_range(address.target, "disk/address/@target", 0, limit.target);
      in_range(address.unit, "disk/address/@unit", 0, limit.unit);
    }
  }

  void pci_address(const Address& address) {
    in_range(address.domain, "disk/address/@domain", 0, 0xFFFF);
    in_range(address.bus, "disk/address/@bus", 0, 0xFF);
    in_range(address.slot, "disk/address/@slot", 0, 0x1F);
    in_range(address.function, "disk/address/@function", 0, 7);
    if (!address.zpci) return;
    in_range(address.zpci->uid, "disk/address/zpci/@uid", 1, 0xFFFF);
    in_range(address.zpci->fid, "disk/address/zpci/@fid", 0, 0xFFFFFFFF);
  }

  /// The data are served by another process: QEMU's block layer, and all that it does, is not there.
  void vhost() {
    if (!is_vhost()) return;
    const std::string type(to_string(*disk_.type));
    if (bus_ && bus_ != Bus::virtio) refuse("disk/target/@bus", bus_name(), "does not work with " + type, "use virtio");
    if (disk_.snapshot && disk_.snapshot != SnapshotMode::no)
      refuse("disk/@snapshot", std::string(to_string(*disk_.snapshot)), "does not work with " + type, "use no");
    if (is_removable())
      refuse("disk/@device", std::string(to_string(*disk_.device)), "does not work with " + type, "use disk");
    if (disk_.type == SourceType::vhostuser) no_block_layer(type);
  }

  void no_block_layer(const std::string& type) {
    static const auto of_qemus_own = disk_properties(
        {"driver/@error_policy", "driver/@rerror_policy", "driver/@io", "driver/@ioeventfd", "driver/@copy_on_read",
         "driver/@discard", "driver/@iothread", "driver/@detect_zeroes", "driver/iothreads", "backingStore", "geometry",
         "blockio", "iotune", "readonly", "shareable", "transient", "serial", "wwn", "encryption"});
    refuse_all(of_qemus_own, "is not supported with " + type, "leave it out, or set it up in the server");
    if (disk_.driver.cache && disk_.driver.cache != CacheMode::default_)
      refuse("disk/driver/@cache", std::string(to_string(*disk_.driver.cache)), "is not supported with " + type,
             "leave it out: the server decides");
  }

  /// Where a property stands; made into a path only when something is wrong there.
  struct Place {
    const Place* above;
    const Row* row;

    std::string path() const {
      if (above == nullptr) return "disk";
      return above->path() + (row->shape == Row::Shape::attribute ? "/@" : "/") + std::string(row->name);
    }
  };

  /// Text that XML cannot carry, anywhere in the disk.
  void characters(const Table& table, const void* owner, const Place& place) {
    for (std::uint64_t rows = table.present(owner); rows != 0; rows &= rows - 1) {
      const Row& row = table.rows[static_cast<std::size_t>(std::countr_zero(rows))];
      const Place inner{&place, &row};
      if (row.shape == Row::Shape::element) {
        for (std::size_t i = 0; i < row.count(owner); ++i) characters(row.table(), row.at(owner, i), inner);
      } else if (row.value == Row::Value::text) {
        char scratch[kScratchSize];
        std::string_view text;
        if (row.get(owner, scratch, text) && find_bad_character(text))
          refuse(inner.path(), std::string(text), "holds a character that XML cannot carry",
                 "use UTF-8 without control characters");
      }
    }
  }

  const DiskConfig& disk_;
  const std::optional<Bus> bus_;
  std::vector<Violation>& violations_;
};

}  // namespace

std::vector<Violation> violations(const DiskConfig& disk) {
  std::vector<Violation> found;
  Validator(disk, found).run();
  return found;
}

Result<void> validate(const DiskConfig& disk) {
  const std::vector<Violation> found = violations(disk);
  if (found.empty()) return {};
  std::string message;
  std::string next;
  for (const Violation& violation : found) {
    message.append(message.empty() ? "" : "; ").append(violation.message);
    if (next.find(violation.next) == std::string::npos) next.append(next.empty() ? "" : "; ").append(violation.next);
  }
  return fail(ErrorKind::bad_input, std::move(message), std::move(next), found.front().path);
}

}  // namespace aiolos::disk
