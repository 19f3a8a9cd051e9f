// SPDX-License-Identifier: Apache-2.0
#include "plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <pugixml.hpp>

namespace aiolos::measure {
namespace {

using ::testing::ElementsAre;

Plot example() {
  return {"random read & more",
          "depth",
          "IOPS",
          {{"threads", "#e69f00", 0, {{1, {100, 90, 120}}, {8, {400, 400, 400}}, {64, {800, 700, 1000}}}},
           {"fio", "#767676", 3, {{8, {500, 400, 600}}}}}};
}

pugi::xml_document parsed(const Plot& plot) {
  pugi::xml_document document;
  const std::string text = svg(plot);
  const auto result = document.load_string(text.c_str());
  EXPECT_TRUE(result) << result.description() << '\n' << text;
  return document;
}

TEST(Plot, DrawsEachPointWithItsSpread) {
  const auto document = parsed(example());
  const auto series = document.select_node("//g[@data-series='threads']").node();
  EXPECT_EQ(series.select_nodes("line[@class='whisker']").size(), 3U);
  EXPECT_EQ(series.select_nodes("circle").size(), 3U);
  EXPECT_EQ(document.select_nodes("//g[@data-series='fio']/path").size(), 1U);
}

TEST(Plot, MoreIsHigherAndTheAxisBeginsAtZero) {
  const auto document = parsed(example());
  std::vector<double> heights;
  for (const auto& each : document.select_nodes("//g[@data-series='threads']/circle"))
    heights.push_back(each.node().attribute("cy").as_double());
  ASSERT_EQ(heights.size(), 3U);
  EXPECT_GT(heights[0], heights[1]);
  EXPECT_GT(heights[1], heights[2]);
  const double zero = document.select_node("//line[@class='grid']").node().attribute("y1").as_double();
  // Twice the value is twice as high above 0.
  EXPECT_NEAR((zero - heights[2]) / (zero - heights[1]), 2, 0.02);
}

TEST(Plot, DepthsThatDoubleAreEquallyFarApart) {
  const auto document = parsed(example());
  std::vector<double> places;
  for (const auto& each : document.select_nodes("//g[@data-series='threads']/circle"))
    places.push_back(each.node().attribute("cx").as_double());
  EXPECT_NEAR(places[1] - places[0], places[2] - places[1], 0.2);
}

TEST(Plot, OneDepthIsDrawnToo) {
  Plot plot = example();
  plot.series.resize(1);
  plot.series[0].points.resize(1);
  const auto place = parsed(plot).select_node("//g/circle").node().attribute("cx").as_double();
  EXPECT_GT(place, 0);
  EXPECT_LT(place, 440);
}

TEST(Ticks, AreRoundAndReachTheTop) {
  EXPECT_THAT(ticks_up_to(10), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(ticks_up_to(47'000), ElementsAre(0, 10'000, 20'000, 30'000, 40'000, 50'000));
  EXPECT_THAT(ticks_up_to(0), ElementsAre(0, 0.2, 0.4, 0.6000000000000001, 0.8, 1));
  for (double most = 0.001; most < 1e7; most *= 1.37) {
    const auto ticks = ticks_up_to(most);
    EXPECT_LE(ticks.size(), 7U) << most;
    EXPECT_GE(ticks.back(), most * (1 - 1e-9));
  }
}

TEST(Number, IsShort) {
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(0.2), "0.2");
  EXPECT_EQ(short_number(950), "950");
  EXPECT_EQ(short_number(5000), "5000");
  EXPECT_EQ(short_number(20'000), "20k");
  EXPECT_EQ(short_number(1'250'000), "1.25M");
}

}  // namespace
}  // namespace aiolos::measure
