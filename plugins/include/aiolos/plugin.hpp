// SPDX-License-Identifier: Apache-2.0
// The C++ SDK for plugin authors: a class per storage type over the C ABI of plugin.h.
//
// A driver is one class derived from VolumeDriver (or from BlockVolumeDriver, FileSystemVolumeDriver or
// NetworkVolumeDriver, which know what their kind of storage has in common) and one line, AIOLOS_PLUGIN(MyDriver):
//
//   class NbdDriver : public aiolos::sdk::NetworkVolumeDriver {
//    public:
//     static constexpr aiolos::sdk::DriverInfo kInfo{
//         .name = "nbd", .version = "1.0", .summary = "NBD exports, by QEMU's own client", .types = {"nbd"},
//         .thread_model = aiolos::sdk::ThreadModel::parallel};
//   };
//   AIOLOS_PLUGIN(NbdDriver)
//
// What a class overrides becomes a slot of the ABI; what it does not is left NULL, so that the host does its default.
// A capability or thread model that promises a method which is not overridden does not compile.
//
// Errors are values (aiolos::Result); an exception that escapes a method becomes ErrorKind::bug naming what().
// One object serves all volumes: methods marked const run at any time, from any thread; the others only as far apart
// as the thread model keeps them. Value, Volume and Call are views of one call: never keep one.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "aiolos/core/aio_policy.h"
#include "aiolos/core/attachment.h"
#include "aiolos/core/facts.h"
#include "aiolos/core/interfaces.h"
#include "aiolos/core/json.h"
#include "aiolos/core/result.h"
#include "aiolos/plugin.h"

namespace aiolos::sdk {

class Call;

/// A JSON value of the host's, with its place. Two words and a key: copy it freely. Look-ups chain and never fail;
/// the conversion at the end of a chain does, naming the JSON pointer of the first member that was missing or is of
/// the wrong type. Never prints a value: it may be a secret.
///
///   auto path = volume.data().at("device_path").string();   // Result<std::string_view>
///
/// Lives as long as the call. A key given to `at` must live as long as the Value that `at` returned (a literal does).
class Value {
 public:
  Value(const Call& call, const aiolos_value* value, ErrorKind blame) : call_(&call), value_(value), blame_(blame) {}

  /// Absent, null, and "member of something absent" are all the same: not present.
  bool present() const { return value_ != nullptr && type() != AIOLOS_NULL; }
  explicit operator bool() const { return present(); }
  aiolos_value_type type() const;

  /// The member `key` of an object; not present if this is absent or no object.
  Value at(std::string_view key) const;
  /// Elements of an array or members of an object; 0 for anything else.
  std::size_t size() const;
  /// Element of an array, or value of a member by position; not present past the end.
  Value operator[](std::size_t index) const;
  /// Name of the member of an object at `index`; empty past the end.
  std::string_view key(std::size_t index) const;

  // Conversions. An error is of the kind that can mend it: bad_input for connection_info, configuration for the
  // configuration, bug for what Aiolos itself handed over. The views live as long as the call.
  Result<std::string_view> string() const;
  Result<std::int64_t> integer() const;
  Result<bool> boolean() const;
  /// A string, or an integer spelled out: ports come both ways.
  Result<std::string> text() const;
  /// A string that cannot be printed. For Command::input only.
  Result<Secret> secret() const;
  // The same where absence has a meaning: absent gives `otherwise`, a wrong type is still an error.
  Result<std::string_view> string_or(std::string_view otherwise) const;
  Result<std::int64_t> integer_or(std::int64_t otherwise) const;
  Result<bool> boolean_or(bool otherwise) const;
  /// Absent gives nullopt.
  Result<std::optional<std::string>> find_string() const;

  /// A deep copy; null if not present.
  Json json() const;

  /// The JSON pointer of this value, or of the member that was missing on the way here: what has to be added.
  std::string pointer() const;
  /// "expected WHAT, found an integer", at this value; of a member that is missing, that it is required.
  tl::unexpected<Error> mismatch(std::string_view expected) const;
  /// An error of the author's own at this value.
  tl::unexpected<Error> error(std::string message, std::string next) const;

  const aiolos_value* raw() const { return value_; }

  /// Iterates the elements of an array or the values of an object.
  class Iterator {
   public:
    using value_type = Value;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    using pointer = void;
    using reference = Value;
    Iterator(const Value& of, std::size_t index) : of_(&of), index_(index) {}
    Value operator*() const { return (*of_)[index_]; }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return index_ == other.index_; }

   private:
    const Value* of_;
    std::size_t index_;
  };
  Iterator begin() const& { return {*this, 0}; }
  Iterator end() const& { return {*this, size()}; }

 private:
  bool missing() const { return missing_key_.data() != nullptr; }

  const Call* call_;
  const aiolos_value* value_;
  ErrorKind blame_;                           // kind of an error at this value
  const aiolos_value* missing_in_ = nullptr;  // where the chain broke: the object that had no ...
  std::string_view missing_key_;              // ... member of that name; data() is NULL if nothing is missing
  std::string_view missing_below_;            // and the member that was asked for within that one, if any
};

/// The call in progress: the host's services. Only for the thread and the time of the call.
class Call {
 public:
  Call(const aiolos_host* host, aiolos_call* call) : host_(host), call_(call) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// Runs a command: no shell, LC_ALL=C, killed after `timeout`. Any exit status is a result; an error is
  /// ErrorKind::configuration (no such program) or ErrorKind::retry (overran its time).
  Result<CommandResult> run(const Command& command);
  /// As above, but a non-zero exit status is ErrorKind::storage with the last line of its standard error.
  /// @param next what the reader can do about a failure.
  Result<CommandResult> run_checked(const Command& command, std::string next);
  /// Facts of an image's chain or a block device. @param path absolute. @param format "raw", "qcow2", ...
  Result<StorageFacts> probe(const std::string& path, const std::string& format);
  /// What is mounted on this host, in mount order.
  Result<std::vector<Mount>> mounts();
  /// As run, with the value of a secret that libvirt keeps, in base64 and a newline, as standard input.
  /// ErrorKind::configuration if libvirt has no such secret or does not give its value.
  Result<CommandResult> run_with_secret(const Command& command, const std::string& secret_uuid);

  /// A lock between all processes and threads of this host, held until it goes.
  class Lock {
   public:
    Lock(Call& call, std::string name) : call_(&call), name_(std::move(name)) {}
    Lock(Lock&& other) noexcept : call_(std::exchange(other.call_, nullptr)), name_(std::move(other.name_)) {}
    Lock& operator=(Lock&&) = delete;
    ~Lock() { unlock(); }
    void unlock();

   private:
    Call* call_;
    std::string name_;
  };
  /// Takes one. @param name the driver's own. What it guards should be short: no flush. @return ErrorKind::retry if
  /// another had it for longer than `timeout`.
  Result<Lock> lock(std::string name, std::chrono::milliseconds timeout = std::chrono::seconds(60));

  // The volume's journal: in connect, disconnect and extend. What these return from is on disk.

  /// Runs `body`, a side effect on this host that returns a Result, between its intent and its completion in the journal.
  /// @param what for people, naming what is affected: "mount server:/export at /path".
  template <typename Body>
  auto effect(const std::string& what, Body body) -> decltype(body()) {
    const Result<std::int64_t> begun = begin_effect(what);
    if (!begun) return tl::unexpected(begun.error());
    auto result = body();
    if (!result) return result;  // it stays begun: it may have happened in part
    if (Result<void> ended = end_effect(*begun); !ended) return tl::unexpected(std::move(ended).error());
    return result;
  }
  /// Writes down that this volume uses something that it shares with others, before making it, under a lock.
  Result<void> hold(const std::string& resource);
  /// It does no longer; not held is success.
  Result<void> release(const std::string& resource);
  Result<VolumeJournal::Holders> holders(const std::string& resource);

  /// This driver's part of the configuration; not present if there is none.
  Value configuration() const;
  /// Never log a secret.
  void log(aiolos_log_level level, std::string_view message);
  void debug(std::string_view message) { log(AIOLOS_LOG_DEBUG, message); }
  void info(std::string_view message) { log(AIOLOS_LOG_INFO, message); }
  void warning(std::string_view message) { log(AIOLOS_LOG_WARNING, message); }

  const aiolos_host& host() const { return *host_; }
  aiolos_call* raw() const { return call_; }

 private:
  Result<CommandResult> run(const Command& command, const char* secret_uuid);
  Result<std::int64_t> begin_effect(const std::string& what);
  Result<void> end_effect(std::int64_t effect);
  /// The error that a service left, taken from the call so that a driver may get over it.
  tl::unexpected<Error> service_error();

  const aiolos_host* host_;
  aiolos_call* call_;
};

/// What identifies a volume: Cinder's connection_info, and this driver's configuration. Nothing here touches the host.
class Volume {
 public:
  Volume(const Call& call, const aiolos_value* connection_info)
      : call_(&call), connection_info_(call, connection_info, ErrorKind::bad_input) {}

  const Value& connection_info() const { return connection_info_; }
  /// connection_info["data"]
  Value data() const { return connection_info_.at("data"); }
  /// connection_info["driver_volume_type"]: one of DriverInfo::types.
  std::string_view type() const { return connection_info_.at("driver_volume_type").string().value_or(""); }
  /// connection_info["serial"], the volume's id; empty if absent.
  std::string_view serial() const { return connection_info_.at("serial").string().value_or(""); }
  /// This driver's part of the configuration; not present if there is none.
  Value configuration() const { return call_->configuration(); }

 private:
  const Call* call_;
  Value connection_info_;
};

/// See aiolos_thread_model.
enum class ThreadModel : std::uint32_t {
  serialize_all = AIOLOS_SERIALIZE_ALL,
  per_target = AIOLOS_PER_TARGET,
  parallel = AIOLOS_PARALLEL,
};

/// What a driver says of itself: `static constexpr DriverInfo kInfo{...}` of its class. Strings are literals.
struct DriverInfo {
  const char* name;                         ///< Letters, digits, '-', '_'.
  const char* version = "0";                ///< For people.
  const char* summary = nullptr;            ///< One line.
  const char* types[9] = {};                ///< driver_volume_type values it serves; at most eight.
  const char* configuration_key = nullptr;  ///< Top-level key of the configuration that is this driver's.
  /// Every key of that section with its default, as JSON text: R"({"iface": "default", "scan_attempts": 5})".
  const char* configuration_defaults = nullptr;
  /// AIOLOS_CAN_*. Connect and extend follow from what is overridden and need no bit; multiattach and multipath do.
  std::uint32_t capabilities = 0;
  ThreadModel thread_model = ThreadModel::serialize_all;
  const char* nova_driver_io = nullptr;  ///< What Nova's driver sets as driver_io whatever the facts: "native" or NULL.
};

/// The root of all drivers. Override `describe` and `aio_mode`; the rest as the storage needs it.
class VolumeDriver {
 public:
  virtual ~VolumeDriver() = default;

  /// Called once after loading, before anything else: read the configuration, check that tools exist. An error here
  /// keeps the plugin from loading.
  virtual Result<void> init(Call& call);

  /// Where the volume is, from its connection_info and the configuration alone. Touches nothing.
  /// Runs for every disk XML: keep it to a microsecond.
  virtual Result<Attachment> describe(const Volume& volume) const = 0;

  /// What must not be worked on twice at once: an iSCSI target, an export, a path. Promised by ThreadModel::per_target.
  virtual Result<std::string> target(const Volume& volume) const;

  /// Makes the volume reachable on this host. Idempotent. After an error the host calls `disconnect` without an
  /// attachment, as after a crash. Not overridden: the volume needs no connecting, and is where `describe` says.
  virtual Result<Attachment> connect(Call& call, const Volume& volume);

  /// Undoes connect; gone already is success. Overridden if and only if connect is.
  /// @param volume as connect had it, but for its secrets, which read "***".
  /// @param attachment what connect gave; nullptr if it failed or crashed: then nothing, a part or all may be there.
  /// @param force give up what cannot be flushed: the caller knows that data may be lost.
  virtual Result<void> disconnect(Call& call, const Volume& volume, const Attachment* attachment, bool force);

  /// Makes this host see the volume's new size, or grows it where the driver owns the image.
  /// @param bytes the size asked for. @return the size it has now, in bytes. Not overridden: cannot be extended.
  virtual Result<std::uint64_t> extend(Call& call, const Volume& volume, const Attachment& attachment,
                                       std::uint64_t bytes);

  /// Whether a connected volume still is what connect found: asked before its XML is written, before it is taken from a
  /// guest and before it is extended. ErrorKind::refused, naming both, if it is another. Not overridden: nothing could be
  /// mistaken.
  virtual Result<void> verify(Call& call, const Volume& volume, const Attachment& attachment);

  /// Facts of a connected volume. Not overridden: the host probes the attachment's file or block device, and knows
  /// nothing of a network source.
  virtual Result<StorageFacts> facts(Call& call, const Volume& volume, const Attachment& attachment);

  /// Which AIO modes this storage permits and prefers; the advise_* functions of core/aio_policy.h answer for the
  /// usual kinds. @param facts nullptr if not probed. Runs for every disk XML.
  virtual Result<AioAdvice> aio_mode(const Attachment& attachment, const StorageFacts* facts) const = 0;
};

/// Volumes that are a block device of this host once connected: iSCSI, Fibre Channel, NVMe-oF, local LVs.
/// describe: `data.device_path`, raw, as Nova has it; an error that says so while it is not connected.
class BlockVolumeDriver : public VolumeDriver {
 public:
  /// @param storage what to call it in reasons: "the iSCSI volume".
  explicit BlockVolumeDriver(std::string_view storage = "the block device") : storage_(storage) {}
  Result<Attachment> describe(const Volume& volume) const override;
  Result<AioAdvice> aio_mode(const Attachment& attachment, const StorageFacts* facts) const override;

 private:
  std::string storage_;
};

/// Volumes that are a file on a mounted share: NFS, Quobyte. A driver says how the share is mounted; the rest is here:
///
///   class LustreDriver : public FileSystemVolumeDriver {
///    public:
///     static constexpr DriverInfo kInfo{..., .configuration_key = "lustre",
///         .configuration_defaults = R"({"mount_point_base": "/var/lib/aiolos/mnt"})",
///         .thread_model = ThreadModel::per_target};
///    protected:
///     Result<std::vector<std::string>> mount_command(Call&, const Volume&, const std::string& share,
///                                                    const std::string& mount_point) const override {
///       return std::vector<std::string>{"mount", "-t", "lustre", share, mount_point};
///     }
///   };
///
/// describe: the file `data.name` below the mount point that Nova computes for `data.export`; format from
/// `data.format`, raw if absent. target: that file.
///
/// connect mounts the share unless it is mounted, and looks whether the file is there, is of its format and has no
/// backing image outside of the share. The volumes of one share hold its mount point; the last one's disconnect
/// unmounts it and removes the folder. A share that was mounted before any of them is used, and never unmounted. One
/// that does not answer any more is replaced if nobody uses it, and else is an error that may be tried again. No server
/// holds up anything for longer than about ten seconds.
class FileSystemVolumeDriver : public VolumeDriver {
 public:
  /// @param storage what to call it in reasons: "the NFS file".
  explicit FileSystemVolumeDriver(std::string_view storage = "the file") : storage_(storage) {}
  Result<Attachment> describe(const Volume& volume) const override;
  Result<std::string> target(const Volume& volume) const override;
  Result<Attachment> connect(Call& call, const Volume& volume) override;
  Result<void> disconnect(Call& call, const Volume& volume, const Attachment* attachment, bool force) override;
  /// See extend_image (image_file.hpp).
  Result<std::uint64_t> extend(Call& call, const Volume& volume, const Attachment& attachment,
                               std::uint64_t bytes) override;
  /// Whether the share is still mounted where connect found it, and the file still is the one that it found.
  Result<void> verify(Call& call, const Volume& volume, const Attachment& attachment) override;
  Result<StorageFacts> facts(Call& call, const Volume& volume, const Attachment& attachment) override;
  Result<AioAdvice> aio_mode(const Attachment& attachment, const StorageFacts* facts) const override;

 protected:
  /// The command that mounts `share` at `mount_point`, an empty folder. It is killed after ten seconds.
  virtual Result<std::vector<std::string>> mount_command(Call& call, const Volume& volume, const std::string& share,
                                                         const std::string& mount_point) const = 0;
  /// Why the mount command failed, for people: kind, message naming the share, and what to do. Not overridden:
  /// ErrorKind::storage with what the command complained of.
  virtual Error mount_failure(const CommandResult& result, const std::string& share) const;
  /// Whether a row of the mount table is that share. Not overridden: its source is, but for slashes at its end.
  virtual bool is_mount_of(const Mount& mount, const std::string& share) const;
  /// Whether a share that answers really is one: asked after mounting, and of a mount that was there. Not overridden:
  /// yes.
  virtual Result<void> validate(Call& call, const Mount& mount) const;
  /// Whether a file has the same inode number each time its share is mounted. Not overridden: yes.
  virtual bool keeps_inode_numbers() const { return true; }

  /// The export as it is mounted and hashed; Quobyte strips its "quobyte://".
  virtual Result<std::string> normalized_export(const Volume& volume) const;
  /// Folder of the mount points: `mount_point_base` of the configuration.
  virtual Result<std::string> mount_point_base(const Volume& volume) const;
  /// Where the volume's share is mounted: mount_point_base/md5(normalized_export).
  Result<std::string> mount_point(const Volume& volume) const;

 private:
  Result<void> make_mounted(Call& call, const Volume& volume, const std::string& share, const std::string& path) const;
  Result<void> mount(Call& call, const Volume& volume, const std::string& share, const std::string& path) const;

  std::string storage_;
};

/// Volumes that QEMU's own client reaches over the network: rbd, nbd. describe: protocol is the driver_volume_type,
/// `data.name`, and `data.hosts` with `data.ports` paired by position.
class NetworkVolumeDriver : public VolumeDriver {
 public:
  Result<Attachment> describe(const Volume& volume) const override;
  Result<AioAdvice> aio_mode(const Attachment& attachment, const StorageFacts* facts) const override;
};

/// MD5 of `text` as 32 hexadecimal digits: the name of a mount point. Source: nova/utils.py, get_hash_str. Not for
/// secrets.
std::string md5_hex(std::string_view text);

/// base/md5(share): where Nova mounts a share. Source: nova/virt/libvirt/volume/fs.py, _get_mount_path.
std::string mount_point_path(std::string_view base, std::string_view share);

/// base/md5(share)/name: where Nova finds a volume's file. Source: as above, _get_device_path.
/// @return ErrorKind::bad_input where `name` would lead out of the mount point (absolute, empty, or with "..").
Result<std::string> mounted_path(std::string_view base, std::string_view share, std::string_view name);

/// Shorthand: an error to return.
inline tl::unexpected<Error> fail(ErrorKind kind, std::string message, std::string next, std::string where = {}) {
  return aiolos::fail(kind, std::move(message), std::move(next), std::move(where));
}

}  // namespace aiolos::sdk

/// AIOLOS_TRY(auto path, volume.data().at("device_path").string());  returns the error, or sets `path` and goes on.
#define AIOLOS_TRY(declaration, expression) \
  AIOLOS_SDK_TRY_(AIOLOS_SDK_JOIN_(aiolos_try_, __COUNTER__), declaration, expression)
#define AIOLOS_SDK_JOIN_(a, b) AIOLOS_SDK_JOIN2_(a, b)
#define AIOLOS_SDK_JOIN2_(a, b) a##b
#define AIOLOS_SDK_TRY_(result, declaration, expression)                            \
  auto&& result = (expression);                                                     \
  if (!result) return ::tl::unexpected<::aiolos::Error>(std::move(result).error()); \
  declaration = *std::move(result)

/// As AIOLOS_TRY for a Result<void>: AIOLOS_CHECK(log_in(call));
#define AIOLOS_CHECK(expression)                                                                                \
  do {                                                                                                          \
    auto&& aiolos_check_result = (expression);                                                                  \
    if (!aiolos_check_result) return ::tl::unexpected<::aiolos::Error>(std::move(aiolos_check_result).error()); \
  } while (false)

/// Makes DriverClass this shared object's plugin. Once, in one source file, outside of any namespace.
#define AIOLOS_PLUGIN(DriverClass)                                                                    \
  extern "C" AIOLOS_PLUGIN_EXPORT const aiolos_driver* aiolos_plugin_entry(const aiolos_host* host) { \
    return ::aiolos::sdk::detail::Plugin<DriverClass>::entry(host);                                   \
  }

#include "aiolos/plugin_edge.hpp"  // IWYU pragma: keep
