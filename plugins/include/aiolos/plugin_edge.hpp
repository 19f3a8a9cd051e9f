// SPDX-License-Identifier: Apache-2.0
// The edge between the SDK's classes and the C ABI: one static table of slots for each driver class. Included by
// plugin.hpp; nothing here is for plugin authors.
#pragma once

namespace aiolos::sdk::detail {

/// The class that declares a member function: tells whether a driver overrides it.
template <typename Member>
struct DeclaredBy;
template <typename R, typename C, typename... A>
struct DeclaredBy<R (C::*)(A...)> {
  using type = C;
};
template <typename R, typename C, typename... A>
struct DeclaredBy<R (C::*)(A...) const> {
  using type = C;
};
template <auto member>
constexpr bool overridden = !std::is_same_v<typename DeclaredBy<decltype(member)>::type, VolumeDriver>;

/// Hands an error to the host. @return 1, for a slot to return.
int report(const aiolos_host* host, aiolos_call* call, const Error& error);
/// Hands the exception being handled to the host, as a bug of `slot`. @return 1. Call in a catch block only.
int report_exception(const aiolos_host* host, aiolos_call* call, const char* slot);

// Results to the host. They give 0, or 1 once the call has failed. An Attachment is put member by member, and only
// what differs from the defaults: no JSON text on that way.
int publish(const aiolos_host* host, aiolos_call* call, const Attachment& attachment);
int publish(const aiolos_host* host, aiolos_call* call, const AioAdvice& advice);
int publish(const aiolos_host* host, aiolos_call* call, const StorageFacts& facts);
int publish_target(const aiolos_host* host, aiolos_call* call, const std::string& target);
int publish_size(const aiolos_host* host, aiolos_call* call, std::uint64_t bytes);

/// The inverse for what the host hands over; ErrorKind::bug where it is not as promised.
Result<Attachment> read_attachment(const Call& call, const aiolos_value* value);
Result<StorageFacts> read_facts(const Call& call, const aiolos_value* value);

/// Whether a host has every function that this SDK calls.
bool host_suffices(const aiolos_host* host);

template <typename D>
class Plugin {
  static_assert(std::is_base_of_v<VolumeDriver, D>, "a driver derives from aiolos::sdk::VolumeDriver");
  static_assert(!std::is_abstract_v<D>, "a driver overrides describe and aio_mode");
  static_assert(std::is_default_constructible_v<D>, "a driver needs a default constructor; resources belong in init");

  static constexpr const DriverInfo& kInfo = D::kInfo;
  static constexpr bool kInit = overridden<&D::init>;
  static constexpr bool kTarget = overridden<&D::target>;
  static constexpr bool kConnect = overridden<&D::connect>;
  static constexpr bool kDisconnect = overridden<&D::disconnect>;
  static constexpr bool kExtend = overridden<&D::extend>;
  static constexpr bool kVerify = overridden<&D::verify>;
  static constexpr bool kFacts = overridden<&D::facts>;

  static_assert(kInfo.name != nullptr && kInfo.name[0] != '\0', "kInfo.name is missing");
  static_assert(kInfo.types[0] != nullptr, "kInfo.types needs at least one driver_volume_type");
  static_assert(kInfo.types[8] == nullptr, "kInfo.types holds at most eight");
  static_assert((kInfo.configuration_key == nullptr) == (kInfo.configuration_defaults == nullptr),
                "kInfo.configuration_key and kInfo.configuration_defaults are given together or not at all");
  static_assert(kConnect == kDisconnect, "connect and disconnect are overridden together or not at all");
  static_assert(!(kInfo.capabilities & AIOLOS_CAN_CONNECT) || kConnect,
                "kInfo.capabilities promises AIOLOS_CAN_CONNECT, but connect is not overridden");
  static_assert(!(kInfo.capabilities & AIOLOS_CAN_EXTEND) || kExtend,
                "kInfo.capabilities promises AIOLOS_CAN_EXTEND, but extend is not overridden");
  static_assert(kInfo.thread_model != ThreadModel::per_target || kTarget,
                "ThreadModel::per_target promises target, which is not overridden");

  struct State {
    const aiolos_host* host;
    D driver;
  };

  /// Runs a slot's body; no exception gets past it. Body: int(State&).
  template <typename Body>
  static int guarded(void* state, aiolos_call* call, const char* slot, Body body) noexcept {
    State& own = *static_cast<State*>(state);
    try {
      return body(own);
    } catch (...) {
      return report_exception(own.host, call, slot);
    }
  }

  /// Hands over a Result: its error, or its value by `publisher`.
  template <typename T, typename Publisher>
  static int answer(State& own, aiolos_call* call, const Result<T>& result, Publisher publisher) {
    if (!result) return report(own.host, call, result.error());
    return publisher(own.host, call, *result);
  }
  template <typename T>
  static int answer(State& own, aiolos_call* call, const Result<T>& result) {
    if (!result) return report(own.host, call, result.error());
    return publish(own.host, call, *result);
  }

  static int init(const aiolos_host* host, aiolos_call* raw, void** state) noexcept {
    State* made = nullptr;
    try {
      made = new State{host, D()};
      if constexpr (kInit) {
        Call call(host, raw);
        if (Result<void> done = made->driver.D::init(call); !done) {
          delete std::exchange(made, nullptr);
          return report(host, raw, done.error());
        }
      }
      *state = made;
      return 0;
    } catch (...) {
      const int status = report_exception(host, raw, "init");
      delete made;
      return status;
    }
  }

  static void fini(void* state) noexcept { delete static_cast<State*>(state); }

  static int describe(void* state, aiolos_call* raw, const aiolos_value* info) noexcept {
    return guarded(state, raw, "describe", [&](State& own) {
      const Call call(own.host, raw);
      return answer(own, raw, own.driver.D::describe(Volume(call, info)));
    });
  }

  static int target(void* state, aiolos_call* raw, const aiolos_value* info) noexcept {
    return guarded(state, raw, "target", [&](State& own) {
      const Call call(own.host, raw);
      return answer(own, raw, own.driver.D::target(Volume(call, info)), publish_target);
    });
  }

  static int connect(void* state, aiolos_call* raw, const aiolos_value* info) noexcept {
    return guarded(state, raw, "connect", [&](State& own) {
      Call call(own.host, raw);
      return answer(own, raw, own.driver.D::connect(call, Volume(call, info)));
    });
  }

  static int disconnect(void* state, aiolos_call* raw, const aiolos_value* info, const aiolos_value* attachment,
                        std::uint32_t flags) noexcept {
    return guarded(state, raw, "disconnect", [&](State& own) {
      Call call(own.host, raw);
      const Volume volume(call, info);
      const bool force = (flags & AIOLOS_FORCE) != 0;
      Result<void> done;
      if (own.host->value_type(attachment) == AIOLOS_NULL) {
        done = own.driver.D::disconnect(call, volume, nullptr, force);
      } else {
        const Result<Attachment> known = read_attachment(call, attachment);
        if (!known) return report(own.host, raw, known.error());
        done = own.driver.D::disconnect(call, volume, &*known, force);
      }
      return done ? 0 : report(own.host, raw, done.error());
    });
  }

  static int extend(void* state, aiolos_call* raw, const aiolos_value* info, const aiolos_value* attachment,
                    std::uint64_t bytes) noexcept {
    return guarded(state, raw, "extend", [&](State& own) {
      Call call(own.host, raw);
      const Result<Attachment> known = read_attachment(call, attachment);
      if (!known) return report(own.host, raw, known.error());
      return answer(own, raw, own.driver.D::extend(call, Volume(call, info), *known, bytes), publish_size);
    });
  }

  static int verify(void* state, aiolos_call* raw, const aiolos_value* info, const aiolos_value* attachment) noexcept {
    return guarded(state, raw, "verify", [&](State& own) {
      Call call(own.host, raw);
      const Result<Attachment> known = read_attachment(call, attachment);
      if (!known) return report(own.host, raw, known.error());
      const Result<void> done = own.driver.D::verify(call, Volume(call, info), *known);
      return done ? 0 : report(own.host, raw, done.error());
    });
  }

  static int facts(void* state, aiolos_call* raw, const aiolos_value* info, const aiolos_value* attachment) noexcept {
    return guarded(state, raw, "facts", [&](State& own) {
      Call call(own.host, raw);
      const Result<Attachment> known = read_attachment(call, attachment);
      if (!known) return report(own.host, raw, known.error());
      return answer(own, raw, own.driver.D::facts(call, Volume(call, info), *known));
    });
  }

  static int aio_mode(void* state, aiolos_call* raw, const aiolos_value* attachment,
                      const aiolos_value* probed) noexcept {
    return guarded(state, raw, "aio_mode", [&](State& own) {
      const Call call(own.host, raw);
      const Result<Attachment> known = read_attachment(call, attachment);
      if (!known) return report(own.host, raw, known.error());
      if (own.host->value_type(probed) == AIOLOS_NULL) return answer(own, raw, own.driver.D::aio_mode(*known, nullptr));
      const Result<StorageFacts> facts = read_facts(call, probed);
      if (!facts) return report(own.host, raw, facts.error());
      return answer(own, raw, own.driver.D::aio_mode(*known, &*facts));
    });
  }

  /// Slots that the driver does not override stay NULL, so that the host's default works.
  static constexpr aiolos_driver make_table() {
    aiolos_driver table{};
    table.size = sizeof(aiolos_driver);
    table.abi = AIOLOS_ABI_VERSION;
    table.name = kInfo.name;
    table.version = kInfo.version;
    table.summary = kInfo.summary;
    table.types = kInfo.types;
    table.configuration_key = kInfo.configuration_key;
    table.configuration_defaults = kInfo.configuration_defaults;
    table.capabilities = kInfo.capabilities | (kConnect ? static_cast<std::uint32_t>(AIOLOS_CAN_CONNECT) : 0u) |
                         (kExtend ? static_cast<std::uint32_t>(AIOLOS_CAN_EXTEND) : 0u);
    table.thread_model = static_cast<std::uint32_t>(kInfo.thread_model);
    table.nova_driver_io = kInfo.nova_driver_io;
    table.init = &init;
    table.fini = &fini;
    table.describe = &describe;
    table.aio_mode = &aio_mode;
    if constexpr (kTarget) table.target = &target;
    if constexpr (kConnect) table.connect = &connect;
    if constexpr (kDisconnect) table.disconnect = &disconnect;
    if constexpr (kExtend) table.extend = &extend;
    if constexpr (kVerify) table.verify = &verify;
    if constexpr (kFacts) table.facts = &facts;
    return table;
  }

 public:
  /// What aiolos_plugin_entry returns: constant data, so that loading runs no code of the plugin's.
  static const aiolos_driver* entry(const aiolos_host* host) noexcept {
    static constexpr aiolos_driver kTable = make_table();
    return host_suffices(host) ? &kTable : nullptr;
  }
};

}  // namespace aiolos::sdk::detail
