// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/json_document.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include <fmt/format.h>
#include <simdjson.h>

#include "json_explain.h"

namespace aiolos {
namespace {

// What a value takes up at most in a document's block for each byte of its text: a member is no shorter than `"":1,`
// and an element than `1,`.
constexpr std::size_t kBytesPerByteOfText = 8;
static_assert(sizeof(JsonMember) <= 5 * kBytesPerByteOfText && sizeof(JsonNode) <= 2 * kBytesPerByteOfText);

/// Gives out room in a block that is known to be large enough.
class Block {
 public:
  explicit Block(std::byte* begin) : at_(begin) {}

  /// Members or elements, to be set: bytes become objects of such types by being used as them.
  template <typename T>
  T* take(std::size_t count) {
    T* const first = reinterpret_cast<T*>(at_);
    at_ += count * sizeof(T);
    return first;
  }

 private:
  std::byte* at_;
};

/// Turns what simdjson parsed into nodes, in one walk over its tape: its own iterators would look at most words twice.
/// Source: simdjson, doc/tape.md.
class Tape {
 public:
  Tape(const simdjson::dom::document& document, Block& block)
      : words_(document.tape.get()),
        strings_(reinterpret_cast<const char*>(document.string_buf.get())),
        block_(block) {}

  JsonNode root() {
    at_ = 1;  // behind the word that stands for the document
    return value();
  }

 private:
  static constexpr std::uint64_t kPayload = (std::uint64_t{1} << 56) - 1;

  JsonNode value() {
    const std::uint64_t word = words_[at_++];
    switch (static_cast<char>(word >> 56)) {
      case '{':
        return object(word);
      case '[':
        return array(word);
      case '"':
        return JsonNode::of(string(word));
      case 'l':
        return JsonNode::of(static_cast<std::int64_t>(words_[at_++]));
      case 'u':
        return JsonNode::of(words_[at_++]);
      case 'd':
        return JsonNode::of(std::bit_cast<double>(words_[at_++]));
      case 't':
        return JsonNode::of(true);
      case 'f':
        return JsonNode::of(false);
      default:
        return {};
    }
  }

  JsonNode object(std::uint64_t start) {
    const std::size_t count = count_of(start, 2);
    JsonMember* const members = block_.take<JsonMember>(count);
    for (std::size_t i = 0; i < count; ++i) {
      members[i].key = string(words_[at_++]);
      members[i].value = is_string(words_[at_]) ? JsonNode::of(string(words_[at_++])) : value();
    }
    ++at_;  // the closing brace
    return JsonNode::object(members, count);
  }

  JsonNode array(std::uint64_t start) {
    const std::size_t count = count_of(start, 1);
    JsonNode* const elements = block_.take<JsonNode>(count);
    for (std::size_t i = 0; i < count; ++i) elements[i] = value();
    ++at_;
    return JsonNode::array(elements, count);
  }

  static bool is_string(std::uint64_t word) { return word >> 56 == '"'; }

  std::string_view string(std::uint64_t word) const {
    const char* const place = strings_ + (word & kPayload);
    std::uint32_t size;
    std::memcpy(&size, place, sizeof size);
    return {place + sizeof size, size};
  }

  /// Members or elements of the container whose first word has just been read; simdjson counts only so many.
  std::size_t count_of(std::uint64_t start, std::size_t words_each) const {
    constexpr std::size_t kSaturated = 0xFFFFFF;
    const std::size_t counted = (start & kPayload) >> 32;
    if (counted < kSaturated) return counted;
    const std::size_t end = (start & 0xFFFFFFFF) - 1;  // the closing word
    std::size_t count = 0;
    for (std::size_t at = at_; at < end; ++count) at = behind(at + words_each - 1);
    return count;
  }

  /// The place behind the value at `at`.
  std::size_t behind(std::size_t at) const {
    switch (static_cast<char>(words_[at] >> 56)) {
      case '{':
      case '[':
        return words_[at] & 0xFFFFFFFF;
      case 'l':
      case 'u':
      case 'd':
        return at + 2;
      default:
        return at + 1;
    }
  }

  const std::uint64_t* words_;
  const char* strings_;
  Block& block_;
  std::size_t at_ = 0;
};

/// Bytes of a block that holds what `value` consists of.
std::size_t bytes_of(const Json& value) {
  std::size_t bytes = 0;
  if (value.is_object()) {
    for (const auto& [key, member] : value.get_ref<const Json::object_t&>())
      bytes += sizeof(JsonMember) + bytes_of(member);
  } else if (value.is_array()) {
    for (const Json& element : value.get_ref<const Json::array_t&>()) bytes += sizeof(JsonNode) + bytes_of(element);
  }
  return bytes;
}

JsonNode read(const Json& value, Block& block) {
  switch (value.type()) {
    case Json::value_t::object: {
      const auto& source = value.get_ref<const Json::object_t&>();
      JsonMember* const members = block.take<JsonMember>(source.size());
      JsonMember* place = members;
      for (const auto& [key, member] : source) *place++ = {key, read(member, block)};
      return JsonNode::object(members, source.size());
    }
    case Json::value_t::array: {
      const auto& source = value.get_ref<const Json::array_t&>();
      JsonNode* const elements = block.take<JsonNode>(source.size());
      std::transform(source.begin(), source.end(), elements, [&](const Json& element) { return read(element, block); });
      return JsonNode::array(elements, source.size());
    }
    case Json::value_t::string:
      return JsonNode::of(std::string_view(value.get_ref<const std::string&>()));
    case Json::value_t::boolean:
      return JsonNode::of(value.get<bool>());
    case Json::value_t::number_integer:
      return JsonNode::of(value.get<std::int64_t>());
    case Json::value_t::number_unsigned:
      return JsonNode::of(value.get<std::uint64_t>());
    case Json::value_t::number_float:
      return JsonNode::of(value.get<double>());
    default:
      return {};
  }
}

}  // namespace

struct JsonDocument::Parser {
  simdjson::dom::parser parser;
};

JsonDocument::JsonDocument() = default;
JsonDocument::JsonDocument(const Json& value) { build(value); }
JsonDocument::JsonDocument(Json&& value) : kept_(std::make_unique<Json>(std::move(value))) { build(*kept_); }
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

std::byte* JsonDocument::reserve(std::size_t bytes) {
  if (bytes > capacity_) {
    block_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    capacity_ = bytes;
  }
  return block_.get();
}

void JsonDocument::build(const Json& value) {
  Block block(reserve(bytes_of(value)));
  root_ = read(value, block);
}

Result<const JsonNode*> JsonDocument::parse(std::string_view text, std::string_view origin) {
  root_ = {};
  if (!parser_) parser_ = std::make_unique<Parser>();
  const auto error = parser_->parser.parse(text.data(), text.size(), /*realloc_if_needed=*/true).error();
  if (error == simdjson::SUCCESS) {
    Block block(reserve(kBytesPerByteOfText * text.size() + sizeof(JsonMember)));
    root_ = Tape(parser_->parser.doc, block).root();
    return &root_;
  }
  if (error == simdjson::DEPTH_ERROR)
    return fail(ErrorKind::bad_input, "JSON nested more than 1,024 levels deep", "send a document of sensible depth",
                std::string(origin));
  auto explained = parse_or_explain(text, origin);
  if (!explained) return tl::unexpected(std::move(explained).error());
  kept_ = std::make_unique<Json>(std::move(*explained));
  build(*kept_);
  return &root_;
}

Json to_json(const JsonNode& value) {
  switch (value.type()) {
    case JsonNode::Type::null:
      break;
    case JsonNode::Type::boolean:
      return value.boolean();
    case JsonNode::Type::negative:
      return value.negative();
    case JsonNode::Type::natural:
      return value.natural();
    case JsonNode::Type::real:
      return value.real();
    case JsonNode::Type::string:
      return std::string(value.string());
    case JsonNode::Type::array: {
      Json array = Json::array();
      for (std::size_t i = 0; i < value.size(); ++i) array.push_back(to_json(*value.element(i)));
      return array;
    }
    case JsonNode::Type::object: {
      Json object = Json::object();
      auto& members = object.get_ref<Json::object_t&>();
      for (std::size_t i = 0; i < value.size(); ++i)
        members.insert_or_assign(std::string(value.member(i)->key), to_json(value.member(i)->value));
      return object;
    }
  }
  return nullptr;
}

std::optional<std::string> pointer_within(const JsonNode& document, const JsonNode* value) {
  if (&document == value) return std::string();
  for (std::size_t i = 0; i < document.size(); ++i) {
    if (const JsonMember* member = document.member(i)) {
      if (const auto rest = pointer_within(member->value, value))
        return fmt::format("/{}{}", pointer_token(member->key), *rest);
    } else if (const auto rest = pointer_within(*document.element(i), value)) {
      return fmt::format("/{}{}", i, *rest);
    }
  }
  return std::nullopt;
}

tl::unexpected<Error> NodeView::mismatch(std::string_view expected) const {
  // Worded where all such errors are. A copy of the value says what it is; nothing inside it is looked at.
  const Json shown = node_->is_object() ? Json::object() : node_->is_array() ? Json::array() : to_json(*node_);
  return JsonView(shown, pointer()).mismatch(expected);
}

Result<std::optional<NodeView>> NodeView::find(std::string_view key) const {
  if (!node_->is_object()) return mismatch("an object");
  const JsonNode* const member = node_->find(key);
  if (member == nullptr || member->is_null()) return std::nullopt;
  return NodeView(*member, *document_);
}

Result<NodeView> NodeView::at(std::string_view key) const {
  if (const JsonNode* const member = node_->find(key); member != nullptr && !member->is_null())
    return NodeView(*member, *document_);
  const auto found = find(key);
  if (!found) return tl::unexpected(found.error());
  return tl::unexpected(JsonView(Json::object(), pointer()).at(key).error());
}

Result<std::uint64_t> NodeView::unsigned_integer() const {
  if (node_->type() == JsonNode::Type::natural) return node_->natural();
  if (node_->is_string()) {
    const std::string_view text = node_->string();
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc() && end == text.data() + text.size()) return number;
  }
  return mismatch("a non-negative integer");
}

// Most members that are looked for are not there: these two ask the node before they make a view of what it has.

Result<std::optional<std::string_view>> NodeView::find_string(std::string_view key) const {
  if (!node_->is_object()) return mismatch("an object");
  const JsonNode* const member = node_->find(key);
  if (member == nullptr || member->is_null()) return std::nullopt;
  if (member->is_string()) return member->string();
  return NodeView(*member, *document_).mismatch("a string");
}

Result<std::optional<std::uint64_t>> NodeView::find_unsigned(std::string_view key) const {
  if (!node_->is_object()) return mismatch("an object");
  const JsonNode* const member = node_->find(key);
  if (member == nullptr || member->is_null()) return std::nullopt;
  return NodeView(*member, *document_).unsigned_integer();
}

}  // namespace aiolos
