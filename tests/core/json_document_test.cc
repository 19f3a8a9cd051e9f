// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/json_document.h"

#include <gtest/gtest.h>

namespace aiolos {
namespace {

constexpr const char* kCorpus[] = {
    R"({})",
    R"([])",
    R"("x")",
    R"("")",
    R"(null)",
    R"(true)",
    R"(1)",
    R"(-1)",
    R"(0)",
    R"(-0)",
    R"(1.5e3)",
    R"(-0.0)",
    R"(18446744073709551615)",
    R"(9223372036854775808)",
    R"(-9223372036854775808)",
    R"(18446744073709551616)",
    R"(123456789012345678901234567890)",
    R"(1e308)",
    R"({"a": {"b": [1, "zwei", null, true, false, {"c": -2.5}]}, "ü€😀": "\u00fc\n\"\\\/\ud83d\ude00\u0000"})",
    R"({"twice": 1, "twice": 2})",
    R"({"b": 1, "twice": [1], "a": {}, "twice": {"x": 1, "x": null}, "": 0, "": 1})",
    R"([[[[]], {}], [{"k": [{}]}]])",
    "  [1,2 , 3]\n\t "};

TEST(JsonDocument, EqualsTheReferenceParser) {
  JsonDocument document;  // the same for all: what is left of one must not show in the next
  for (const char* text : kCorpus) {
    const auto root = document.parse(text, "test");
    ASSERT_TRUE(root) << text << ": " << describe(root.error());
    EXPECT_EQ(to_json(**root), Json::parse(text)) << text;
    EXPECT_EQ(to_json(**root).dump(), Json::parse(text).dump()) << text;
    EXPECT_EQ(to_json(JsonDocument(Json::parse(text)).root()).dump(), Json::parse(text).dump()) << text;
  }
}

TEST(JsonDocument, OfTwoMembersWithOneKeyTheLastCounts) {
  std::string many = "{";
  for (int i = 0; i < 1000; ++i) many += "\"key" + std::to_string(i % 300) + "\": " + std::to_string(i) + ", ";
  many += "\"last\": 1}";
  JsonDocument document;
  const auto root = document.parse(many, "test");
  ASSERT_TRUE(root);
  EXPECT_EQ((*root)->size(), 1001u);
  EXPECT_EQ((*root)->find("key99")->natural(), 999u);
  EXPECT_EQ((*root)->member(0)->key, "key0");
  EXPECT_EQ(to_json(**root), Json::parse(many));
}

TEST(JsonDocument, SaysWhatIsWrongAndThenIsNull) {
  JsonDocument document;
  ASSERT_TRUE(document.parse(R"({"a": 1})", "conn.json"));
  const auto wrong = document.parse("{\n  \"a\": tru\n}", "conn.json");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().where, "conn.json:2:11");
  EXPECT_TRUE(document.root().is_null());
  EXPECT_FALSE(document.parse("{} {}", "conn.json"));
  EXPECT_FALSE(document.parse("\"\xff\"", "conn.json"));
  EXPECT_FALSE(document.parse(R"("\ud800")", "conn.json"));
  EXPECT_FALSE(document.parse("", "conn.json"));
  const auto deep = document.parse(std::string(100'000, '[') + std::string(100'000, ']'), "deep");
  ASSERT_FALSE(deep);
  EXPECT_NE(deep.error().message.find("nested"), std::string::npos);
}

TEST(JsonDocument, ReadsWhatIsNestedAndWhatIsLong) {
  JsonDocument document;
  const std::string nested = std::string(1000, '[') + "7" + std::string(1000, ']');
  const auto root = document.parse(nested, "test");
  ASSERT_TRUE(root);
  const JsonNode* node = *root;
  while (node->is_array()) node = node->element(0);
  EXPECT_EQ(node->natural(), 7u);

  std::string long_list = "[";
  for (int i = 0; i < 100'000; ++i) long_list += "0,";
  const auto list = document.parse(long_list + "1]", "test");
  ASSERT_TRUE(list);
  EXPECT_EQ((*list)->size(), 100'001u);
  EXPECT_EQ((*list)->element(100'000)->natural(), 1u);
}

TEST(JsonDocument, ViewsOrKeepsAJson) {
  const Json json = {{"text", "a text that is too long for a small string"}};
  const JsonDocument viewing(json);
  EXPECT_EQ(viewing.root().find("text")->string().data(), json["text"].get_ref<const std::string&>().data());
  const JsonDocument keeping(Json{{"text", "a text that is too long for a small string"}});
  JsonDocument moved;
  moved = JsonDocument(Json(json));
  EXPECT_EQ(to_json(keeping.root()), json);
  EXPECT_EQ(to_json(moved.root()), json);
}

TEST(JsonNode, AnswersForWhatIsNotThere) {
  const JsonDocument document(Json{{"list", {1, 2}}, {"nothing", nullptr}});
  const JsonNode& root = document.root();
  EXPECT_EQ(root.find("absent"), nullptr);
  EXPECT_EQ(root.element(0), nullptr);
  EXPECT_EQ(root.member(2), nullptr);
  EXPECT_EQ(root.find("list")->element(2), nullptr);
  EXPECT_EQ(root.find("list")->find("list"), nullptr);
  EXPECT_EQ(root.find("nothing")->size(), 0u);
  EXPECT_EQ(JsonNode::of(std::string_view("text")).size(), 0u);
  EXPECT_EQ(JsonNode::object(nullptr, 0).find("absent"), nullptr);  // under ubsan: it looks at no member
}

TEST(JsonNode, FindsKeysOfEveryLength) {
  Json json = Json::object();
  for (std::size_t size = 0; size < 40; ++size) json[std::string(size, 'k')] = size;
  const JsonDocument document(json);
  for (std::size_t size = 0; size < 40; ++size) {
    std::string key(size, 'k');
    EXPECT_EQ(document.root().find(key)->natural(), size);
    for (std::size_t i = 0; i < size; ++i) {
      key[i] = 'j';
      EXPECT_EQ(document.root().find(key), nullptr) << key;
      key[i] = 'k';
    }
  }
}

TEST(NodeView, ReadsAndFailsAsJsonViewDoes) {
  const Json json = Json::parse(R"({"data": {"a/b": 1, "list": [{"deep": true}], "null": null, "n": "42", "minus": -3,
                                            "text": "t", "real": 1.5}})");
  const JsonDocument document(json);
  const NodeView data = *NodeView(document.root()).at("data");
  const JsonView reference = *JsonView(json).at("data");
  for (const char* key : {"a/b", "list", "null", "n", "minus", "text", "real", "absent"}) {
    const auto text = data.find_string(key).map_error([](const Error& error) { return describe(error) + error.next; });
    const auto expected = reference.find_string(key);
    ASSERT_EQ(text.has_value(), expected.has_value()) << key;
    EXPECT_EQ(text ? std::string(text->value_or("absent")) : text.error(),
              expected ? expected->value_or("absent") : describe(expected.error()) + expected.error().next);
    EXPECT_EQ(data.find_unsigned(key), reference.find_unsigned(key)) << key;
    EXPECT_EQ(data.at(key).map([](auto&&) { return true; }), reference.at(key).map([](auto&&) { return true; })) << key;
  }
  EXPECT_EQ(data.at("a/b")->find("x").error(), reference.at("a/b")->find("x").error());
  const JsonNode* deep = data.node().find("list")->element(0)->find("deep");
  EXPECT_EQ(pointer_within(document.root(), deep), "/data/list/0/deep");
  EXPECT_EQ(pointer_within(data.node(), &document.root()), std::nullopt);
}

TEST(JsonString, IsWhatTheReferenceWrites) {
  std::string every;
  for (int c = 0; c < 128; ++c) every += static_cast<char>(c);
  const std::string quotes(100, '"');
  const std::vector<std::string> texts{"",
                                       "x",
                                       every,
                                       quotes,
                                       std::string(3, '\0'),
                                       "<disk type='block'>\n  <driver name='qemu'/>\n</disk>\n",
                                       "ü€😀 and some ASCII",
                                       "\xff bad \xc3",
                                       every + "\xc3\x28"};
  for (const std::string& text : texts) {
    for (std::size_t shift = 0; shift < 9; ++shift) {
      const std::string shifted = std::string(shift, '-') + text;
      std::string out = "before";
      append_json_string(out, shifted);
      EXPECT_EQ(out, "before" + Json(shifted).dump(-1, ' ', false, Json::error_handler_t::replace));
    }
  }
}

}  // namespace
}  // namespace aiolos
