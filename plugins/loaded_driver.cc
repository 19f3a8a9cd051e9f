// SPDX-License-Identifier: Apache-2.0
#include "loaded_driver.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <exception>

#include "attachment_nodes.h"
#include "file_check.h"
#include "host_call.h"

namespace aiolos {
namespace {

/// What to do where the plugin's own error does not say.
std::string_view usual_next(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::bad_input:
      return "correct the connection_info";
    case ErrorKind::configuration:
      return "correct the configuration of this host";
    case ErrorKind::refused:
      return "see the driver's documentation";
    case ErrorKind::retry:
      return "try again later";
    case ErrorKind::storage:
    case ErrorKind::hypervisor:
      return "look at the storage and the logs of this host";
    case ErrorKind::bug:
      break;
  }
  return kTellAuthor;
}

/// What the dynamic linker's words ask for.
std::string_view next_for_dlerror(std::string_view text) {
  if (text.find("undefined symbol") != std::string_view::npos)
    return "link the library that has the symbol to the plugin, or rebuild it against the installed version";
  if (text.find("cannot open shared object file") != std::string_view::npos)
    return "install the library that it names, or link the plugin with a run path that finds it";
  return "rebuild the plugin on this machine";
}

/// Calls into a plugin. A plugin in C++ may throw in spite of the ABI: what can be caught is.
/// @param caught set to what was thrown. @return what `body` returns, or `failed`.
template <typename T, typename Body>
T guarded(std::string& caught, T failed, Body body) noexcept {
  try {
    return body();
  } catch (const std::exception& exception) {
    caught = fmt::format("an exception escaped it: {}", readable(exception.what()));
  } catch (...) {
    caught = "an exception that is no std::exception escaped it";
  }
  return failed;
}

Error at_file(Error error, const std::filesystem::path& file) {
  if (!error.where.empty()) error.message = describe(error);
  error.where = readable(file.native());
  return error;
}

// How each slot's result is read.
Result<Attachment> read_attachment(ResultDraft& result) { return result.attachment(); }
Result<AioAdvice> read_advice(ResultDraft& result) { return result.advice(); }
Result<StorageFacts> read_facts(ResultDraft& result) { return storage_facts_from_json(result.json()); }

Result<std::string> read_target(ResultDraft& result) {
  const auto member = JsonView(result.json()).at("target");
  if (!member) return tl::unexpected(member.error());
  auto text = member->string();
  if (text && text->empty()) return fail(ErrorKind::bad_input, "the target is empty", {}, "/target");
  return text;
}

Result<std::uint64_t> read_size(ResultDraft& result) {
  const auto member = JsonView(result.json()).at("size");
  if (!member) return tl::unexpected(member.error());
  return member->unsigned_integer();
}

}  // namespace

Result<SharedObject> SharedObject::open(const std::filesystem::path& file) {
  if (void* handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return SharedObject(handle);
  const char* text = ::dlerror();
  const std::string reason = readable(text == nullptr ? "no reason given" : text);
  return fail(ErrorKind::configuration, fmt::format("the dynamic linker refused it: {}", reason),
              std::string(next_for_dlerror(reason)));
}

SharedObject::~SharedObject() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  // Sanitizers report when the process ends, and could not name a function of what is gone by then.
  if (handle_ != nullptr) ::dlclose(handle_);
#endif
}

void* SharedObject::symbol(const char* name) const { return ::dlsym(handle_, name); }

LoadedDriver::LoadedDriver(std::filesystem::path file, SharedObject object, const aiolos_driver& table,
                           DriverIdentity identity, const PluginServices& services)
    : file_(std::move(file)),
      object_(std::move(object)),
      table_(table),
      identity_(std::move(identity)),
      services_(services) {}

LoadedDriver::~LoadedDriver() {
  std::string caught;
  if (initialised_ && table_.fini != nullptr)
    guarded(caught, 0, [&] {
      table_.fini(state_);
      return 0;
    });
  if (!caught.empty() && services_.log) services_.log(AIOLOS_LOG_ERROR, identity_.name, "fini: " + caught);
}

Result<std::unique_ptr<LoadedDriver>> LoadedDriver::load(
    const std::filesystem::path& file, const PluginServices& services,
    const std::function<Result<void>(const DriverIdentity&)>& taken) {
  const auto refuse = [&](Error error) { return tl::unexpected(at_file(std::move(error), file)); };
  const auto checked = check_plugin_file(file);
  if (!checked) return tl::unexpected(checked.error());
  auto object = SharedObject::open(*checked);
  if (!object) return refuse(object.error());

  using Entry = const aiolos_driver* (*)(const aiolos_host*);
  const auto entry = reinterpret_cast<Entry>(object->symbol("aiolos_plugin_entry"));
  if (entry == nullptr)
    return refuse({ErrorKind::configuration,
                   "has no symbol aiolos_plugin_entry, so it is no Aiolos plugin",
                   "remove it from the plugin folder, or export the symbol (AIOLOS_PLUGIN in C++)",
                   {}});
  std::string caught;
  const aiolos_driver* const theirs =
      guarded(caught, static_cast<const aiolos_driver*>(nullptr), [&] { return entry(&host_table()); });
  if (!caught.empty()) return refuse({ErrorKind::bug, "aiolos_plugin_entry: " + caught, std::string(kTellAuthor), {}});
  if (theirs == nullptr)
    return refuse({ErrorKind::configuration,
                   fmt::format("its aiolos_plugin_entry returned NULL: it cannot serve a host of plugin ABI {}.{}",
                               AIOLOS_ABI_MAJOR, AIOLOS_ABI_MINOR),
                   "install a build of the plugin for this version of Aiolos",
                   {}});
  const auto table = read_driver_table(theirs);
  if (!table) return refuse(table.error());
  auto identity = check_driver_table(*table);
  if (!identity) return refuse(identity.error());
  if (const auto done = taken(*identity); !done) return refuse(done.error());

  std::unique_ptr<LoadedDriver> driver(
      new LoadedDriver(file, *std::move(object), *table, *std::move(identity), services));
  if (const auto done = driver->configure(); !done) return refuse(done.error());
  if (const auto done = driver->init(); !done) return refuse(done.error());
  return driver;
}

Result<void> LoadedDriver::configure() {
  if (identity_.configuration_key.empty()) return {};
  if (!services_.section) {
    configuration_ = JsonDocument(Json(identity_.configuration_defaults));
    return {};
  }
  auto section = services_.section(identity_.configuration_key, identity_.configuration_defaults);
  if (!section) return tl::unexpected(section.error());
  configuration_ = JsonDocument(*std::move(section));
  return {};
}

Result<void> LoadedDriver::init() {
  if (table_.init == nullptr) {
    initialised_ = true;
    return {};
  }
  aiolos_call call = make_call(Wanted::json);
  const auto done = run("init", call, [&] { return table_.init(&host_table(), &call, &state_); });
  initialised_ = done.has_value();  // fini undoes a successful init only
  return done;
}

aiolos_call LoadedDriver::make_call(Wanted wanted, const JsonNode* first, const JsonNode* second) const {
  return aiolos_call{.services = &services_,
                     .plugin = identity_.name,
                     .configuration = configuration_.root().is_null() ? nullptr : &configuration_.root(),
                     .configuration_key = identity_.configuration_key,
                     .documents = {first, second},
                     .result = ResultDraft(wanted)};
}

tl::unexpected<Error> LoadedDriver::broken(const char* slot_name, std::string_view what) const {
  return fail(ErrorKind::bug,
              fmt::format("the plugin '{}' ({}): {}: {}", identity_.name, readable(file_.native()), slot_name, what),
              std::string(kTellAuthor));
}

template <typename Slot>
Result<void> LoadedDriver::run(const char* slot_name, aiolos_call& call, Slot slot) const {
  std::string caught;
  const int status = guarded(caught, 1, slot);
  if (!caught.empty()) return broken(slot_name, caught);
  if (status == 0 && !call.error) return {};
  if (!call.error) return broken(slot_name, fmt::format("it returned {} without saying why (host->fail)", status));
  Error error = *std::move(call.error);
  if (status == 0)
    return broken(slot_name, fmt::format("it returned success after a failure that it did not take back: {}",
                                         aiolos::describe(error)));
  if (error.kind == ErrorKind::bug) return broken(slot_name, aiolos::describe(error));
  if (error.next.empty()) error.next = usual_next(error.kind);
  return tl::unexpected(std::move(error));
}

template <typename Read>
auto LoadedDriver::published(const char* slot_name, aiolos_call& call, Read read) const -> decltype(read(call.result)) {
  if (call.result.empty()) return broken(slot_name, "it returned success without a result");
  const auto checked = [&] {  // with one return, as an attachment is large to move
    auto result = read(call.result);
    if (!result) result = broken(slot_name, fmt::format("its result is wrong: {}", aiolos::describe(result.error())));
    return result;
  };
  return checked();
}

Result<Attachment> LoadedDriver::describe(const JsonNode& connection_info) {
  aiolos_call call = make_call(Wanted::attachment, &connection_info);
  if (auto done = run("describe", call, [&] { return table_.describe(state_, &call, to_abi(&connection_info)); });
      !done)
    return tl::unexpected(std::move(done).error());
  return published("describe", call, read_attachment);
}

Result<std::optional<std::string>> LoadedDriver::target(const Json& connection_info) {
  if (thread_model() == AIOLOS_PARALLEL) return std::nullopt;
  if (thread_model() == AIOLOS_SERIALIZE_ALL) return identity_.name;
  const JsonDocument info(connection_info);
  aiolos_call call = make_call(Wanted::json, &info.root());
  if (const auto done = run("target", call, [&] { return table_.target(state_, &call, to_abi(&info.root())); }); !done)
    return tl::unexpected(done.error());
  // Headed by the driver's name: another driver's target of that name is another thing.
  return published("target", call, read_target).map([&](const std::string& target) {
    return std::optional(identity_.name + ":" + target);
  });
}

Result<Attachment> LoadedDriver::connect(const Json& connection_info, VolumeJournal* journal) {
  if (table_.connect == nullptr) return describe(connection_info);
  const JsonDocument info(connection_info);
  aiolos_call call = make_call(Wanted::attachment, &info.root());
  call.journal = journal;
  if (const auto done = run("connect", call, [&] { return table_.connect(state_, &call, to_abi(&info.root())); });
      !done)
    return tl::unexpected(done.error());
  return published("connect", call, read_attachment);
}

Result<void> LoadedDriver::disconnect(const Json& connection_info, const Attachment* attachment, bool force,
                                      VolumeJournal* journal) {
  if (table_.disconnect == nullptr) return {};
  const JsonDocument info(connection_info);
  const JsonDocument known(attachment == nullptr ? Json() : to_json(*attachment));
  aiolos_call call = make_call(Wanted::json, &info.root(), &known.root());
  call.journal = journal;
  return run("disconnect", call, [&] {
    return table_.disconnect(state_, &call, to_abi(&info.root()),
                             attachment == nullptr ? nullptr : to_abi(&known.root()),
                             force ? std::uint32_t{AIOLOS_FORCE} : 0u);
  });
}

Result<std::uint64_t> LoadedDriver::extend(const Json& connection_info, const Attachment& attachment,
                                           std::uint64_t bytes, VolumeJournal* journal) {
  if (table_.extend == nullptr)
    return fail(ErrorKind::refused, fmt::format("the driver '{}' cannot extend a volume", identity_.name),
                "detach the volume, extend it at the storage, and attach it again");
  const JsonDocument info(connection_info);
  const AttachmentNodes known(attachment);
  aiolos_call call = make_call(Wanted::json, &info.root(), &known.root());
  call.journal = journal;
  if (const auto done =
          run("extend", call,
              [&] { return table_.extend(state_, &call, to_abi(&info.root()), to_abi(&known.root()), bytes); });
      !done)
    return tl::unexpected(done.error());
  return published("extend", call, read_size);
}

Result<void> LoadedDriver::verify(const Json& connection_info, const Attachment& attachment) {
  if (table_.verify == nullptr) return {};
  const JsonDocument info(connection_info);
  const AttachmentNodes known(attachment);
  aiolos_call call = make_call(Wanted::json, &info.root(), &known.root());
  return run("verify", call, [&] { return table_.verify(state_, &call, to_abi(&info.root()), to_abi(&known.root())); });
}

Result<StorageFacts> LoadedDriver::facts(const Json& connection_info, const Attachment& attachment) {
  if (table_.facts == nullptr) {
    if (attachment.source.kind == SourceKind::network) return StorageFacts{};
    if (services_.block_devices == nullptr)
      return fail(ErrorKind::configuration, fmt::format("probing {} is not available here", attachment.source.path),
                  "use a command that may touch this host, such as attach or explain");
    return services_.block_devices->probe(attachment.source.path, attachment.format);
  }
  const JsonDocument info(connection_info);
  const AttachmentNodes known(attachment);
  aiolos_call call = make_call(Wanted::json, &info.root(), &known.root());
  if (const auto done =
          run("facts", call, [&] { return table_.facts(state_, &call, to_abi(&info.root()), to_abi(&known.root())); });
      !done)
    return tl::unexpected(done.error());
  return published("facts", call, read_facts);
}

Result<AioAdvice> LoadedDriver::aio_mode(const Attachment& attachment, const StorageFacts* facts) {
  const AttachmentNodes known(attachment);
  const JsonDocument probed(facts == nullptr ? Json() : to_json(*facts));
  aiolos_call call = make_call(Wanted::advice, &known.root(), &probed.root());
  if (const auto done = run("aio_mode", call,
                            [&] {
                              return table_.aio_mode(state_, &call, to_abi(&known.root()),
                                                     facts == nullptr ? nullptr : to_abi(&probed.root()));
                            });
      !done)
    return tl::unexpected(done.error());
  return published("aio_mode", call, read_advice);
}

}  // namespace aiolos
