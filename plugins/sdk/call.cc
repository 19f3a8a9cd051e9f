// SPDX-License-Identifier: Apache-2.0
// sdk::Call: the host's services for the time of one call, with errors as values.
#include <fmt/format.h>

#include <algorithm>

#include "aiolos/plugin.hpp"

namespace aiolos::sdk {
namespace {

std::string copy(aiolos_str text) { return text.size == 0 ? std::string() : std::string(text.data, text.size); }

/// aiolos_error_kind as the host understands it; an unknown one (of a newer host) is nobody's but the plugin's.
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

/// The last line that is not blank: where commands say what went wrong.
std::string_view last_line(std::string_view text) {
  const std::size_t end = text.find_last_not_of(" \r\n\t");
  if (end == std::string_view::npos) return {};
  text = text.substr(0, end + 1);
  const std::size_t newline = text.find_last_of('\n');
  return newline == std::string_view::npos ? text : text.substr(newline + 1);
}

}  // namespace

tl::unexpected<Error> Call::service_error() {
  aiolos_error error{};
  error.size = sizeof error;
  if (!host_->take_error(call_, &error))
    return aiolos::fail(ErrorKind::bug, "a service of the host failed without an error",
                        "report this to the authors of Aiolos");
  return aiolos::fail(kind_of(error.kind), copy(error.message), copy(error.next), copy(error.where));
}

Result<CommandResult> Call::run(const Command& command) { return run(command, nullptr); }

Result<CommandResult> Call::run(const Command& command, const char* secret_uuid) {
  std::vector<const char*> argv;
  argv.reserve(command.argv.size() + 1);
  for (const std::string& argument : command.argv) argv.push_back(argument.c_str());
  argv.push_back(nullptr);

  aiolos_command asked{};
  asked.size = sizeof asked;
  asked.timeout_ms = static_cast<std::uint32_t>(std::clamp<std::int64_t>(command.timeout.count(), 1, UINT32_MAX));
  asked.argv = argv.data();
  asked.input = {command.input.data(), command.input.size()};
  asked.secret_uuid = secret_uuid;
  aiolos_command_result got{};
  got.size = sizeof got;
  if (host_->run(call_, &asked, &got) != 0) return service_error();
  CommandResult result;
  result.status = got.status;
  result.output = copy(got.output);
  result.errors = copy(got.errors);
  return result;
}

Result<CommandResult> Call::run_with_secret(const Command& command, const std::string& secret_uuid) {
  return run(command, secret_uuid.c_str());
}

Result<CommandResult> Call::run_checked(const Command& command, std::string next) {
  Result<CommandResult> result = run(command);
  if (!result || result->status == 0) return result;
  return aiolos::fail(
      ErrorKind::storage,
      fmt::format("{}: exit status {}: {}", fmt::join(command.argv, " "), result->status, last_line(result->errors)),
      std::move(next));
}

Result<StorageFacts> Call::probe(const std::string& path, const std::string& format) {
  const aiolos_value* facts = host_->probe(call_, path.c_str(), format.c_str());
  if (facts == nullptr) return service_error();
  return detail::read_facts(*this, facts);
}

Result<std::vector<Mount>> Call::mounts() {
  const aiolos_value* table = host_->mounts(call_);
  if (table == nullptr) return service_error();
  std::vector<Mount> mounts;
  for (const Value row : Value(*this, table, ErrorKind::bug)) {
    AIOLOS_TRY(const std::string_view source, row.at("source").string());
    AIOLOS_TRY(const std::string_view target, row.at("target").string());
    AIOLOS_TRY(const std::string_view fstype, row.at("fstype").string());
    AIOLOS_TRY(const std::string_view options, row.at("options").string_or(""));
    mounts.push_back({std::string(source), std::string(target), std::string(fstype), std::string(options)});
  }
  return mounts;
}

Result<Call::Lock> Call::lock(std::string name, std::chrono::milliseconds timeout) {
  const auto bounded = static_cast<std::uint32_t>(std::clamp<std::int64_t>(timeout.count(), 0, UINT32_MAX));
  if (host_->lock(call_, name.c_str(), bounded) != 0) return service_error();
  return Lock(*this, std::move(name));
}

void Call::Lock::unlock() {
  if (call_ != nullptr) call_->host_->unlock(call_->call_, name_.c_str());
  call_ = nullptr;
}

Result<std::int64_t> Call::begin_effect(const std::string& what) {
  std::int64_t effect = 0;
  if (host_->begin_effect(call_, what.c_str(), &effect) != 0) return service_error();
  return effect;
}

Result<void> Call::end_effect(std::int64_t effect) {
  if (host_->end_effect(call_, effect) != 0) return service_error();
  return {};
}

Result<void> Call::hold(const std::string& resource) {
  if (host_->hold(call_, resource.c_str()) != 0) return service_error();
  return {};
}

Result<void> Call::release(const std::string& resource) {
  if (host_->release(call_, resource.c_str()) != 0) return service_error();
  return {};
}

Result<VolumeJournal::Holders> Call::holders(const std::string& resource) {
  int held = 0;
  VolumeJournal::Holders known;
  if (host_->holders(call_, resource.c_str(), &held, &known.others) != 0) return service_error();
  known.held = held != 0;
  return known;
}

Value Call::configuration() const { return Value(*this, host_->configuration(call_), ErrorKind::configuration); }

void Call::log(aiolos_log_level level, std::string_view message) {
  host_->log(call_, level, message.data(), message.size());
}

}  // namespace aiolos::sdk
