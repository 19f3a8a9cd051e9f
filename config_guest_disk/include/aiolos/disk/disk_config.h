// SPDX-License-Identifier: Apache-2.0
// The model of libvirt's `<disk>` element: plain values, one struct for each element.
//
// Source: libvirt's formatdomain, "Hard drives, floppy disks, CDROMs", up to libvirt 12.0, and domaincommon.rng of 9.0.
// A member that is not set is not emitted; a zero is a value. Elements that few disks have lie in a Box: set them with
// `disk.iotune.ensure().read_iops_sec = 500`. The names are libvirt's own, in snake case.
// Every struct ends with `extra`, what the model does not know; leave it alone when you build a disk. (The `{}` behind
// each member is what lets designated initializers name some of them without a warning.) Plain data without hidden
// state: threads may read one disk together, and copies are independent.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/vocabulary.h"
#include "aiolos/disk/box.h"
#include "aiolos/disk/extra.h"

namespace aiolos::disk {

using Text = std::optional<std::string>;
using Number = std::optional<std::uint64_t>;
using Switch = std::optional<bool>;  ///< Emitted as on/off or yes/no, whichever the attribute takes.

// ---- Closed vocabularies. Spelled in the tables below; to_string and from_string read them there. ------------------

enum class SourceType : std::uint8_t { file, block, dir, network, volume, nvme, vhostuser, vhostvdpa, ctl };
enum class DeviceKind : std::uint8_t { disk, cdrom, floppy, lun };
enum class DiskModel : std::uint8_t { virtio, virtio_transitional, virtio_non_transitional, usb_storage, usb_bot };
enum class SgIo : std::uint8_t { filtered, unfiltered };
enum class SnapshotMode : std::uint8_t { no, internal, external, manual };
enum class Bus : std::uint8_t { ide, fdc, scsi, virtio, xen, usb, uml, sata, sd, nvme };
enum class Tray : std::uint8_t { open, closed };
enum class ErrorPolicy : std::uint8_t { stop, report, ignore, enospace };
enum class ReadErrorPolicy : std::uint8_t { stop, report, ignore };
enum class Discard : std::uint8_t { unmap, ignore };
enum class DetectZeroes : std::uint8_t { off, on, unmap };
enum class HistogramType : std::uint8_t { read, write, flush, zone };
enum class Protocol : std::uint8_t { nbd, rbd, sheepdog, gluster, iscsi, http, https, ftp, ftps, tftp, ssh, vxhs, nfs };
enum class Transport : std::uint8_t { tcp, rdma, unix_ };
enum class VolumeMode : std::uint8_t { host, direct };
enum class StartupPolicy : std::uint8_t { mandatory, requisite, optional };
enum class SecretType : std::uint8_t { ceph, iscsi, passphrase };
enum class EncryptionFormat : std::uint8_t { default_, qcow, luks, luks2, luks_any };
enum class EncryptionEngine : std::uint8_t { qemu, librbd };
enum class Translation : std::uint8_t { none, auto_, lba };
enum class MirrorJob : std::uint8_t { copy, active_commit };
enum class MirrorReady : std::uint8_t { yes, abort, pivot };
enum class AddressType : std::uint8_t {
  pci,
  drive,
  virtio_serial,
  ccid,
  usb,
  spapr_vio,
  ccw,
  virtio_mmio,
  isa,
  dimm,
  unassigned,
  virtio_s390
};

/// The spellings of an enum, in the order of its enumerators. The one place where each word stands.
template <typename E>
inline constexpr std::string_view spellings[] = {""};
// clang-format off
template <> inline constexpr std::string_view spellings<SourceType>[] = {"file", "block", "dir", "network", "volume", "nvme", "vhostuser", "vhostvdpa", "ctl"};
template <> inline constexpr std::string_view spellings<DeviceKind>[] = {"disk", "cdrom", "floppy", "lun"};
template <> inline constexpr std::string_view spellings<DiskModel>[] = {"virtio", "virtio-transitional", "virtio-non-transitional", "usb-storage", "usb-bot"};
template <> inline constexpr std::string_view spellings<SgIo>[] = {"filtered", "unfiltered"};
template <> inline constexpr std::string_view spellings<SnapshotMode>[] = {"no", "internal", "external", "manual"};
template <> inline constexpr std::string_view spellings<Bus>[] = {"ide", "fdc", "scsi", "virtio", "xen", "usb", "uml", "sata", "sd", "nvme"};
template <> inline constexpr std::string_view spellings<Tray>[] = {"open", "closed"};
template <> inline constexpr std::string_view spellings<ErrorPolicy>[] = {"stop", "report", "ignore", "enospace"};
template <> inline constexpr std::string_view spellings<ReadErrorPolicy>[] = {"stop", "report", "ignore"};
template <> inline constexpr std::string_view spellings<Discard>[] = {"unmap", "ignore"};
template <> inline constexpr std::string_view spellings<DetectZeroes>[] = {"off", "on", "unmap"};
template <> inline constexpr std::string_view spellings<HistogramType>[] = {"read", "write", "flush", "zone"};
template <> inline constexpr std::string_view spellings<Protocol>[] = {"nbd", "rbd", "sheepdog", "gluster", "iscsi", "http", "https", "ftp", "ftps", "tftp", "ssh", "vxhs", "nfs"};
template <> inline constexpr std::string_view spellings<Transport>[] = {"tcp", "rdma", "unix"};
template <> inline constexpr std::string_view spellings<VolumeMode>[] = {"host", "direct"};
template <> inline constexpr std::string_view spellings<StartupPolicy>[] = {"mandatory", "requisite", "optional"};
template <> inline constexpr std::string_view spellings<SecretType>[] = {"ceph", "iscsi", "passphrase"};
template <> inline constexpr std::string_view spellings<EncryptionFormat>[] = {"default", "qcow", "luks", "luks2", "luks-any"};
template <> inline constexpr std::string_view spellings<EncryptionEngine>[] = {"qemu", "librbd"};
template <> inline constexpr std::string_view spellings<Translation>[] = {"none", "auto", "lba"};
template <> inline constexpr std::string_view spellings<MirrorJob>[] = {"copy", "active-commit"};
template <> inline constexpr std::string_view spellings<MirrorReady>[] = {"yes", "abort", "pivot"};
template <> inline constexpr std::string_view spellings<AddressType>[] = {"pci", "drive", "virtio-serial", "ccid", "usb", "spapr-vio", "ccw", "virtio-mmio", "isa", "dimm", "unassigned", "virtio-s390"};
// clang-format on

/// An enum whose words are libvirt's and stand in `spellings`.
template <typename E>
concept Vocabulary = std::is_enum_v<E> && (std::size(spellings<E>) > 1);  // the primary template has one, empty

/// libvirt's word for `value`.
template <Vocabulary E>
constexpr std::string_view to_string(E value) {
  return spellings<E>[static_cast<std::size_t>(value)];
}

/// The enumerator that libvirt spells `word`; empty for a word that is none.
template <Vocabulary E>
constexpr std::optional<E> from_string(std::string_view word) {
  for (std::size_t i = 0; i < std::size(spellings<E>); ++i)
    if (spellings<E>[i] == word) return static_cast<E>(i);
  return std::nullopt;
}

// ---- Elements, from the inside out. ---------------------------------------------------------------------------------

/// `<secret>` of `<auth>` and `<encryption>`: names a libvirt secret by `uuid` or by `usage`, never its value.
struct Secret {
  std::optional<SecretType> type{};
  Text uuid{};
  Text usage{};
  Extra extra{};
};

struct Auth {
  Text username{};
  Secret secret{};
  Extra extra{};
};

struct Cipher {
  Text name{};
  Number size{};  ///< Bits of the key.
  Text mode{};
  Text hash{};
  Extra extra{};
};

struct IvGen {
  Text name{};
  Text hash{};
  Extra extra{};
};

/// `<encryption>`; one secret, or several for luks2 images with several key slots.
struct Encryption {
  std::optional<EncryptionFormat> format{};
  std::optional<EncryptionEngine> engine{};
  std::vector<Secret> secrets{};
  Box<Cipher> cipher{};
  Box<IvGen> ivgen{};
  Extra extra{};
};

/// `<host>` of a network source: `name` and `port`, or `socket` with transport unix.
struct Host {
  Text name{};
  Number port{};
  std::optional<Transport> transport{};
  Text socket{};
  Extra extra{};
};

struct SecurityLabelText {
  Text text{};
  Extra extra{};
};

/// `<seclabel>` of a source: overrides the domain's label for this image.
struct SecurityLabel {
  Text model{};
  Switch relabel{};
  Switch labelskip{};
  std::vector<SecurityLabelText> labels{};
  Extra extra{};
};

/// A size with its unit, e.g. `<max_size unit='KiB'>1024</max_size>`; bytes without a unit.
struct ScaledSize {
  Text unit{};
  Number value{};
  Extra extra{};
};

struct MetadataCache {
  Box<ScaledSize> max_size{};
  Extra extra{};
};

struct Format {
  Text type{};
  Box<MetadataCache> metadata_cache{};
  Extra extra{};
};

struct Zpci {
  Number uid{};
  Number fid{};
  Extra extra{};
};

/// `<address>` of every type, and the controller's own of an nvme source. Which members apply follows from `type`.
struct Address {
  std::optional<AddressType> type{};
  Number domain{};         ///< pci
  Number controller{};     ///< drive, virtio-serial, ccid
  Number bus{};            ///< pci, drive, virtio-serial, usb
  Number target{};         ///< drive
  Number unit{};           ///< drive
  Number slot{};           ///< pci, ccid, dimm
  Number function{};       ///< pci
  Switch multifunction{};  ///< pci
  Text port{};             ///< usb ("1.2"), virtio-serial
  Number reg{};            ///< spapr-vio
  Number cssid{};          ///< ccw
  Number ssid{};           ///< ccw
  Number devno{};          ///< ccw
  Number iobase{};         ///< isa
  Number irq{};            ///< isa
  Number base{};           ///< dimm
  Box<Zpci> zpci{};        ///< pci on s390
  Extra extra{};
};

struct SourceSnapshot {
  Text name{};
  Extra extra{};
};

struct SourceConfig {
  Text file{};
  Extra extra{};
};

struct Iqn {
  Text name{};
  Extra extra{};
};

struct Initiator {
  Iqn iqn{};
  Extra extra{};
};

/// `<identity>`: `user` and `group` for nfs; the rest for ssh.
struct Identity {
  Text user{};
  Text group{};
  Text username{};
  Text keyfile{};
  Text agentsock{};
  Extra extra{};
};

struct KnownHosts {
  Text path{};
  Extra extra{};
};

struct Ssl {
  Switch verify{};
  Extra extra{};
};

struct Cookie {
  Text name{};
  Text value{};
  Extra extra{};
};

struct Cookies {
  std::vector<Cookie> cookies{};
  Extra extra{};
};

struct Readahead {
  Number size{};  ///< Bytes.
  Extra extra{};
};

struct Timeout {
  Number seconds{};
  Extra extra{};
};

/// `<reconnect>`: `enabled` and `timeout` for vhostuser and reservations, `delay` for nbd; all in seconds.
struct Reconnect {
  Switch enabled{};
  Number timeout{};
  Number delay{};
  Extra extra{};
};

struct Slice {
  Text type{};      ///< "storage" is the only one so far.
  Number offset{};  ///< Bytes.
  Number size{};    ///< Bytes.
  Extra extra{};
};

struct Slices {
  std::vector<Slice> slices{};
  Extra extra{};
};

/// `<source type='unix' path= mode=>` of reservations: the socket of qemu-pr-helper.
struct ReservationsSource {
  Text type{};
  Text path{};
  Text mode{};
  Box<Reconnect> reconnect{};
  Extra extra{};
};

struct Reservations {
  Switch enabled{};
  Switch managed{};
  Switch migration{};
  Box<ReservationsSource> source{};
  Extra extra{};
};

struct DataStore;

/// `<source>`: where the data are. Which members apply follows from the disk's `type`.
struct Source {
  Text file{};                         ///< file
  Text fdgroup{};                      ///< file: descriptors that virDomainFDAssociate() has handed over
  Text dev{};                          ///< block, vhostvdpa, ctl
  Text dir{};                          ///< dir
  std::optional<Protocol> protocol{};  ///< network
  Text name{};                         ///< network: image, volume, IQN/LUN or export
  Text query{};                        ///< network, http and https
  Switch tls{};                        ///< network
  Text tls_hostname{};                 ///< network, nbd
  Text pool{};                         ///< volume
  Text volume{};                       ///< volume
  std::optional<VolumeMode> mode{};    ///< volume in an iSCSI pool
  Text type{};                         ///< nvme: "pci"; vhostuser: "unix"
  Text path{};                         ///< vhostuser: the socket
  Switch managed{};                    ///< nvme
  Number namespace_id{};               ///< nvme; libvirt's attribute `namespace`
  std::optional<StartupPolicy> startup_policy{};
  Number index{};  ///< Output only: the node's place in the chain.

  std::vector<Host> hosts{};       ///< network
  Box<SourceSnapshot> snapshot{};  ///< network, rbd
  Box<SourceConfig> config{};      ///< network, rbd
  Box<Initiator> initiator{};      ///< network, iscsi
  Box<Ssl> ssl{};                  ///< network, https and ftps
  Box<Cookies> cookies{};          ///< network, http and https
  Box<Readahead> readahead{};      ///< network, http, https, ftp, ftps
  Box<Timeout> timeout{};          ///< network, http, https, ftp, ftps
  Box<Identity> identity{};        ///< network, nfs and ssh
  Box<KnownHosts> known_hosts{};   ///< network, ssh
  Box<Reconnect> reconnect{};      ///< network nbd; vhostuser
  Box<Address> address{};          ///< nvme: the controller, always pci
  Box<Slices> slices{};
  std::vector<SecurityLabel> seclabels{};  ///< file, block, volume
  Box<Auth> auth{};                        ///< network
  Box<Encryption> encryption{};
  Box<Reservations> reservations{};  ///< block
  Box<DataStore> data_store{};       ///< qcow2 with an external data file
  Extra extra{};
};

/// `<dataStore>`: a qcow2 image's external data file.
struct DataStore {
  std::optional<SourceType> type{};
  Box<Format> format{};
  Source source{};
  Extra extra{};
};

/// `<backingStore>`; one without a type ends the chain: the image has no backing file.
struct BackingStore {
  std::optional<SourceType> type{};
  Number index{};
  Box<Format> format{};
  Source source{};
  Box<BackingStore> backing_store{};
  Extra extra{};
};

/// `<mirror>`: the target of a running block copy or active commit. Output only.
struct Mirror {
  std::optional<SourceType> type{};
  Text file{};         ///< Old form, for clients before libvirt 1.2.6.
  Text format_name{};  ///< Old form: the attribute `format`.
  std::optional<MirrorJob> job{};
  std::optional<MirrorReady> ready{};
  Box<Format> format{};
  Source source{};
  Box<BackingStore> backing_store{};
  Extra extra{};
};

struct IoThreadQueue {
  Number id{};
  Extra extra{};
};

/// One iothread of a mapping; without queues libvirt spreads them round-robin.
struct IoThread {
  Number id{};
  std::vector<IoThreadQueue> queues{};
  Extra extra{};
};

struct IoThreads {
  std::vector<IoThread> iothreads{};
  Extra extra{};
};

struct Statistic {
  Number interval{};  ///< Seconds.
  Extra extra{};
};

struct HistogramBin {
  Number start{};  ///< Nanoseconds.
  Extra extra{};
};

struct LatencyHistogram {
  std::optional<HistogramType> type{};
  std::vector<HistogramBin> bins{};
  Extra extra{};
};

struct Statistics {
  std::vector<Statistic> statistics{};
  std::vector<LatencyHistogram> histograms{};
  Extra extra{};
};

struct Driver {
  Text name{};  ///< "qemu" for QEMU.
  Text type{};  ///< The image's format, e.g. "raw", "qcow2".
  std::optional<CacheMode> cache{};
  std::optional<ErrorPolicy> error_policy{};
  std::optional<ReadErrorPolicy> rerror_policy{};
  std::optional<AioMode> io{};
  Switch ioeventfd{};
  Switch event_idx{};
  Switch copy_on_read{};
  std::optional<Discard> discard{};
  Switch discard_no_unref{};
  Number iothread{};
  std::optional<DetectZeroes> detect_zeroes{};
  Number queues{};
  Number queue_size{};
  Switch iommu{};
  Switch ats{};
  Switch packed{};
  Switch page_per_vq{};
  Box<IoThreads> iothreads{};
  Box<Statistics> statistics{};
  Box<MetadataCache> metadata_cache{};
  Extra extra{};
};

struct Target {
  Text dev{};
  std::optional<Bus> bus{};
  std::optional<Tray> tray{};
  Switch removable{};
  Number rotation_rate{};  ///< 1 for solid state, else revolutions per minute.
  Switch dpofua{};
  Extra extra{};
};

/// `<iotune>`. Rates are per second; the `_max_length` are seconds. libvirt reads 0 as no limit.
struct IoTune {
  Number total_bytes_sec{};
  Number read_bytes_sec{};
  Number write_bytes_sec{};
  Number total_iops_sec{};
  Number read_iops_sec{};
  Number write_iops_sec{};
  Number total_bytes_sec_max{};
  Number read_bytes_sec_max{};
  Number write_bytes_sec_max{};
  Number total_iops_sec_max{};
  Number read_iops_sec_max{};
  Number write_iops_sec_max{};
  Number size_iops_sec{};
  Text group_name{};
  Number total_bytes_sec_max_length{};
  Number read_bytes_sec_max_length{};
  Number write_bytes_sec_max_length{};
  Number total_iops_sec_max_length{};
  Number read_iops_sec_max_length{};
  Number write_iops_sec_max_length{};
  Extra extra{};
};

struct ThrottleFilter {
  Text group{};
  Extra extra{};
};

struct ThrottleFilters {
  std::vector<ThrottleFilter> filters{};
  Extra extra{};
};

struct Geometry {
  Number cyls{};
  Number heads{};
  Number secs{};
  std::optional<Translation> trans{};
  Extra extra{};
};

/// `<blockio>`; all in bytes.
struct BlockIo {
  Number logical_block_size{};
  Number physical_block_size{};
  Number discard_granularity{};
  Extra extra{};
};

struct BackendDomain {
  Text name{};
  Extra extra{};
};

struct Transient {
  Switch share_backing{};
  Extra extra{};
};

struct Boot {
  Number order{};
  Text loadparm{};
  Extra extra{};
};

struct Alias {
  Text name{};
  Extra extra{};
};

struct Acpi {
  Number index{};
  Extra extra{};
};

/// `<disk>`.
struct DiskConfig {
  std::optional<SourceType> type{};
  std::optional<DeviceKind> device{};
  std::optional<DiskModel> model{};
  Switch rawio{};
  std::optional<SgIo> sgio{};
  std::optional<SnapshotMode> snapshot{};

  Driver driver{};
  Box<Auth> auth{};  ///< Old place; `source.auth` is preferred since libvirt 3.9.
  Source source{};
  Box<BackingStore> backing_store{};
  Box<BackendDomain> backend_domain{};
  Box<Geometry> geometry{};
  Box<BlockIo> blockio{};
  Box<Mirror> mirror{};
  Target target{};
  Box<IoTune> iotune{};
  Box<ThrottleFilters> throttle_filters{};
  bool readonly = false;
  bool shareable = false;
  Box<Transient> transient{};
  Text serial{};
  Text wwn{};
  Text vendor{};
  Text product{};
  Box<Encryption> encryption{};  ///< Old place; `source.encryption` is preferred since libvirt 3.9.
  Boot boot{};
  Alias alias{};
  Box<Acpi> acpi{};
  Box<Address> address{};
  Extra extra{};
};

}  // namespace aiolos::disk
