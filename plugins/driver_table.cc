// SPDX-License-Identifier: Apache-2.0
// What a plugin says of itself, read whatever minor version it was compiled with, and checked.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "host_call.h"
#include "loaded_driver.h"

namespace aiolos {
namespace {

/// The table of ABI 1.0: what every plugin of major version 1 has. Never grows; aiolos_driver does.
constexpr std::size_t kSmallestTable = offsetof(aiolos_driver, aio_mode) + sizeof(aiolos_driver::aio_mode);

constexpr std::uint32_t kKnownCapabilities =
    AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND | AIOLOS_CAN_MULTIATTACH | AIOLOS_CAN_MULTIPATH;

constexpr std::size_t kMostTypes = 64;  // far more than any driver serves: a list without its NULL ends here

tl::unexpected<Error> broken(std::string message) {
  return fail(ErrorKind::bug, std::move(message), std::string(kTellAuthor));
}

std::string version_text(std::uint32_t abi) { return fmt::format("{}.{}", abi >> 16, abi & 0xffff); }

/// Letters, digits, '-' and '_', and what `also` allows.
bool is_name(std::string_view text, std::string_view also = "") {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           also.find(c) != std::string_view::npos;
  });
}

/// A name of the plugin's. @param what to call it in an error.
Result<std::string> checked_name(const char* text, std::string_view what, std::string_view also = "") {
  if (text == nullptr) return broken(fmt::format("{} is NULL", what));
  const std::string_view name(text);
  if (name.empty()) return broken(fmt::format("{} is empty", what));
  if (!is_utf8(name)) return broken(fmt::format("{} is not UTF-8: \"{}\"", what, readable(name)));
  if (!is_name(name, also))
    return broken(fmt::format("{} may hold up to 64 letters, digits, '-'{} '_': \"{}\"", what,
                              also.empty() ? " and" : ", '.' and", name));
  return std::string(name);
}

/// Text for people; NULL reads as empty.
Result<std::string> checked_text(const char* text, std::string_view what) {
  if (text == nullptr) return std::string();
  if (!is_utf8(text)) return broken(fmt::format("{} is not UTF-8: \"{}\"", what, readable(text)));
  return std::string(text);
}

Result<std::vector<std::string>> checked_types(const char* const* list) {
  if (list == nullptr || list[0] == nullptr) return broken("the list of volume types is empty");
  std::vector<std::string> types;
  for (; *list != nullptr; ++list) {
    if (types.size() == kMostTypes)
      return broken(fmt::format("the list of volume types has no NULL after {} entries", kMostTypes));
    auto type = checked_name(*list, fmt::format("volume type {}", types.size() + 1), ".");
    if (!type) return tl::unexpected(type.error());
    if (std::find(types.begin(), types.end(), *type) != types.end())
      return broken(fmt::format("the volume type '{}' is listed twice", *type));
    types.push_back(*std::move(type));
  }
  return types;
}

Result<std::optional<AioMode>> checked_nova_io(const char* text) {
  if (text == nullptr) return std::nullopt;
  if (const auto mode = aio_mode_from_string(text)) return mode;
  return broken(fmt::format("nova_driver_io is no AIO mode: \"{}\"", readable(text)));
}

Result<Json> checked_defaults(const aiolos_driver& table) {
  if ((table.configuration_key == nullptr) != (table.configuration_defaults == nullptr))
    return broken("configuration_key and configuration_defaults are given together or not at all");
  if (table.configuration_defaults == nullptr) return Json();
  auto defaults = parse_json(table.configuration_defaults, "configuration_defaults");
  if (!defaults) return broken(describe(defaults.error()));
  if (!defaults->is_object()) return broken("configuration_defaults is no JSON object");
  return defaults;
}

Result<void> check_slots(const aiolos_driver& table) {
  struct Promise {
    bool made;
    bool kept;
    std::string_view slot;
    std::string_view by;
  };
  const bool connects = (table.capabilities & AIOLOS_CAN_CONNECT) != 0;
  const Promise promises[] = {
      {true, table.describe != nullptr, "describe", "every driver"},
      {true, table.aio_mode != nullptr, "aio_mode", "every driver"},
      {connects, table.connect != nullptr, "connect", "AIOLOS_CAN_CONNECT"},
      {connects, table.disconnect != nullptr, "disconnect", "AIOLOS_CAN_CONNECT"},
      {(table.capabilities & AIOLOS_CAN_EXTEND) != 0, table.extend != nullptr, "extend", "AIOLOS_CAN_EXTEND"},
      {table.thread_model == AIOLOS_PER_TARGET, table.target != nullptr, "target", "AIOLOS_PER_TARGET"},
  };
  for (const Promise& promise : promises)
    if (promise.made && !promise.kept)
      return broken(fmt::format("the slot '{}' is NULL, but {} promises it", promise.slot, promise.by));
  return {};
}

Result<void> check_numbers(const aiolos_driver& table) {
  if (table.thread_model > AIOLOS_PARALLEL) return broken(fmt::format("unknown thread model {}", table.thread_model));
  // A newer plugin may have capabilities that this host does not know and so does not use.
  const bool newer = (table.abi & 0xffff) > AIOLOS_ABI_MINOR;
  if (!newer && (table.capabilities & ~kKnownCapabilities) != 0)
    return broken(fmt::format("unknown capability bits {:#x} for ABI {}", table.capabilities & ~kKnownCapabilities,
                              version_text(table.abi)));
  return {};
}

}  // namespace

Result<aiolos_driver> read_driver_table(const aiolos_driver* table) {
  const std::uint32_t size = table->size;
  const std::uint32_t abi = table->abi;
  if (abi >> 16 != AIOLOS_ABI_MAJOR)
    return fail(ErrorKind::configuration,
                fmt::format("was built for plugin ABI {}; this Aiolos speaks {}", version_text(abi),
                            version_text(AIOLOS_ABI_VERSION)),
                fmt::format("install the plugin's build for ABI {}", AIOLOS_ABI_MAJOR));
  if (size < kSmallestTable)
    return broken(fmt::format("its driver table of {} bytes is too short; ABI {} has at least {}", size,
                              version_text(abi), kSmallestTable));
  aiolos_driver known{};
  std::memcpy(&known, table, std::min<std::size_t>(size, sizeof known));
  return known;
}

Result<DriverIdentity> check_driver_table(const aiolos_driver& table) {
  DriverIdentity identity;
  const auto keep = [](auto result, auto& place) -> Result<void> {
    if (!result) return tl::unexpected(result.error());
    place = *std::move(result);
    return {};
  };
  Result<void> done = keep(checked_name(table.name, "the driver's name"), identity.name);
  if (done) done = keep(checked_text(table.version, "the version"), identity.version);
  if (done) done = keep(checked_text(table.summary, "the summary"), identity.summary);
  if (done) done = keep(checked_types(table.types), identity.types);
  if (done) done = keep(checked_defaults(table), identity.configuration_defaults);
  if (done && table.configuration_key != nullptr)
    done = keep(checked_name(table.configuration_key, "the configuration key"), identity.configuration_key);
  if (done) done = keep(checked_nova_io(table.nova_driver_io), identity.nova_driver_io);
  if (done) done = check_numbers(table);
  if (done) done = check_slots(table);
  if (!done) return tl::unexpected(done.error());
  return identity;
}

}  // namespace aiolos
