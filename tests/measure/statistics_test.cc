// SPDX-License-Identifier: Apache-2.0
#include "statistics.h"

#include <gtest/gtest.h>

#include <array>

namespace aiolos::measure {
namespace {

TEST(Spread, HasMedianLeastAndMost) {
  EXPECT_EQ(spread_of({5, 1, 3}), (Spread{3, 1, 5}));
  EXPECT_EQ(spread_of({4, 1, 2, 100}), (Spread{3, 1, 100}));
  EXPECT_EQ(spread_of({7}), (Spread{7, 7, 7}));
}

TEST(Spread, WidthIsAShareOfTheMedian) {
  EXPECT_DOUBLE_EQ(relative_width({100, 90, 120}), 0.3);
  EXPECT_DOUBLE_EQ(relative_width({0, 0, 0}), 0);
}

TEST(Percentile, IsTheLeastValueThatSoManyAreNotAbove) {
  std::vector<double> hundred;
  for (int i = 1; i <= 100; ++i) hundred.push_back(i);
  EXPECT_EQ(percentile(hundred, 0.5), 50);
  EXPECT_EQ(percentile(hundred, 0.99), 99);
  EXPECT_EQ(percentile(hundred, 1), 100);
  EXPECT_EQ(percentile(hundred, 0), 1);
  EXPECT_EQ(percentile(std::array{8.0}, 0.99), 8);
}

TEST(GeometricMean, WeighsRatiosAlike) {
  EXPECT_DOUBLE_EQ(geometric_mean(std::array{2.0, 8.0}), 4);
  EXPECT_NEAR(geometric_mean(std::array{1e5, 1e-5, 1.0}), 1, 1e-12);
}

}  // namespace
}  // namespace aiolos::measure
