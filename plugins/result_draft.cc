// SPDX-License-Identifier: Apache-2.0
#include "result_draft.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "host_call.h"

namespace aiolos {
namespace {

/// Whether a token names a place in an array.
bool is_index(std::string_view token) {
  if (token == "-") return true;
  return !token.empty() && token.find_first_not_of("0123456789") == std::string_view::npos;
}

/// Whether two texts are equal, compared without a call as the size of one is known.
template <std::size_t n>
bool is(std::string_view text, const char (&literal)[n]) {
  return text.size() == n - 1 && std::memcmp(text.data(), literal, n - 1) == 0;
}

/// RFC 6901, section 4: "~1" is '/', "~0" is '~'; nullopt for another use of '~'.
std::optional<std::string> unescape(std::string_view token) {
  std::string plain;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] != '~') {
      plain += token[i];
      continue;
    }
    const char code = ++i < token.size() ? token[i] : '\0';
    if (code != '0' && code != '1') return std::nullopt;
    plain += code == '0' ? '~' : '/';
  }
  return plain;
}

tl::unexpected<Error> impossible(std::string_view pointer, std::string_view why) {
  return fail(ErrorKind::bug, fmt::format("\"{}\" cannot be set: {}", readable(pointer), why));
}

Result<Json*> array_element(Json& array, std::string_view token, std::string_view pointer) {
  auto& elements = array.get_ref<Json::array_t&>();
  std::size_t index = elements.size();
  if (token != "-") {
    if (!is_index(token)) return impossible(pointer, fmt::format("'{}' is no place in an array", token));
    std::from_chars(token.data(), token.data() + token.size(), index);
    if (index > elements.size())
      return impossible(pointer, fmt::format("element {} of an array of {}", token, elements.size()));
  }
  if (index == elements.size()) elements.emplace_back(nullptr);
  return &elements[index];
}

Result<Json*> object_member(Json& object, std::string_view token, std::string_view pointer) {
  auto& members = object.get_ref<Json::object_t&>();
  std::optional<std::string> plain;
  if (token.find('~') != std::string_view::npos) {
    plain = unescape(token);
    if (!plain) return impossible(pointer, "'~' is followed by 0 or 1 in a JSON pointer");
    token = *plain;
  }
  const auto place = members.lower_bound(token);
  if (place != members.end() && place->first == token) return &place->second;
  return &members.emplace_hint(place, token, nullptr)->second;
}

/// The rest of `pointer` behind `prefix` and a number, which is put into `index`; nullopt if it is not of that shape.
std::optional<std::string_view> behind_index(std::string_view pointer, std::string_view prefix, std::size_t& index) {
  if (!pointer.starts_with(prefix)) return std::nullopt;
  pointer.remove_prefix(prefix.size());
  const auto [end, error] = std::from_chars(pointer.data(), pointer.data() + pointer.size(), index);
  if (error != std::errc()) return std::nullopt;
  pointer.remove_prefix(static_cast<std::size_t>(end - pointer.data()));
  return pointer;
}

}  // namespace

Result<Json*> result_member(Json& result, std::string_view pointer) {
  if (!pointer.empty() && pointer.front() != '/') return impossible(pointer, "a JSON pointer begins with '/'");
  if (!is_utf8(pointer)) return impossible(pointer, "it is not UTF-8");
  Json* place = &result;
  for (std::string_view rest = pointer; !rest.empty();) {
    rest.remove_prefix(1);
    const std::string_view token = rest.substr(0, rest.find('/'));
    rest.remove_prefix(token.size());
    if (place->is_null()) *place = is_index(token) ? Json::array() : Json::object();
    if (!place->is_structured()) return impossible(pointer, fmt::format("what holds '{}' is a value already", token));
    const auto next = place->is_array() ? array_element(*place, token, pointer) : object_member(*place, token, pointer);
    if (!next) return next;
    place = *next;
  }
  return place;
}

bool ResultDraft::AttachmentDraft::put_host(std::string_view pointer, std::string_view text) {
  constexpr std::size_t kUsualHosts = 4;
  std::vector<SourceHost>& hosts = value.source.hosts;
  std::size_t index = 0;
  const auto member = behind_index(pointer, "/source/hosts/", index);
  if (!member || index > hosts.size()) return false;
  if (hosts.capacity() == 0) hosts.reserve(kUsualHosts);
  std::string SourceHost::*const place = is(*member, "/name")        ? &SourceHost::name
                                         : is(*member, "/port")      ? &SourceHost::port
                                         : is(*member, "/transport") ? &SourceHost::transport
                                         : is(*member, "/socket")    ? &SourceHost::socket
                                                                     : nullptr;
  if (place == nullptr) return false;
  if (index == hosts.size()) hosts.emplace_back();
  hosts[index].*place = text;
  return true;
}

bool ResultDraft::AttachmentDraft::put_auth(std::string_view pointer, std::string_view text) {
  std::string SourceAuth::*const place = is(pointer, "/source/auth/username")      ? &SourceAuth::username
                                         : is(pointer, "/source/auth/secret_type") ? &SourceAuth::secret_type
                                         : is(pointer, "/source/auth/secret_uuid") ? &SourceAuth::secret_uuid
                                                                                   : nullptr;
  if (place == nullptr) return false;
  if (!value.source.auth) value.source.auth.emplace();
  *value.source.auth.*place = text;
  return true;
}

bool ResultDraft::AttachmentDraft::put(std::string_view pointer, std::string_view text) {
  DiskSource& source = value.source;
  if (is(pointer, "/source/path")) {
    source.path = text;
  } else if (is(pointer, "/source/type")) {
    const auto kind = source_kind_from_string(text);
    if (!kind) return false;
    source.kind = *kind;
    has_type = true;
  } else if (is(pointer, "/format")) {
    value.format = text;
  } else if (is(pointer, "/source/protocol")) {
    source.protocol = text;
  } else if (is(pointer, "/source/name")) {
    source.name = text;
  } else if (is(pointer, "/source/config_file")) {
    source.config_file = text;
  } else {
    return put_host(pointer, text) || put_auth(pointer, text);
  }
  return true;
}

bool ResultDraft::AttachmentDraft::complete() const {
  const DiskSource& source = value.source;
  return has_type && !(source.kind == SourceKind::network ? source.protocol : source.path).empty();
}

Json ResultDraft::AttachmentDraft::json() const {
  Json result = to_json(value);
  if (!has_type) result["source"].erase("type");
  return result;
}

bool ResultDraft::AdviceDraft::put(std::string_view pointer, std::string_view text) {
  std::size_t index = 0;
  if (pointer == "/reasons/-") {
    value.reasons.emplace_back(text);
    return true;
  }
  if (const auto member = behind_index(pointer, "/rejected/", index); member == "/because") {
    if (!because_due || index + 1 != value.rejected.size()) return false;
    value.rejected.back().because = text;
    because_due = false;
    return true;
  }
  const auto mode = aio_mode_from_string(text);
  if (!mode) return false;
  if (pointer == "/permitted/-") {
    value.permitted.push_back(*mode);
  } else if (pointer == "/preferred") {
    value.preferred = mode;
  } else if (behind_index(pointer, "/rejected/", index) == "/mode" && index == value.rejected.size() && !because_due) {
    value.rejected.push_back({*mode, {}});
    because_due = true;
  } else {
    return false;
  }
  return true;
}

bool ResultDraft::AdviceDraft::complete() const {
  if (because_due) return false;
  if (!value.effective) return value.permitted.empty() && !value.preferred;
  return !value.permitted.empty() && (!value.preferred || value.permits(*value.preferred));
}

Json ResultDraft::AdviceDraft::json() const {
  Json result = to_json(value);
  if (value.permitted.empty()) result.erase("permitted");
  if (because_due) result["rejected"].back().erase("because");
  return result;
}

ResultDraft::ResultDraft(Wanted wanted) {
  if (wanted == Wanted::attachment) draft_.emplace<AttachmentDraft>();
  if (wanted == Wanted::advice) draft_.emplace<AdviceDraft>();
}

const Json& ResultDraft::json() {
  if (const auto* typed = std::get_if<AttachmentDraft>(&draft_)) draft_ = empty_ ? Json() : typed->json();
  if (const auto* typed = std::get_if<AdviceDraft>(&draft_)) draft_ = empty_ ? Json() : typed->json();
  return std::get<Json>(draft_);
}

bool ResultDraft::put_expected(std::string_view pointer, std::string_view text) {
  bool done = false;
  if (auto* typed = std::get_if<AttachmentDraft>(&draft_)) done = typed->put(pointer, text);
  if (auto* typed = std::get_if<AdviceDraft>(&draft_)) done = typed->put(pointer, text);
  if (done) empty_ = false;
  return done;
}

Result<void> ResultDraft::put(std::string_view pointer, std::string_view text) {
  if (put_expected(pointer, text)) return {};
  return put(pointer, Json(text));
}

Result<void> ResultDraft::put(std::string_view pointer, bool truth) {
  if (auto* typed = std::get_if<AdviceDraft>(&draft_); typed != nullptr && pointer == "/effective") {
    typed->value.effective = truth;
    empty_ = false;
    return {};
  }
  return put(pointer, Json(truth));
}

Result<void> ResultDraft::put(std::string_view pointer, Json value) {
  json();
  const auto place = result_member(std::get<Json>(draft_), pointer);
  if (!place) return tl::unexpected(place.error());
  **place = std::move(value);
  empty_ = false;
  return {};
}

Result<Attachment> ResultDraft::attachment() {
  if (auto* typed = std::get_if<AttachmentDraft>(&draft_); typed != nullptr && typed->complete())
    return std::move(typed->value);
  return attachment_from_json(json());
}

Result<AioAdvice> ResultDraft::advice() {
  if (auto* typed = std::get_if<AdviceDraft>(&draft_); typed != nullptr && typed->complete())
    return std::move(typed->value);
  return aio_advice_from_json(json());
}

}  // namespace aiolos
