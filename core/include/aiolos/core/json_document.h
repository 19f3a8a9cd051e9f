// SPDX-License-Identifier: Apache-2.0
// JSON that is read and never changed: the documents that callers send, by the million.
//
// Where Json (nlohmann/json) allocates for each string and member, a JsonDocument keeps flat nodes in one block that it
// uses again for the next document. Plugins read these nodes through the ABI. Json stays what results, the
// configuration and the journal are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "aiolos/core/json.h"
#include "aiolos/core/result.h"

namespace aiolos {

struct JsonMember;

/// A value of a document: sixteen bytes of plain data, which view the document's text, elements and members. Reading
/// allocates nothing. Of no use once the document is gone or has parsed another text.
class JsonNode {
 public:
  enum class Type : std::uint8_t { null, boolean, negative, natural, real, string, array, object };

  constexpr JsonNode() : JsonNode(Type::null, 0) { natural_ = 0; }
  static constexpr JsonNode of(bool truth) { return of_natural(Type::boolean, truth ? 1 : 0); }
  static constexpr JsonNode of(std::uint64_t number) { return of_natural(Type::natural, number); }
  /// A number that is not negative becomes a natural one, as in every parser: equal documents compare equal.
  static constexpr JsonNode of(std::int64_t number) {
    return of_natural(number < 0 ? Type::negative : Type::natural, static_cast<std::uint64_t>(number));
  }
  static constexpr JsonNode of(double number);
  static constexpr JsonNode of(std::string_view text);
  static constexpr JsonNode array(const JsonNode* elements, std::size_t count);
  /// @param members of which the last with a key counts.
  static constexpr JsonNode object(const JsonMember* members, std::size_t count);

  constexpr Type type() const { return static_cast<Type>(head_ >> kSizeBits); }
  constexpr bool is_null() const { return type() == Type::null; }
  constexpr bool is_boolean() const { return type() == Type::boolean; }
  constexpr bool is_string() const { return type() == Type::string; }
  constexpr bool is_array() const { return type() == Type::array; }
  constexpr bool is_object() const { return type() == Type::object; }

  // What a value of that type holds. Undefined for one of another type.
  constexpr bool boolean() const { return natural_ != 0; }
  constexpr std::int64_t negative() const { return static_cast<std::int64_t>(natural_); }
  constexpr std::uint64_t natural() const { return natural_; }
  constexpr double real() const { return real_; }
  constexpr std::string_view string() const { return {text_, count()}; }

  /// Elements of an array or members of an object; 0 of anything else.
  constexpr std::size_t size() const { return type() >= Type::array ? count() : 0; }
  /// Element of an array; nullptr past the end or if this is none.
  constexpr const JsonNode* element(std::size_t index) const;
  /// Member of an object by position, in the order of the document; nullptr past the end or if this is none.
  constexpr const JsonMember* member(std::size_t index) const;
  /// Value of the member `key`; nullptr if it is absent or this is no object.
  const JsonNode* find(std::string_view key) const;

 private:
  static constexpr int kSizeBits = 56;

  constexpr JsonNode(Type type, std::size_t size) : head_(static_cast<std::uint64_t>(type) << kSizeBits | size) {}
  static constexpr JsonNode of_natural(Type type, std::uint64_t number) {
    JsonNode node(type, 0);
    node.natural_ = number;
    return node;
  }

  /// Bytes of a string, elements of an array, members of an object; 0 of anything else.
  constexpr std::size_t count() const { return head_ & ((std::uint64_t{1} << kSizeBits) - 1); }

  std::uint64_t head_;  // the type, and in its lower bits count(): a word, for two bit-fields are written one by one
  union {
    std::uint64_t natural_;
    double real_;
    const char* text_;
    const JsonNode* elements_;
    const JsonMember* members_;
  };
};

struct JsonMember {
  std::string_view key;
  JsonNode value;
};

/// A document and the memory of its nodes. Parsing one after the other with the same object allocates nothing more once
/// it has seen the largest. Not for two threads at once, except to read.
class JsonDocument {
 public:
  JsonDocument();  ///< null
  /// The same document as `value`, whose strings it views: `value` must live on, unchanged.
  explicit JsonDocument(const Json& value);
  /// As above, but it keeps `value`.
  explicit JsonDocument(Json&& value);
  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;
  ~JsonDocument();

  /// Reads one document as `parse_json` does, in place of the present one. Of two members with the same key the last
  /// counts. @return the root, which views copies: `text` may go. After an error the document is null.
  Result<const JsonNode*> parse(std::string_view text, std::string_view origin);

  const JsonNode& root() const { return root_; }

 private:
  struct Parser;  // simdjson's, with the strings of the document

  void build(const Json& value);
  std::byte* reserve(std::size_t bytes);

  std::unique_ptr<Parser> parser_;
  std::unique_ptr<Json> kept_;
  std::unique_ptr<std::byte[]> block_;  // members and elements
  std::size_t capacity_ = 0;
  JsonNode root_;
};

/// A copy of a value.
Json to_json(const JsonNode& value);

/// The JSON pointer of `value` within `document`, found by its address; nullopt if it is no part of it.
std::optional<std::string> pointer_within(const JsonNode& document, const JsonNode* value);

/// JsonView's checked reading for a document's nodes. Errors name the JSON pointer too, but look for it only then.
/// Two pointers: copy it freely, for as long as the document lives.
class NodeView {
 public:
  /// @param document what pointers begin at.
  explicit NodeView(const JsonNode& document) : NodeView(document, document) {}

  const JsonNode& node() const { return *node_; }
  /// Another value of the same document.
  NodeView view(const JsonNode& node) const { return NodeView(node, *document_); }
  std::string pointer() const { return pointer_within(*document_, node_).value_or(""); }

  /// The member `key`; nullopt if absent or null. An error if this value is no object.
  Result<std::optional<NodeView>> find(std::string_view key) const;
  /// The member `key`; an error naming the pointer if it is absent or null.
  Result<NodeView> at(std::string_view key) const;

  /// Lives as long as the document.
  Result<std::string_view> string() const {
    if (!node_->is_string()) return mismatch("a string");
    return node_->string();
  }
  /// A non-negative integer; also accepts one spelled as a string, as Cinder sends qos_specs.
  Result<std::uint64_t> unsigned_integer() const;

  /// `find` then the conversion; absent gives nullopt.
  Result<std::optional<std::string_view>> find_string(std::string_view key) const;
  Result<std::optional<std::uint64_t>> find_unsigned(std::string_view key) const;

  /// An error of kind bad_input at this value: "expected WHAT, found a number (5)".
  tl::unexpected<Error> mismatch(std::string_view expected) const;

 private:
  NodeView(const JsonNode& node, const JsonNode& document) : node_(&node), document_(&document) {}

  const JsonNode* node_;
  const JsonNode* document_;
};

/// Appends `text` as a JSON string, quotes included. What is no UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);

// ---- Definitions. ---------------------------------------------------------------------------------------------------

constexpr JsonNode JsonNode::of(double number) {
  JsonNode node(Type::real, 0);
  node.real_ = number;
  return node;
}

constexpr JsonNode JsonNode::of(std::string_view text) {
  JsonNode node(Type::string, text.size());
  node.text_ = text.data();
  return node;
}

constexpr JsonNode JsonNode::array(const JsonNode* elements, std::size_t count) {
  JsonNode node(Type::array, count);
  node.elements_ = elements;
  return node;
}

constexpr JsonNode JsonNode::object(const JsonMember* members, std::size_t count) {
  JsonNode node(Type::object, count);
  node.members_ = members;
  return node;
}

constexpr const JsonNode* JsonNode::element(std::size_t index) const {
  return is_array() && index < count() ? elements_ + index : nullptr;
}

constexpr const JsonMember* JsonNode::member(std::size_t index) const {
  return is_object() && index < count() ? members_ + index : nullptr;
}

namespace detail {

/// Whether two short texts are equal: without a call, for most of them are not and those that are take two steps.
inline bool equal(std::string_view a, std::string_view b) {
  const std::size_t size = a.size();
  if (size != b.size()) return false;
  if (size < sizeof(std::uint64_t)) {
    for (std::size_t i = 0; i < size; ++i)
      if (a[i] != b[i]) return false;
    return true;
  }
  const auto differ = [&](std::size_t at) {
    std::uint64_t x, y;
    std::memcpy(&x, a.data() + at, sizeof x);
    std::memcpy(&y, b.data() + at, sizeof y);
    return x != y;
  };
  for (std::size_t at = 0; at + sizeof(std::uint64_t) < size; at += sizeof(std::uint64_t))
    if (differ(at)) return false;
  return !differ(size - sizeof(std::uint64_t));
}

}  // namespace detail

inline const JsonNode* JsonNode::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (std::size_t i = count(); i-- != 0;)
    if (detail::equal(members_[i].key, key)) return &members_[i].value;
  return nullptr;
}

}  // namespace aiolos
