// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/base64.h"

#include <gtest/gtest.h>

namespace aiolos {
namespace {

// RFC 4648, section 10.
TEST(Base64, BothWays) {
  const std::pair<std::string, std::string> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"},
                                                       {"\xff\xfe\x00z", "//4="}};
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(base64_encode(bytes), text);
    EXPECT_EQ(base64_decode(text), bytes);
  }
}

TEST(Base64, WhatIsNoneIsRefused) {
  EXPECT_FALSE(base64_decode("Zg*="));
  EXPECT_FALSE(base64_decode("Z"));
  EXPECT_EQ(base64_decode("Zg"), "f");
}

}  // namespace
}  // namespace aiolos
