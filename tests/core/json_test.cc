// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/json.h"

#include <gtest/gtest.h>

namespace aiolos {
namespace {

TEST(ParseJson, EqualsTheReferenceParser) {
  for (const char* text : {R"({})", R"([])", R"("x")", R"(null)", R"(1)", R"(-1)", R"(0)", R"(1.5e3)", R"(-0.0)",
                           R"(18446744073709551615)", R"(-9223372036854775808)", R"(18446744073709551616)",
                           R"({"a": {"b": [1, "zwei", null, true, false, {"c": -2.5}]}, "ü€😀": "\u00fc\n\"\\\/"})",
                           R"({"twice": 1, "twice": 2})", "  [1]\n\t "}) {
    const auto parsed = parse_json(text, "test");
    ASSERT_TRUE(parsed) << text << ": " << describe(parsed.error());
    EXPECT_EQ(*parsed, Json::parse(text)) << text;
    EXPECT_EQ(parsed->dump(), Json::parse(text).dump()) << text;
  }
}

TEST(ParseJson, NamesLineAndColumn) {
  const auto where = [](std::string_view text) {
    const auto parsed = parse_json(text, "conn.json");
    return parsed ? std::string("accepted") : parsed.error().where;
  };
  EXPECT_EQ(where(""), "conn.json:1:1");
  EXPECT_EQ(where("{\"a\": 1,}"), "conn.json:1:9");
  EXPECT_EQ(where("{\n  \"a\": 1,\n  \"b\": tru\n}"), "conn.json:3:11");
  EXPECT_EQ(where("{} {}"), "conn.json:1:4");
  EXPECT_EQ(where("\"\xff\""), "conn.json:1:2");
}

TEST(ParseJson, ErrorIsBadInputAndSaysWhat) {
  const auto parsed = parse_json("{\"a\" 1}", "conn.json");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().kind, ErrorKind::bad_input);
  EXPECT_NE(parsed.error().message.find("not valid JSON"), std::string::npos);
  EXPECT_FALSE(parsed.error().next.empty());
}

TEST(ParseJson, NeverQuotesTheDocument) {
  for (const char* text : {"{\"auth_password\": \"hunter2", "{\"auth_password\": \"hunter2\n\"}",
                           "{\"p\": \"hunter2\xff\"}", "{\"p\": hunter2}", "[1 \"hunter2\"]"}) {
    const auto parsed = parse_json(text, "conn.json");
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().message.find("hunter2"), std::string::npos) << parsed.error().message;
  }
}

TEST(ParseJson, RefusesAbsurdDepth) {
  const std::string deep(100'000, '[');
  const auto parsed = parse_json(deep + std::string(100'000, ']'), "deep");
  ASSERT_FALSE(parsed);
  EXPECT_NE(parsed.error().message.find("nested"), std::string::npos);
}

TEST(JsonView, ErrorsNameThePointerAndTheValue) {
  const Json document = Json::parse(R"({"data": {"a/b": 1, "list": [], "null": null}})");
  const JsonView data = *JsonView(document).at("data");
  EXPECT_EQ(data.at("missing").error().where, "/data/missing");
  EXPECT_EQ(data.at("null").error().where, "/data/null");
  EXPECT_EQ(data.at("a/b")->string().error().where, "/data/a~1b");
  EXPECT_EQ(data.at("a/b")->string().error().message, "expected a string, found a number (1)");
  EXPECT_EQ(data.at("list")->boolean().error().message, "expected true or false, found an array");
  EXPECT_FALSE(*data.find("null"));
  EXPECT_EQ(JsonView(Json(3)).find("x").error().message, "expected an object, found a number (3)");
}

TEST(JsonView, ReadsUnsignedIntegersAsCinderSendsThem) {
  const auto read = [](const Json& value) { return JsonView(value).unsigned_integer(); };
  EXPECT_EQ(read(5).value(), 5u);
  EXPECT_EQ(read(Json(std::int64_t{7})).value(), 7u);
  EXPECT_EQ(read("18446744073709551615").value(), 18446744073709551615u);
  for (const Json& bad : {Json(-1), Json(1.5), Json(""), Json("5x"), Json(" 5"), Json("-1"), Json(true), Json("1e3")})
    EXPECT_FALSE(read(bad)) << bad;
}

TEST(JsonView, NeverPrintsAString) {
  const Json password = "hunter2";
  EXPECT_EQ(JsonView(password).boolean().error().message.find("hunter2"), std::string::npos);
}

TEST(Nearest, FindsMisspellingsOnly) {
  const std::vector<std::string> known{"iscsi", "nfs", "fibre_channel", "rbd"};
  EXPECT_EQ(nearest("iscis", known), "iscsi");
  EXPECT_EQ(nearest("fibrechannel", known), "fibre_channel");
  EXPECT_EQ(nearest("ceph-over-carrier-pigeon", known), std::nullopt);
}

TEST(EditDistance, CountsEdits) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

}  // namespace
}  // namespace aiolos
