// SPDX-License-Identifier: Apache-2.0
// What crosses the C ABI: results and errors out to the host, attachments and facts in from it.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "aiolos/plugin.hpp"

namespace aiolos::sdk::detail {
namespace {

aiolos_error_kind abi_kind(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::bad_input:
      return AIOLOS_ERROR_BAD_INPUT;
    case ErrorKind::configuration:
      return AIOLOS_ERROR_CONFIGURATION;
    case ErrorKind::refused:
      return AIOLOS_ERROR_REFUSED;
    case ErrorKind::retry:
      return AIOLOS_ERROR_RETRY;
    case ErrorKind::storage:
    case ErrorKind::hypervisor:
      return AIOLOS_ERROR_STORAGE;
    case ErrorKind::bug:
      break;
  }
  return AIOLOS_ERROR_BUG;
}

/// Puts members into a call's result; remembers whether any was refused (the call has then failed already).
class Put {
 public:
  Put(const aiolos_host* host, aiolos_call* call) : host_(host), call_(call) {}

  void string(const char* pointer, std::string_view text) {
    failed_ |= host_->put_string(call_, pointer, text.data(), text.size());
  }
  void string_if_any(const char* pointer, std::string_view text) {
    if (!text.empty()) string(pointer, text);
  }
  void boolean(const char* pointer, bool truth) { failed_ |= host_->put_boolean(call_, pointer, truth); }
  void json(const char* pointer, const Json& value) {
    const std::string text = value.dump();
    failed_ |= host_->put_json(call_, pointer, text.data(), text.size());
  }
  int status() const { return failed_ != 0; }

 private:
  const aiolos_host* host_;
  aiolos_call* call_;
  int failed_ = 0;
};

/// "/source/hosts/" INDEX "/name" and the like, without allocating: hosts and rejections are put for every disk XML.
class IndexedPointer {
 public:
  IndexedPointer(std::string_view prefix, std::size_t index) {
    char* const end = std::copy(prefix.begin(), prefix.end(), text_);
    member_ = std::to_chars(end, text_ + sizeof text_, index).ptr;
  }
  /// @param member "/name"; valid until the next call.
  const char* operator()(std::string_view member) {
    *std::copy(member.begin(), member.end(), member_) = '\0';
    return text_;
  }

 private:
  char text_[64];  // a prefix of at most 16 bytes, 20 digits, a member of at most 16
  char* member_;
};

void put_host(Put& put, std::size_t index, const SourceHost& host) {
  IndexedPointer pointer("/source/hosts/", index);
  put.string(pointer("/name"), host.name);
  put.string_if_any(pointer("/port"), host.port);
  put.string_if_any(pointer("/transport"), host.transport);
  put.string_if_any(pointer("/socket"), host.socket);
}

Result<std::string> text_at(const Value& object, std::string_view key) {
  AIOLOS_TRY(const std::string_view text, object.at(key).string_or(""));
  return std::string(text);
}

Result<SourceHost> read_host(const Value& value) {
  SourceHost host;
  AIOLOS_TRY(host.name, text_at(value, "name"));
  AIOLOS_TRY(host.port, text_at(value, "port"));
  AIOLOS_TRY(host.transport, text_at(value, "transport"));
  AIOLOS_TRY(host.socket, text_at(value, "socket"));
  return host;
}

Result<SourceAuth> read_auth(const Value& value) {
  SourceAuth auth;
  AIOLOS_TRY(auth.username, text_at(value, "username"));
  AIOLOS_TRY(auth.secret_type, text_at(value, "secret_type"));
  AIOLOS_TRY(auth.secret_uuid, text_at(value, "secret_uuid"));
  return auth;
}

Result<DiskSource> read_source(const Value& value) {
  DiskSource source;
  const Value kind = value.at("type");
  AIOLOS_TRY(const std::string_view kind_name, kind.string());
  const std::optional<SourceKind> known = source_kind_from_string(kind_name);
  if (!known) return kind.mismatch("\"file\", \"block\" or \"network\"");
  source.kind = *known;
  AIOLOS_TRY(source.path, text_at(value, "path"));
  AIOLOS_TRY(source.protocol, text_at(value, "protocol"));
  AIOLOS_TRY(source.name, value.at("name").find_string());
  for (const Value host : value.at("hosts")) {
    AIOLOS_TRY(SourceHost read, read_host(host));
    source.hosts.push_back(std::move(read));
  }
  if (const Value auth = value.at("auth")) {
    AIOLOS_TRY(source.auth, read_auth(auth));
  }
  AIOLOS_TRY(source.config_file, text_at(value, "config_file"));
  return source;
}

}  // namespace

int report(const aiolos_host* host, aiolos_call* call, const Error& error) {
  host->fail(call, abi_kind(error.kind), error.message.c_str(), error.next.c_str(),
             error.where.empty() ? nullptr : error.where.c_str());
  return 1;
}

int report_exception(const aiolos_host* host, aiolos_call* call, const char* slot) {
  static constexpr const char* kNext = "report this to the author of the plugin";
  try {
    throw;
  } catch (const std::exception& exception) {
    // No allocation that may throw again: this may be std::bad_alloc.
    char message[512];
    const auto end = fmt::format_to_n(message, sizeof message - 1, "an exception escaped {}: {}", slot,
                                      std::string_view(exception.what()))
                         .out;
    *end = '\0';
    host->fail(call, AIOLOS_ERROR_BUG, message, kNext, nullptr);
  } catch (...) {
    char message[128];
    *fmt::format_to_n(message, sizeof message - 1, "an exception that is no std::exception escaped {}", slot).out =
        '\0';
    host->fail(call, AIOLOS_ERROR_BUG, message, kNext, nullptr);
  }
  return 1;
}

int publish(const aiolos_host* host, aiolos_call* call, const Attachment& attachment) {
  Put put(host, call);
  const DiskSource& source = attachment.source;
  put.string("/source/type", to_string(source.kind));
  put.string_if_any("/source/path", source.path);
  put.string_if_any("/source/protocol", source.protocol);
  if (source.name) put.string("/source/name", *source.name);
  for (std::size_t index = 0; index < source.hosts.size(); ++index) put_host(put, index, source.hosts[index]);
  if (source.auth) {
    put.string("/source/auth/username", source.auth->username);
    put.string("/source/auth/secret_type", source.auth->secret_type);
    put.string("/source/auth/secret_uuid", source.auth->secret_uuid);
  }
  put.string_if_any("/source/config_file", source.config_file);
  if (attachment.format != "raw") put.string("/format", attachment.format);
  if (!attachment.state.is_null()) put.json("/state", attachment.state);
  return put.status();
}

int publish(const aiolos_host* host, aiolos_call* call, const AioAdvice& advice) {
  Put put(host, call);
  put.boolean("/effective", advice.effective);
  for (const AioMode mode : advice.permitted) put.string("/permitted/-", to_string(mode));
  if (advice.preferred) put.string("/preferred", to_string(*advice.preferred));
  for (const std::string& reason : advice.reasons) put.string("/reasons/-", reason);
  for (std::size_t index = 0; index < advice.rejected.size(); ++index) {
    IndexedPointer pointer("/rejected/", index);
    put.string(pointer("/mode"), to_string(advice.rejected[index].mode));
    put.string(pointer("/because"), advice.rejected[index].because);
  }
  return put.status();
}

int publish(const aiolos_host* host, aiolos_call* call, const StorageFacts& facts) {
  Put put(host, call);
  put.json("", to_json(facts));
  return put.status();
}

int publish_target(const aiolos_host* host, aiolos_call* call, const std::string& target) {
  return host->put_string(call, "/target", target.data(), target.size());
}

int publish_size(const aiolos_host* host, aiolos_call* call, std::uint64_t bytes) {
  return host->put_integer(call, "/size", static_cast<std::int64_t>(bytes));
}

Result<Attachment> read_attachment(const Call& call, const aiolos_value* value) {
  const Value root(call, value, ErrorKind::bug);
  Attachment attachment;
  AIOLOS_TRY(attachment.source, read_source(root.at("source")));
  AIOLOS_TRY(const std::string_view format, root.at("format").string_or("raw"));
  attachment.format = format;
  attachment.state = root.at("state").json();
  return attachment;
}

Result<StorageFacts> read_facts(const Call& call, const aiolos_value* value) {
  return storage_facts_from_json(Value(call, value, ErrorKind::bug).json());
}

bool host_suffices(const aiolos_host* host) {
  return host != nullptr && host->abi >> 16 == AIOLOS_ABI_MAJOR && host->size >= sizeof(aiolos_host);
}

}  // namespace aiolos::sdk::detail
