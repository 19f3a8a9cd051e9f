// SPDX-License-Identifier: Apache-2.0
// What follows from figures: which mode is the fastest, and what the report says, as JSON and as a page.
#include "report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "html_report.h"

namespace aiolos::measure {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Spread about(double value, double share) { return {value, value * (1 - share), value * (1 + share)}; }

/// @param iops of threads, native and io_uring; 0: not measured.
CaseResult a_case(unsigned depth, std::vector<double> iops, double noise = 0.005) {
  constexpr AioMode kModes[] = {AioMode::threads, AioMode::native, AioMode::io_uring};
  CaseResult result;
  result.load = {Operation::write, Pattern::random, 4096, depth, 1};
  for (std::size_t i = 0; i < iops.size(); ++i)
    if (iops[i] > 0) result.modes.push_back({kModes[i], about(iops[i], noise), about(100, noise), about(300, noise)});
  return result;
}

SubjectResult subject(std::vector<CaseResult> cases) {
  return {"raw, preallocated", {"file", "raw", Allocation::full, "ext4"}, std::move(cases), {"file on ext4"}, {}};
}

/// Of a day and a host, whatever was measured.
Report that_report() {
  Report report;
  report.date = "2026-11-22T10:00:00Z";
  report.host.kernel = version(6, 18, 44);
  report.host.qemu = version(7, 2, 22);
  return report;
}

std::vector<AioMode> order(const SubjectResult& measured) {
  std::vector<AioMode> modes;
  if (const auto profile = profile_of(measured, that_report()))
    for (const MeasuredProfile::Mode& each : profile->modes) modes.push_back(each.mode);
  return modes;
}

TEST(Profile, TheFastestOverAllCasesIsFirst) {
  const auto measured = subject({a_case(1, {100, 80, 90}), a_case(64, {1000, 2000, 4000})});
  EXPECT_THAT(order(measured), ElementsAre(AioMode::io_uring, AioMode::native, AioMode::threads));
}

TEST(Profile, ACaseCountsByItsRatioAndNotByItsIops) {
  // threads are twice as fast where there is little to do, native is 1.5 times as fast where there is much.
  const auto measured = subject({a_case(1, {200, 100}), a_case(64, {10'000, 15'000})});
  EXPECT_THAT(order(measured), ElementsAre(AioMode::threads, AioMode::native));
}

TEST(Profile, WhatIsAsFastStandsInTheUsualOrder) {
  const auto measured = subject({a_case(1, {50, 100, 101})});
  EXPECT_THAT(order(measured), ElementsAre(AioMode::native, AioMode::io_uring, AioMode::threads));
  EXPECT_EQ(profile_of(measured, that_report())->tie_broken_by,
            "io_uring is as fast within 2 %, by which runs of the same differ");
}

TEST(Profile, NamesAllThatAreAsFast) {
  EXPECT_EQ(profile_of(subject({a_case(1, {100, 100, 100})}), that_report())->tie_broken_by,
            "io_uring and threads are as fast within 2 %, by which runs of the same differ");
}

TEST(Profile, RunsThatLieFarApartTellNothingApart) {
  EXPECT_THAT(order(subject({a_case(1, {100, 90, 110}, 0.005)})),
              ElementsAre(AioMode::io_uring, AioMode::threads, AioMode::native));
  EXPECT_THAT(order(subject({a_case(1, {100, 90, 110}, 0.2)})),
              ElementsAre(AioMode::native, AioMode::io_uring, AioMode::threads));
}

TEST(Profile, SaysHowMuchFasterAndWhereMost) {
  const auto profile = profile_of(subject({a_case(1, {100, 110}), a_case(64, {100, 440})}), that_report());
  ASSERT_TRUE(profile);
  EXPECT_NEAR(profile->modes.front().times_last, 2.2, 1e-9);
  EXPECT_EQ(profile->modes.back().times_last, 1);
  EXPECT_EQ(profile->widest_case, "random write 4 KiB, depth 64, 1 disk");
  EXPECT_NEAR(profile->widest_lead, 4.4, 1e-9);
  EXPECT_EQ(profile->cases, 2U);
  EXPECT_EQ(profile->date, "2026-11-22T10:00:00Z");
  EXPECT_EQ(profile->kernel, version(6, 18, 44));
  EXPECT_EQ(profile->qemu, version(7, 2, 22));
  EXPECT_EQ(profile->through, "the main loop of qemu-storage-daemon");
  EXPECT_EQ(profile->storage, (StorageClass{"file", "raw", Allocation::full, "ext4"}));
  EXPECT_EQ(profile->tie_broken_by, "");
}

TEST(Profile, AModeThatMissedACaseHasNoPlace) {
  EXPECT_THAT(order(subject({a_case(1, {100, 150, 200}), a_case(64, {100, 150, 0})})),
              ElementsAre(AioMode::native, AioMode::threads));
}

TEST(Profile, ThereIsNoneWithoutTwoModes) {
  EXPECT_EQ(profile_of(subject({a_case(1, {100})}), that_report()), std::nullopt);
  EXPECT_EQ(profile_of(subject({}), that_report()), std::nullopt);
}

Report a_report() {
  Report report = that_report();
  report.path = "/images/<b>&\"x\"";
  report.conditions = {0.5, 3, 64U << 20, "io_uring", 1.25, 2, std::nullopt};
  report.subjects = {subject({a_case(1, {100, 200, 300}), a_case(64, {1000, 2000, 3000})})};
  report.subjects[0].cases[1].limit = about(5000, 0.1);
  report.subjects[0].notes = {"not <written>"};
  report.event_loop = {{AioMode::native, Neighbour::sparse, about(10, 0), about(500, 0), about(9000, 0), about(7, 0)}};
  return report;
}

TEST(ReportJson, HoldsFiguresProfileAndConditions) {
  const Json json = to_json(a_report());
  EXPECT_EQ(json["/subjects/0/cases/1/modes/native/iops/median"_json_pointer], 2000);
  EXPECT_EQ(json["/subjects/0/cases/1/limit/iops/median"_json_pointer], 5000);
  EXPECT_EQ(json["/subjects/0/cases/0/limit"_json_pointer], nullptr);
  EXPECT_EQ(json["/subjects/0/profile/modes/0/mode"_json_pointer], "io_uring");
  EXPECT_EQ(json["/event_loop/0/neighbour"_json_pointer], "sparse");
  EXPECT_EQ(json["/conditions/repetitions"_json_pointer], 3);
  EXPECT_EQ(json["/conditions/iothreads"_json_pointer], 2);
  EXPECT_EQ(json["/date"_json_pointer], "2026-11-22T10:00:00Z");
}

TEST(HtmlReport, HoldsEveryFigureAndFetchesNothing) {
  const std::string page = html_report(a_report());
  for (const char* part : {"2000 <small>(1990–2010)</small>", "5000 <small>(4500–5500)</small>", "7.2.22", "1.25",
                           "9000", "2 iothreads of qemu-storage-daemon", "io_uring gives 3.00 times", "@media print"})
    EXPECT_THAT(page, HasSubstr(part));
  // The one address is the name of SVG's XML namespace, which nobody fetches.
  const std::string bare = std::regex_replace(page, std::regex("xmlns=\"http://www.w3.org/2000/svg\""), "");
  for (const char* part : {"http:", "https:", "url(", "<script", "<link", "<img", "@import"})
    EXPECT_THAT(bare, Not(HasSubstr(part)));
}

TEST(Reports, SayWhatCameFromAGuest) {
  Report report = a_report();
  EXPECT_EQ(to_json(report)["/conditions/guest"_json_pointer], nullptr);
  EXPECT_EQ(to_json(report)["/subjects/0/cases/0/modes/native/in_guest"_json_pointer], false);
  EXPECT_THAT(html_report(report), Not(HasSubstr("in a guest")));
  report.conditions.guest = Accelerator::tcg;
  for (CaseResult& each : report.subjects[0].cases)
    for (ModeResult& mode : each.modes) mode.in_guest = true;
  EXPECT_EQ(to_json(report)["/conditions/guest"_json_pointer], "tcg");
  EXPECT_EQ(to_json(report)["/subjects/0/cases/0/modes/native/in_guest"_json_pointer], true);
  for (const char* part : {"native, in a guest", "random write 4 KiB, 1 disk, in a guest",
                           "2 iothreads of an emulated guest's QEMU (TCG)", "the guest is emulated"})
    EXPECT_THAT(html_report(report), HasSubstr(part));
  report.conditions.guest = Accelerator::kvm;
  EXPECT_EQ(describe_engines(report.conditions), "2 iothreads of a guest's QEMU (KVM)");
  EXPECT_EQ(caveat(report.conditions), "");
}

TEST(HtmlReport, TakesNoTextForMarkup) {
  const std::string page = html_report(a_report());
  EXPECT_THAT(page, HasSubstr("/images/&lt;b&gt;&amp;&quot;x&quot;"));
  EXPECT_THAT(page, HasSubstr("not &lt;written&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("<b>")));
}

}  // namespace
}  // namespace aiolos::measure
