// SPDX-License-Identifier: Apache-2.0
// sdk::Value: typed reading of the host's JSON values, with errors that name their place.
#include "aiolos/plugin.hpp"

namespace aiolos::sdk {
namespace {

std::string_view view(aiolos_str text) {
  return text.size == 0 ? std::string_view() : std::string_view(text.data, text.size);
}

std::string_view type_name(aiolos_value_type type) {
  switch (type) {
    case AIOLOS_NULL:
      return "nothing";
    case AIOLOS_BOOLEAN:
      return "a boolean";
    case AIOLOS_INTEGER:
      return "an integer";
    case AIOLOS_REAL:
      return "a number that is no integer";
    case AIOLOS_STRING:
      return "a string";
    case AIOLOS_ARRAY:
      return "an array";
    case AIOLOS_OBJECT:
      return "an object";
  }
  return "an unknown type";
}

std::string_view what_to_do(ErrorKind blame) {
  switch (blame) {
    case ErrorKind::configuration:
      return "correct the driver's section of the configuration";
    case ErrorKind::bug:
      return "report this to the authors of Aiolos";
    default:
      return "correct the connection_info";
  }
}

}  // namespace

aiolos_value_type Value::type() const { return call_->host().value_type(value_); }

Value Value::at(std::string_view key) const {
  Value member = *this;
  if (missing()) {
    // Two keys are enough for every driver's data. Of more, those above are the ones to name: they are missing too.
    if (missing_below_.data() == nullptr) member.missing_below_ = key;
    return member;
  }
  member.value_ = call_->host().value_member(value_, key.data(), key.size());
  if (member.value_ == nullptr) {
    member.missing_in_ = value_;
    member.missing_key_ = key;
  }
  return member;
}

std::size_t Value::size() const { return call_->host().value_size(value_); }

Value Value::operator[](std::size_t index) const {
  return Value(*call_, call_->host().value_element(value_, index), blame_);
}

std::string_view Value::key(std::size_t index) const { return view(call_->host().value_key(value_, index)); }

Result<std::string_view> Value::string() const {
  aiolos_str text;
  if (!call_->host().value_string(value_, &text)) return mismatch("a string");
  return view(text);
}

Result<std::int64_t> Value::integer() const {
  std::int64_t number = 0;
  if (!call_->host().value_integer(value_, &number)) return mismatch("an integer");
  return number;
}

Result<bool> Value::boolean() const {
  int truth = 0;
  if (!call_->host().value_boolean(value_, &truth)) return mismatch("a boolean");
  return truth != 0;
}

Result<std::string> Value::text() const {
  aiolos_str text;
  if (call_->host().value_string(value_, &text)) return std::string(view(text));
  std::int64_t number = 0;
  if (call_->host().value_integer(value_, &number)) return std::to_string(number);
  return mismatch("a string or an integer");
}

Result<Secret> Value::secret() const {
  AIOLOS_TRY(const std::string_view text, string());
  return Secret(std::string(text));
}

Result<std::string_view> Value::string_or(std::string_view otherwise) const {
  if (!present()) return otherwise;
  return string();
}

Result<std::int64_t> Value::integer_or(std::int64_t otherwise) const {
  if (!present()) return otherwise;
  return integer();
}

Result<bool> Value::boolean_or(bool otherwise) const {
  if (!present()) return otherwise;
  return boolean();
}

Result<std::optional<std::string>> Value::find_string() const {
  if (!present()) return std::nullopt;
  AIOLOS_TRY(const std::string_view text, string());
  return std::string(text);
}

Json Value::json() const {
  const aiolos_host& host = call_->host();
  switch (type()) {
    case AIOLOS_NULL:
      return nullptr;
    case AIOLOS_BOOLEAN:
      return boolean().value_or(false);
    case AIOLOS_INTEGER:
      return integer().value_or(0);
    case AIOLOS_REAL: {
      double number = 0;
      host.value_real(value_, &number);
      return number;
    }
    case AIOLOS_STRING:
      return std::string(string().value_or(""));
    case AIOLOS_ARRAY: {
      Json array = Json::array();
      for (const Value element : *this) array.push_back(element.json());
      return array;
    }
    case AIOLOS_OBJECT: {
      Json object = Json::object();
      for (std::size_t index = 0; index < size(); ++index) object.emplace(key(index), (*this)[index].json());
      return object;
    }
  }
  return nullptr;
}

std::string Value::pointer() const {
  std::string path(view(call_->host().value_pointer(call_->raw(), missing() ? missing_in_ : value_)));
  if (missing()) path.append("/").append(pointer_token(missing_key_));
  if (missing_below_.data() != nullptr) path.append("/").append(pointer_token(missing_below_));
  return path;
}

tl::unexpected<Error> Value::mismatch(std::string_view expected) const {
  if (missing()) {
    const Value holder(*call_, missing_in_, blame_);
    if (holder && holder.type() != AIOLOS_OBJECT) return holder.mismatch("an object");
    return error("this key is required and missing", "add " + pointer());
  }
  std::string message = "expected ";
  message.append(expected).append(", found ").append(type_name(type()));
  return error(std::move(message), std::string(what_to_do(blame_)));
}

tl::unexpected<Error> Value::error(std::string message, std::string next) const {
  return aiolos::fail(blame_, std::move(message), std::move(next), pointer());
}

}  // namespace aiolos::sdk
