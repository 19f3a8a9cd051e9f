// SPDX-License-Identifier: Apache-2.0
// The host's side of the plugin ABI: the functions behind aiolos_host. Nothing thrown here reaches a plugin.
#include <fmt/format.h>
#include <nettle/base64.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "host_call.h"

namespace aiolos {
namespace {

aiolos_str view(std::string_view text) { return {text.data(), text.size()}; }
std::string_view view(aiolos_str text) {
  return text.size == 0 ? std::string_view() : std::string_view(text.data, text.size);
}

/// The first error of a call stays.
void fail_call(aiolos_call* call, Error error) {
  if (!call->error) call->error = std::move(error);
}

/// Runs the body of a host function that may allocate or call out. A throw becomes a bug of the call's, and `failed`
/// the answer.
template <typename T, typename Body>
T guarded(aiolos_call* call, T failed, Body body) noexcept {
  try {
    return body();
  } catch (const std::exception& exception) {
    fail_call(call, {ErrorKind::bug,
                     fmt::format("the host failed in a service: {}", exception.what()),
                     "report this to the authors of Aiolos",
                     {}});
  } catch (...) {
    fail_call(call, {ErrorKind::bug, "the host failed in a service", "report this to the authors of Aiolos", {}});
  }
  return failed;
}

// --- reading values: no allocation, nothing to guard ---

bool fits_int64(std::uint64_t number) { return number <= std::numeric_limits<std::int64_t>::max(); }

aiolos_value_type value_type(const aiolos_value* abi) noexcept {
  const JsonNode* value = from_abi(abi);
  if (value == nullptr) return AIOLOS_NULL;
  switch (value->type()) {
    case JsonNode::Type::boolean:
      return AIOLOS_BOOLEAN;
    case JsonNode::Type::negative:
      return AIOLOS_INTEGER;
    case JsonNode::Type::natural:
      return fits_int64(value->natural()) ? AIOLOS_INTEGER : AIOLOS_REAL;
    case JsonNode::Type::real:
      return AIOLOS_REAL;
    case JsonNode::Type::string:
      return AIOLOS_STRING;
    case JsonNode::Type::array:
      return AIOLOS_ARRAY;
    case JsonNode::Type::object:
      return AIOLOS_OBJECT;
    case JsonNode::Type::null:
      break;
  }
  return AIOLOS_NULL;
}

const aiolos_value* value_member(const aiolos_value* abi, const char* key, size_t size) noexcept {
  const JsonNode* object = from_abi(abi);
  const JsonNode* member = object == nullptr ? nullptr : object->find(std::string_view(key, size));
  return member == nullptr || member->is_null() ? nullptr : to_abi(member);
}

size_t value_size(const aiolos_value* abi) noexcept {
  const JsonNode* value = from_abi(abi);
  return value == nullptr ? 0 : value->size();
}

/// Member `index` of an object; nullptr past the end or if it is none.
const JsonMember* member_at(const aiolos_value* abi, size_t index) {
  const JsonNode* object = from_abi(abi);
  return object == nullptr ? nullptr : object->member(index);
}

const aiolos_value* value_element(const aiolos_value* abi, size_t index) noexcept {
  if (const JsonMember* member = member_at(abi, index)) return to_abi(&member->value);
  const JsonNode* value = from_abi(abi);
  return value == nullptr ? nullptr : to_abi(value->element(index));
}

aiolos_str value_key(const aiolos_value* abi, size_t index) noexcept {
  const JsonMember* member = member_at(abi, index);
  return member == nullptr ? aiolos_str{nullptr, 0} : view(member->key);
}

int value_string(const aiolos_value* abi, aiolos_str* out) noexcept {
  const JsonNode* value = from_abi(abi);
  if (value == nullptr || !value->is_string()) return 0;
  *out = view(value->string());
  return 1;
}

int value_integer(const aiolos_value* abi, int64_t* out) noexcept {
  if (value_type(abi) != AIOLOS_INTEGER) return 0;
  *out = from_abi(abi)->negative();  // a natural number that fits has the same bits
  return 1;
}

int value_boolean(const aiolos_value* abi, int* out) noexcept {
  const JsonNode* value = from_abi(abi);
  if (value == nullptr || !value->is_boolean()) return 0;
  *out = value->boolean() ? 1 : 0;
  return 1;
}

int value_real(const aiolos_value* abi, double* out) noexcept {
  const JsonNode* value = from_abi(abi);
  if (value == nullptr) return 0;
  switch (value->type()) {
    case JsonNode::Type::negative:
      *out = static_cast<double>(value->negative());
      return 1;
    case JsonNode::Type::natural:
      *out = static_cast<double>(value->natural());
      return 1;
    case JsonNode::Type::real:
      *out = value->real();
      return 1;
    default:
      return 0;
  }
}

aiolos_str value_text(aiolos_call* call, const aiolos_value* abi) noexcept {
  return guarded(call, aiolos_str{nullptr, 0}, [&] {
    const JsonNode* value = from_abi(abi);
    return view(call->texts.emplace_front(value == nullptr ? "null" : to_json(*value).dump()));
  });
}

aiolos_str value_pointer(aiolos_call* call, const aiolos_value* abi) noexcept {
  return guarded(call, aiolos_str{"", 0}, [&] {
    const JsonNode* value = from_abi(abi);
    const auto keep = [&](std::string text) { return view(call->texts.emplace_front(std::move(text))); };
    for (const JsonNode* document : call->documents)
      if (document != nullptr)
        if (auto found = pointer_within(*document, value)) return keep(std::move(*found));
    if (call->configuration != nullptr)
      if (auto found = pointer_within(*call->configuration, value))
        return keep(fmt::format("/{}{}", call->configuration_key, *found));
    for (const JsonDocument& document : call->values)
      if (auto found = pointer_within(document.root(), value)) return keep(std::move(*found));
    return aiolos_str{"", 0};
  });
}

// --- the call's result ---

/// Sets the member at `pointer`. 0, or 1 after failing the call.
template <typename T>
int put(aiolos_call* call, const char* pointer, T value) {
  if (pointer == nullptr) {
    fail_call(call, {ErrorKind::bug, "a value cannot be set at the pointer NULL", {}, {}});
    return 1;
  }
  auto done = call->result.put(pointer, std::move(value));
  if (done) return 0;
  fail_call(call, std::move(done).error());
  return 1;
}

int put_string(aiolos_call* call, const char* pointer, const char* text, size_t size) noexcept {
  return guarded(call, 1, [&] {
    const std::string_view value = view(aiolos_str{text, size});
    if (is_utf8(value)) {
      if (pointer != nullptr && call->result.put_expected(pointer, value)) return 0;
      return put(call, pointer, value);
    }
    fail_call(call,
              {ErrorKind::bug, fmt::format("the text set at \"{}\" is not UTF-8", pointer ? pointer : "NULL"), {}, {}});
    return 1;
  });
}

int put_integer(aiolos_call* call, const char* pointer, int64_t number) noexcept {
  return guarded(call, 1, [&] {
    // As every parser has it: what is not negative is unsigned, so that equal documents compare equal.
    return put(call, pointer, number < 0 ? Json(number) : Json(static_cast<std::uint64_t>(number)));
  });
}

int put_boolean(aiolos_call* call, const char* pointer, int truth) noexcept {
  return guarded(call, 1, [&] { return put(call, pointer, truth != 0); });
}

int put_json(aiolos_call* call, const char* pointer, const char* text, size_t size) noexcept {
  return guarded(call, 1, [&] {
    auto parsed = parse_json(view(aiolos_str{text, size}), "the plugin's JSON");
    if (parsed) return put(call, pointer, std::move(*parsed));
    fail_call(call, {ErrorKind::bug, describe(parsed.error()), {}, {}});
    return 1;
  });
}

int publish(aiolos_call* call, const char* text, size_t size) noexcept { return put_json(call, "", text, size); }

// --- errors and log ---

ErrorKind kind_of(std::uint32_t kind) {
  switch (kind) {
    case AIOLOS_ERROR_BAD_INPUT:
      return ErrorKind::bad_input;
    case AIOLOS_ERROR_CONFIGURATION:
      return ErrorKind::configuration;
    case AIOLOS_ERROR_REFUSED:
      return ErrorKind::refused;
    case AIOLOS_ERROR_RETRY:
      return ErrorKind::retry;
    case AIOLOS_ERROR_STORAGE:
      return ErrorKind::storage;
    default:
      return ErrorKind::bug;
  }
}

/// The inverse, for what a plugin takes back; a hypervisor's error can't come from its services.
aiolos_error_kind abi_kind(ErrorKind kind) {
  for (const auto candidate : {AIOLOS_ERROR_BAD_INPUT, AIOLOS_ERROR_CONFIGURATION, AIOLOS_ERROR_REFUSED,
                               AIOLOS_ERROR_RETRY, AIOLOS_ERROR_STORAGE})
    if (kind_of(candidate) == kind) return candidate;
  return AIOLOS_ERROR_BUG;
}

std::string text_or(const char* text, std::string_view otherwise) {
  return text == nullptr || *text == '\0' ? std::string(otherwise) : readable(text);
}

void host_fail(aiolos_call* call, std::uint32_t kind, const char* message, const char* next,
               const char* where) noexcept {
  guarded(call, 0, [&] {
    fail_call(call, {kind_of(kind), text_or(message, "the plugin failed without a message"), text_or(next, ""),
                     text_or(where, "")});
    return 0;
  });
}

int take_error(aiolos_call* call, aiolos_error* out) noexcept {
  return guarded(call, 0, [&] {
    if (!call->error) return 0;
    const Error& error = call->errors.emplace_front(std::move(*call->error));
    call->error.reset();
    if (out == nullptr) return 1;
    const aiolos_error filled{out->size, static_cast<std::uint32_t>(abi_kind(error.kind)), view(error.message),
                              view(error.next), view(error.where)};
    std::memcpy(out, &filled, std::min<std::size_t>(out->size, sizeof filled));
    return 1;
  });
}

/// The level; one from the future reads as the highest that we know.
aiolos_log_level level_of(std::uint32_t level) {
  return level <= AIOLOS_LOG_ERROR ? static_cast<aiolos_log_level>(level) : AIOLOS_LOG_ERROR;
}

void host_log(aiolos_call* call, std::uint32_t level, const char* message, size_t size) noexcept {
  guarded(call, 0, [&] {
    if (call->services->log)
      call->services->log(level_of(level), call->plugin, readable(view(aiolos_str{message, size})));
    return 0;
  });
}

// --- services ---

/// Fails a call whose host gave none of a service. `disk-xml` gives none at all: it touches nothing.
void not_available(aiolos_call* call, std::string_view service) {
  fail_call(call, {ErrorKind::configuration,
                   fmt::format("{} is not available here", service),
                   "use a command that may touch this host, such as attach or explain",
                   {}});
}

const aiolos_value* configuration(aiolos_call* call) noexcept { return to_abi(call->configuration); }

/// Reads a plugin's command; an error of kind bug for one that cannot be.
Result<Command> read_command(const aiolos_command* asked) {
  if (asked == nullptr || asked->size < sizeof(aiolos_command) || asked->argv == nullptr || asked->argv[0] == nullptr)
    return fail(ErrorKind::bug, "the plugin asked to run a command without a name");
  Command command;
  for (const char* const* argument = asked->argv; *argument != nullptr; ++argument)
    command.argv.emplace_back(*argument);
  command.input = view(asked->input);
  if (asked->timeout_ms == 0)
    return fail(ErrorKind::bug, fmt::format("the plugin asked to run {} without a deadline", command.argv.front()));
  command.timeout = std::chrono::milliseconds(asked->timeout_ms);
  return command;
}

/// Makes a command's input the value of a secret. False after failing the call.
bool take_secret(aiolos_call* call, const char* uuid, std::string& input) {
  if (call->services->secrets == nullptr) {
    not_available(call, "a secret's value");
    return false;
  }
  const auto secret = call->services->secrets->value(uuid);
  if (!secret) {
    fail_call(call, secret.error());
    return false;
  }
  const std::string_view value = secret->reveal();
  input.resize(BASE64_ENCODE_RAW_LENGTH(value.size()));
  ::base64_encode_raw(input.data(), value.size(), reinterpret_cast<const std::uint8_t*>(value.data()));
  input += '\n';
  return true;
}

int run(aiolos_call* call, const aiolos_command* asked, aiolos_command_result* out) noexcept {
  return guarded(call, 1, [&] {
    auto command = read_command(asked);
    if (!command || out == nullptr) {
      fail_call(call, command ? Error{ErrorKind::bug, "the plugin gave no place for a command's result", {}, {}}
                              : command.error());
      return 1;
    }
    if (call->services->commands == nullptr) {
      not_available(call, fmt::format("running {}", command->argv.front()));
      return 1;
    }
    if (asked->secret_uuid != nullptr && !take_secret(call, asked->secret_uuid, command->input)) return 1;
    auto ran = call->services->commands->run(*command);
    ::explicit_bzero(command->input.data(), command->input.size());  // it may have been a secret
    if (!ran) {
      fail_call(call, std::move(ran).error());
      return 1;
    }
    const CommandResult& kept = call->commands.emplace_front(std::move(*ran));
    const aiolos_command_result filled{out->size, kept.status, view(kept.output), view(kept.errors)};
    std::memcpy(out, &filled, std::min<std::size_t>(out->size, sizeof filled));
    return 0;
  });
}

const aiolos_value* probe(aiolos_call* call, const char* path, const char* format) noexcept {
  return guarded(call, static_cast<const aiolos_value*>(nullptr), [&]() -> const aiolos_value* {
    if (path == nullptr || *path != '/' || format == nullptr) {
      fail_call(call, {ErrorKind::bug, "the plugin asked to probe no absolute path, or no format", {}, {}});
      return nullptr;
    }
    if (call->services->block_devices == nullptr) {
      not_available(call, fmt::format("probing {}", path));
      return nullptr;
    }
    auto facts = call->services->block_devices->probe(path, format);
    if (facts) return to_abi(&call->values.emplace_front(to_json(*facts)).root());
    fail_call(call, std::move(facts).error());
    return nullptr;
  });
}

const aiolos_value* mounts(aiolos_call* call) noexcept {
  return guarded(call, static_cast<const aiolos_value*>(nullptr), [&]() -> const aiolos_value* {
    if (call->services->mounts == nullptr) {
      not_available(call, "the mount table");
      return nullptr;
    }
    const auto list = call->services->mounts->list();
    if (!list) {
      fail_call(call, list.error());
      return nullptr;
    }
    Json table = Json::array();
    for (const Mount& mount : *list)
      table.push_back(
          {{"source", mount.source}, {"target", mount.target}, {"fstype", mount.fstype}, {"options", mount.options}});
    return to_abi(&call->values.emplace_front(std::move(table)).root());
  });
}

// --- locks ---

int lock(aiolos_call* call, const char* name, uint32_t timeout_ms) noexcept {
  return guarded(call, 1, [&] {
    if (name == nullptr || *name == '\0') {
      fail_call(call, {ErrorKind::bug, "the plugin asked for a lock without a name", {}, {}});
      return 1;
    }
    if (call->services->locks == nullptr) {
      not_available(call, "a lock");
      return 1;
    }
    for (const aiolos_call::NamedLock& taken : call->locks)
      if (taken.name == name) {
        fail_call(call, {ErrorKind::bug, fmt::format("the plugin has the lock '{}' already", readable(name)), {}, {}});
        return 1;
      }
    auto held =
        call->services->locks->acquire(fmt::format("{}/{}", call->plugin, name), std::chrono::milliseconds(timeout_ms));
    if (!held) {
      fail_call(call, std::move(held).error());
      return 1;
    }
    call->locks.push_front({name, *std::move(held)});
    return 0;
  });
}

void unlock(aiolos_call* call, const char* name) noexcept {
  guarded(call, 0, [&] {
    if (name != nullptr) call->locks.remove_if([&](const aiolos_call::NamedLock& taken) { return taken.name == name; });
    return 0;
  });
}

// --- the volume's journal ---

/// Runs `work` on the call's journal with a text of the plugin's, which has to be UTF-8 and not empty.
/// @return 0, or 1 after failing the call.
template <typename Work>
int with_journal(aiolos_call* call, const char* text, Work work) noexcept {
  return guarded(call, 1, [&] {
    if (call->journal == nullptr) {
      not_available(call, "the journal");
      return 1;
    }
    if (text == nullptr || *text == '\0' || !is_utf8(text)) {
      fail_call(call, {ErrorKind::bug, "the plugin wrote nothing, or what is no text, to the journal", {}, {}});
      return 1;
    }
    const auto done = work(*call->journal);
    if (done) return 0;
    fail_call(call, done.error());
    return 1;
  });
}

/// What a driver calls `resource`, among those of all drivers.
std::string resource_of(const aiolos_call* call, const char* resource) {
  return fmt::format("{}: {}", call->plugin, resource);
}

int begin_effect(aiolos_call* call, const char* what, int64_t* effect) noexcept {
  return with_journal(call, what, [&](VolumeJournal& journal) {
    const auto begun = journal.begin_effect(what);
    if (begun && effect != nullptr) *effect = *begun;
    return begun;
  });
}

int end_effect(aiolos_call* call, int64_t effect) noexcept {
  return with_journal(call, "end", [&](VolumeJournal& journal) { return journal.end_effect(effect); });
}

int hold(aiolos_call* call, const char* resource) noexcept {
  return with_journal(call, resource,
                      [&](VolumeJournal& journal) { return journal.hold(resource_of(call, resource)); });
}

int release(aiolos_call* call, const char* resource) noexcept {
  return with_journal(call, resource,
                      [&](VolumeJournal& journal) { return journal.release(resource_of(call, resource)); });
}

int holders(aiolos_call* call, const char* resource, int* held, size_t* others) noexcept {
  return with_journal(call, resource, [&](VolumeJournal& journal) {
    const auto known = journal.holders(resource_of(call, resource));
    if (known && held != nullptr) *held = known->held ? 1 : 0;
    if (known && others != nullptr) *others = known->others;
    return known;
  });
}

}  // namespace

const aiolos_host& host_table() {
  static constexpr aiolos_host kTable{
      .size = sizeof(aiolos_host),
      .abi = AIOLOS_ABI_VERSION,
      .value_type = value_type,
      .value_member = value_member,
      .value_size = value_size,
      .value_element = value_element,
      .value_key = value_key,
      .value_string = value_string,
      .value_integer = value_integer,
      .value_boolean = value_boolean,
      .value_real = value_real,
      .value_text = value_text,
      .value_pointer = value_pointer,
      .put_string = put_string,
      .put_integer = put_integer,
      .put_boolean = put_boolean,
      .put_json = put_json,
      .publish = publish,
      .fail = host_fail,
      .take_error = take_error,
      .log = host_log,
      .configuration = configuration,
      .run = run,
      .probe = probe,
      .mounts = mounts,
      .lock = lock,
      .unlock = unlock,
      .begin_effect = begin_effect,
      .end_effect = end_effect,
      .hold = hold,
      .release = release,
      .holders = holders,
  };
  return kTable;
}

}  // namespace aiolos
