// SPDX-License-Identifier: Apache-2.0
// The property table: every attribute and element of `<disk>`, one line each, in the order in which libvirt formats
// them.
//
// It drives emit, parse and compare, and the tests walk it: a property that no fixture exercises fails them. To add
// one: a member in disk_config.h, a line here, a line in a fixture. Source of names and order: libvirt formatdomain and
// virDomainDiskDefFormat(), up to libvirt 12.0.
#include "property_table.h"

#include <algorithm>
#include <utility>

#include "plain_emit.h"

namespace aiolos::disk {
namespace {

constexpr OnOff on_off;
constexpr YesNo yes_no;
constexpr NumberFormat hex{.hex_digits = 1, .base = 0};
constexpr NumberFormat hex4{.hex_digits = 4, .base = 0};
constexpr NumberFormat hex8{.hex_digits = 8, .base = 0};
constexpr NumberFormat bare_hex{.hex_digits = 1, .base = 16};
constexpr NumberFormat bare_hex8{.hex_digits = 8, .base = 16};
constexpr NumberFormat pci_hex2{.hex_digits = 2, .base = 0, .only_pci = true};

}  // namespace

template <>
struct Properties<Secret> {
  static constexpr Row rows[] = {
      attribute<&Secret::type>("type"),
      attribute<&Secret::uuid>("uuid"),
      attribute<&Secret::usage>("usage"),
  };
};

template <>
struct Properties<Auth> {
  static constexpr Row rows[] = {
      attribute<&Auth::username>("username"),
      element<&Auth::secret>("secret"),
  };
};

template <>
struct Properties<Cipher> {
  static constexpr Row rows[] = {
      attribute<&Cipher::name>("name"),
      attribute<&Cipher::size>("size"),
      attribute<&Cipher::mode>("mode"),
      attribute<&Cipher::hash>("hash"),
  };
};

template <>
struct Properties<IvGen> {
  static constexpr Row rows[] = {
      attribute<&IvGen::name>("name"),
      attribute<&IvGen::hash>("hash"),
  };
};

template <>
struct Properties<Encryption> {
  static constexpr Row rows[] = {
      attribute<&Encryption::format>("format"), attribute<&Encryption::engine>("engine"),
      element<&Encryption::secrets>("secret"),  element<&Encryption::cipher>("cipher"),
      element<&Encryption::ivgen>("ivgen"),
  };
};

template <>
struct Properties<Host> {
  static constexpr Row rows[] = {
      attribute<&Host::transport>("transport"),
      attribute<&Host::name>("name"),
      attribute<&Host::port>("port"),
      attribute<&Host::socket>("socket"),
  };
};

template <>
struct Properties<SecurityLabelText> {
  static constexpr Row rows[] = {content<&SecurityLabelText::text>()};
};

template <>
struct Properties<SecurityLabel> {
  static constexpr Row rows[] = {
      attribute<&SecurityLabel::model>("model"),
      attribute<&SecurityLabel::labelskip, yes_no>("labelskip"),
      attribute<&SecurityLabel::relabel, yes_no>("relabel"),
      element<&SecurityLabel::labels>("label"),
  };
};

template <>
struct Properties<ScaledSize> {
  static constexpr Row rows[] = {
      attribute<&ScaledSize::unit>("unit"),
      content<&ScaledSize::value>(),
  };
};

template <>
struct Properties<MetadataCache> {
  static constexpr Row rows[] = {element<&MetadataCache::max_size>("max_size")};
};

template <>
struct Properties<Format> {
  static constexpr Row rows[] = {
      attribute<&Format::type>("type"),
      element<&Format::metadata_cache>("metadata_cache"),
  };
};

template <>
struct Properties<Zpci> {
  static constexpr Row rows[] = {
      attribute<&Zpci::uid, hex4>("uid"),
      attribute<&Zpci::fid, hex8>("fid"),
  };
};

template <>
struct Properties<Address> {
  static constexpr bool first_decides = true;
  static constexpr Row rows[] = {
      attribute<&Address::type>("type"),
      attribute<&Address::domain, hex4>("domain"),
      attribute<&Address::controller>("controller"),
      attribute<&Address::bus, pci_hex2>("bus"),
      attribute<&Address::target>("target"),
      attribute<&Address::unit>("unit"),
      attribute<&Address::slot, pci_hex2>("slot"),
      attribute<&Address::function, hex>("function"),
      attribute<&Address::multifunction, on_off>("multifunction"),
      attribute<&Address::port>("port"),
      attribute<&Address::reg, bare_hex8>("reg"),
      attribute<&Address::cssid, hex>("cssid"),
      attribute<&Address::ssid, hex>("ssid"),
      attribute<&Address::devno, hex4>("devno"),
      attribute<&Address::iobase, bare_hex>("iobase"),
      attribute<&Address::irq, bare_hex>("irq"),
      attribute<&Address::base, bare_hex>("base"),
      element<&Address::zpci>("zpci"),
  };
};

template <>
struct Properties<SourceSnapshot> {
  static constexpr Row rows[] = {attribute<&SourceSnapshot::name>("name")};
};

template <>
struct Properties<SourceConfig> {
  static constexpr Row rows[] = {attribute<&SourceConfig::file>("file")};
};

template <>
struct Properties<Iqn> {
  static constexpr Row rows[] = {attribute<&Iqn::name>("name")};
};

template <>
struct Properties<Initiator> {
  static constexpr Row rows[] = {element<&Initiator::iqn>("iqn")};
};

template <>
struct Properties<Identity> {
  static constexpr Row rows[] = {
      attribute<&Identity::user>("user"),           attribute<&Identity::group>("group"),
      attribute<&Identity::username>("username"),   attribute<&Identity::keyfile>("keyfile"),
      attribute<&Identity::agentsock>("agentsock"),
  };
};

template <>
struct Properties<KnownHosts> {
  static constexpr Row rows[] = {attribute<&KnownHosts::path>("path")};
};

template <>
struct Properties<Ssl> {
  static constexpr Row rows[] = {attribute<&Ssl::verify, yes_no>("verify")};
};

template <>
struct Properties<Cookie> {
  static constexpr Row rows[] = {
      attribute<&Cookie::name>("name"),
      content<&Cookie::value>(),
  };
};

template <>
struct Properties<Cookies> {
  static constexpr Row rows[] = {element<&Cookies::cookies>("cookie")};
};

template <>
struct Properties<Readahead> {
  static constexpr Row rows[] = {attribute<&Readahead::size>("size")};
};

template <>
struct Properties<Timeout> {
  static constexpr Row rows[] = {attribute<&Timeout::seconds>("seconds")};
};

template <>
struct Properties<Reconnect> {
  static constexpr Row rows[] = {
      attribute<&Reconnect::enabled, yes_no>("enabled"),
      attribute<&Reconnect::timeout>("timeout"),
      attribute<&Reconnect::delay>("delay"),
  };
};

template <>
struct Properties<Slice> {
  static constexpr Row rows[] = {
      attribute<&Slice::type>("type"),
      attribute<&Slice::offset>("offset"),
      attribute<&Slice::size>("size"),
  };
};

template <>
struct Properties<Slices> {
  static constexpr Row rows[] = {element<&Slices::slices>("slice")};
};

template <>
struct Properties<ReservationsSource> {
  static constexpr Row rows[] = {
      attribute<&ReservationsSource::type>("type"),
      attribute<&ReservationsSource::path>("path"),
      attribute<&ReservationsSource::mode>("mode"),
      element<&ReservationsSource::reconnect>("reconnect"),
  };
};

template <>
struct Properties<Reservations> {
  static constexpr Row rows[] = {
      attribute<&Reservations::enabled, yes_no>("enabled"),
      attribute<&Reservations::managed, yes_no>("managed"),
      attribute<&Reservations::migration, yes_no>("migration"),
      element<&Reservations::source>("source"),
  };
};

template <>
struct Properties<Source> {
  static constexpr Row rows[] = {
      attribute<&Source::file>("file"),
      attribute<&Source::fdgroup>("fdgroup"),
      attribute<&Source::dev>("dev"),
      attribute<&Source::dir>("dir"),
      attribute<&Source::protocol>("protocol"),
      attribute<&Source::name>("name"),
      attribute<&Source::query>("query"),
      attribute<&Source::tls, yes_no>("tls"),
      attribute<&Source::tls_hostname>("tlsHostname"),
      attribute<&Source::pool>("pool"),
      attribute<&Source::volume>("volume"),
      attribute<&Source::mode>("mode"),
      attribute<&Source::type>("type"),
      attribute<&Source::path>("path"),
      attribute<&Source::managed, yes_no>("managed"),
      attribute<&Source::namespace_id>("namespace"),
      attribute<&Source::startup_policy>("startupPolicy"),
      attribute<&Source::index>("index"),
      element<&Source::hosts>("host"),
      element<&Source::snapshot>("snapshot"),
      element<&Source::config>("config"),
      element<&Source::initiator>("initiator"),
      element<&Source::ssl>("ssl"),
      element<&Source::cookies>("cookies"),
      element<&Source::readahead>("readahead"),
      element<&Source::timeout>("timeout"),
      element<&Source::identity>("identity"),
      element<&Source::known_hosts>("knownHosts"),
      element<&Source::reconnect>("reconnect"),
      element<&Source::address>("address"),
      element<&Source::slices>("slices"),
      element<&Source::seclabels>("seclabel"),
      element<&Source::auth>("auth"),
      element<&Source::encryption>("encryption"),
      element<&Source::reservations>("reservations"),
      element<&Source::data_store>("dataStore"),
  };
};

template <>
struct Properties<DataStore> {
  static constexpr Row rows[] = {
      attribute<&DataStore::type>("type"),
      element<&DataStore::format>("format"),
      element<&DataStore::source>("source"),
  };
};

template <>
struct Properties<BackingStore> {
  static constexpr Row rows[] = {
      attribute<&BackingStore::type>("type"),
      attribute<&BackingStore::index>("index"),
      element<&BackingStore::format>("format"),
      element<&BackingStore::source>("source"),
      element<&BackingStore::backing_store>("backingStore"),
  };
};

template <>
struct Properties<Mirror> {
  static constexpr Row rows[] = {
      attribute<&Mirror::type>("type"),          attribute<&Mirror::file>("file"),
      attribute<&Mirror::format_name>("format"), attribute<&Mirror::job>("job"),
      attribute<&Mirror::ready>("ready"),        element<&Mirror::format>("format"),
      element<&Mirror::source>("source"),        element<&Mirror::backing_store>("backingStore"),
  };
};

template <>
struct Properties<IoThreadQueue> {
  static constexpr Row rows[] = {attribute<&IoThreadQueue::id>("id")};
};

template <>
struct Properties<IoThread> {
  static constexpr Row rows[] = {
      attribute<&IoThread::id>("id"),
      element<&IoThread::queues>("queue"),
  };
};

template <>
struct Properties<IoThreads> {
  static constexpr Row rows[] = {element<&IoThreads::iothreads>("iothread")};
};

template <>
struct Properties<Statistic> {
  static constexpr Row rows[] = {attribute<&Statistic::interval>("interval")};
};

template <>
struct Properties<HistogramBin> {
  static constexpr Row rows[] = {attribute<&HistogramBin::start>("start")};
};

template <>
struct Properties<LatencyHistogram> {
  static constexpr Row rows[] = {
      attribute<&LatencyHistogram::type>("type"),
      element<&LatencyHistogram::bins>("bin"),
  };
};

template <>
struct Properties<Statistics> {
  static constexpr Row rows[] = {
      element<&Statistics::statistics>("statistic"),
      element<&Statistics::histograms>("latency-histogram"),
  };
};

template <>
struct Properties<Driver> {
  static constexpr Row rows[] = {
      attribute<&Driver::name>("name"),
      attribute<&Driver::type>("type"),
      attribute<&Driver::cache>("cache"),
      attribute<&Driver::error_policy>("error_policy"),
      attribute<&Driver::rerror_policy>("rerror_policy"),
      attribute<&Driver::io>("io"),
      attribute<&Driver::ioeventfd, on_off>("ioeventfd"),
      attribute<&Driver::event_idx, on_off>("event_idx"),
      attribute<&Driver::copy_on_read, on_off>("copy_on_read"),
      attribute<&Driver::discard>("discard"),
      attribute<&Driver::discard_no_unref, on_off>("discard_no_unref"),
      attribute<&Driver::iothread>("iothread"),
      attribute<&Driver::detect_zeroes>("detect_zeroes"),
      attribute<&Driver::queues>("queues"),
      attribute<&Driver::queue_size>("queue_size"),
      attribute<&Driver::iommu, on_off>("iommu"),
      attribute<&Driver::ats, on_off>("ats"),
      attribute<&Driver::packed, on_off>("packed"),
      attribute<&Driver::page_per_vq, on_off>("page_per_vq"),
      element<&Driver::iothreads>("iothreads"),
      element<&Driver::statistics>("statistics"),
      element<&Driver::metadata_cache>("metadata_cache"),
  };
};

template <>
struct Properties<Target> {
  static constexpr Row rows[] = {
      attribute<&Target::dev>("dev"),
      attribute<&Target::bus>("bus"),
      attribute<&Target::tray>("tray"),
      attribute<&Target::removable, on_off>("removable"),
      attribute<&Target::rotation_rate>("rotation_rate"),
      attribute<&Target::dpofua, on_off>("dpofua"),
  };
};

template <>
struct Properties<IoTune> {
  static constexpr Row rows[] = {
      text_element<&IoTune::total_bytes_sec>("total_bytes_sec"),
      text_element<&IoTune::read_bytes_sec>("read_bytes_sec"),
      text_element<&IoTune::write_bytes_sec>("write_bytes_sec"),
      text_element<&IoTune::total_iops_sec>("total_iops_sec"),
      text_element<&IoTune::read_iops_sec>("read_iops_sec"),
      text_element<&IoTune::write_iops_sec>("write_iops_sec"),
      text_element<&IoTune::total_bytes_sec_max>("total_bytes_sec_max"),
      text_element<&IoTune::read_bytes_sec_max>("read_bytes_sec_max"),
      text_element<&IoTune::write_bytes_sec_max>("write_bytes_sec_max"),
      text_element<&IoTune::total_iops_sec_max>("total_iops_sec_max"),
      text_element<&IoTune::read_iops_sec_max>("read_iops_sec_max"),
      text_element<&IoTune::write_iops_sec_max>("write_iops_sec_max"),
      text_element<&IoTune::size_iops_sec>("size_iops_sec"),
      text_element<&IoTune::group_name>("group_name"),
      text_element<&IoTune::total_bytes_sec_max_length>("total_bytes_sec_max_length"),
      text_element<&IoTune::read_bytes_sec_max_length>("read_bytes_sec_max_length"),
      text_element<&IoTune::write_bytes_sec_max_length>("write_bytes_sec_max_length"),
      text_element<&IoTune::total_iops_sec_max_length>("total_iops_sec_max_length"),
      text_element<&IoTune::read_iops_sec_max_length>("read_iops_sec_max_length"),
      text_element<&IoTune::write_iops_sec_max_length>("write_iops_sec_max_length"),
  };
};

template <>
struct Properties<ThrottleFilter> {
  static constexpr Row rows[] = {attribute<&ThrottleFilter::group>("group")};
};

template <>
struct Properties<ThrottleFilters> {
  static constexpr Row rows[] = {element<&ThrottleFilters::filters>("throttlefilter")};
};

template <>
struct Properties<Geometry> {
  static constexpr Row rows[] = {
      attribute<&Geometry::cyls>("cyls"),
      attribute<&Geometry::heads>("heads"),
      attribute<&Geometry::secs>("secs"),
      attribute<&Geometry::trans>("trans"),
  };
};

template <>
struct Properties<BlockIo> {
  static constexpr Row rows[] = {
      attribute<&BlockIo::logical_block_size>("logical_block_size"),
      attribute<&BlockIo::physical_block_size>("physical_block_size"),
      attribute<&BlockIo::discard_granularity>("discard_granularity"),
  };
};

template <>
struct Properties<BackendDomain> {
  static constexpr Row rows[] = {attribute<&BackendDomain::name>("name")};
};

template <>
struct Properties<Transient> {
  static constexpr Row rows[] = {attribute<&Transient::share_backing, yes_no>("shareBacking")};
};

template <>
struct Properties<Boot> {
  static constexpr Row rows[] = {
      attribute<&Boot::order>("order"),
      attribute<&Boot::loadparm>("loadparm"),
  };
};

template <>
struct Properties<Alias> {
  static constexpr Row rows[] = {attribute<&Alias::name>("name")};
};

template <>
struct Properties<Acpi> {
  static constexpr Row rows[] = {attribute<&Acpi::index>("index")};
};

template <>
struct Properties<DiskConfig> {
  static constexpr Row rows[] = {
      attribute<&DiskConfig::type>("type"),
      attribute<&DiskConfig::device>("device"),
      attribute<&DiskConfig::model>("model"),
      attribute<&DiskConfig::rawio, yes_no>("rawio"),
      attribute<&DiskConfig::sgio>("sgio"),
      attribute<&DiskConfig::snapshot>("snapshot"),
      element<&DiskConfig::driver>("driver"),
      element<&DiskConfig::auth>("auth"),
      element<&DiskConfig::source>("source"),
      element<&DiskConfig::backing_store>("backingStore"),
      element<&DiskConfig::backend_domain>("backenddomain"),
      element<&DiskConfig::geometry>("geometry"),
      element<&DiskConfig::blockio>("blockio"),
      element<&DiskConfig::mirror>("mirror"),
      element<&DiskConfig::target>("target"),
      element<&DiskConfig::iotune>("iotune"),
      element<&DiskConfig::throttle_filters>("throttlefilters"),
      flag<&DiskConfig::readonly>("readonly"),
      flag<&DiskConfig::shareable>("shareable"),
      element<&DiskConfig::transient>("transient"),
      text_element<&DiskConfig::serial>("serial"),
      text_element<&DiskConfig::wwn>("wwn"),
      text_element<&DiskConfig::vendor>("vendor"),
      text_element<&DiskConfig::product>("product"),
      element<&DiskConfig::encryption>("encryption"),
      element<&DiskConfig::boot>("boot"),
      element<&DiskConfig::alias>("alias"),
      element<&DiskConfig::acpi>("acpi"),
      element<&DiskConfig::address>("address"),
  };
};

namespace {

/// One bit for each row; unrolled by the compiler, so that walking a disk does not call a function for each of the
/// hundred properties that it has not.
template <typename T>
std::uint64_t present_rows(const void* owner) {
  return [owner]<std::size_t... i>(std::index_sequence<i...>) {
    return ((std::uint64_t{Properties<T>::rows[i].has(owner)} << i) | ...);
  }
  (std::make_index_sequence<std::size(Properties<T>::rows)>{});
}

template <typename T>
constexpr Table make_table() {
  constexpr auto& rows = Properties<T>::rows;
  constexpr auto is_attribute = [](const Row& row) { return row.shape == Row::Shape::attribute; };
  static_assert(std::is_partitioned(std::begin(rows), std::end(rows), is_attribute), "attributes come first");
  static_assert(std::size(rows) < 64, "sets of rows are 64 bits");
  Table table{.rows = rows};
  table.attributes = static_cast<std::size_t>(std::count_if(std::begin(rows), std::end(rows), is_attribute));
  table.present = &present_rows<T>;
  table.emit = &PlainElement<T>::emit;
  if constexpr (requires { Properties<T>::first_decides; }) table.first_decides = Properties<T>::first_decides;
  table.extra = [](void* owner) -> Extra& { return static_cast<T*>(owner)->extra; };
  return table;
}

}  // namespace

template <typename T>
const Table& table_of() {
  static constexpr Table table = make_table<T>();
  return table;
}

const Table& disk_table() { return table_of<DiskConfig>(); }
const Table& source_table() { return table_of<Source>(); }

// ---- Spellings. -----------------------------------------------------------------------------------------------------

template <>
std::span<const std::string_view> words_of<CacheMode>() {
  static const auto words = [] {
    std::array<std::string_view, static_cast<std::size_t>(CacheMode::unsafe) + 1> all;
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = to_string(static_cast<CacheMode>(i));
    return all;
  }();
  return words;
}

template <>
std::span<const std::string_view> words_of<AioMode>() {
  static const auto words = [] {
    std::array<std::string_view, static_cast<std::size_t>(AioMode::io_uring) + 1> all;
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = to_string(static_cast<AioMode>(i));
    return all;
  }();
  return words;
}

std::string_view format_number(std::uint64_t value, NumberFormat format, char* scratch) {
  if (format.hex_digits == 0) {
    const auto end = std::to_chars(scratch, scratch + kScratchSize, value).ptr;
    return {scratch, static_cast<std::size_t>(end - scratch)};
  }
  char digits[16];
  const auto length = static_cast<std::size_t>(std::to_chars(digits, digits + 16, value, 16).ptr - digits);
  const std::size_t zeros = format.hex_digits > length ? format.hex_digits - length : 0;
  scratch[0] = '0';
  scratch[1] = 'x';
  std::fill_n(scratch + 2, zeros, '0');
  std::copy_n(digits, length, scratch + 2 + zeros);
  return {scratch, 2 + zeros + length};
}

std::optional<std::uint64_t> parse_number(std::string_view text, NumberFormat format) {
  constexpr std::string_view blanks = " \t\r\n";
  const auto first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return std::nullopt;
  text = text.substr(first, text.find_last_not_of(blanks) - first + 1);
  int base = format.base;
  const bool has_prefix = text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
  if (base != 10 && has_prefix) {
    text.remove_prefix(2);
    base = 16;
  } else if (base == 0) {
    base = text.size() > 1 && text[0] == '0' ? 8 : 10;
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace aiolos::disk
