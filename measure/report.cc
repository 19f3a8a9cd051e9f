// SPDX-License-Identifier: Apache-2.0
#include "report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace aiolos::measure {
namespace {

constexpr std::array kOrderOfEquals{AioMode::native, AioMode::io_uring, AioMode::threads};
constexpr double kLeastNoise = 0.02;
constexpr std::string_view kGuestQemu = "a guest's QEMU (KVM)";
constexpr std::string_view kEmulatedGuestQemu = "an emulated guest's QEMU (TCG)";

const ModeResult* result_of(const CaseResult& result, AioMode mode) {
  for (const ModeResult& each : result.modes)
    if (each.mode == mode && each.iops.median > 0) return &each;
  return nullptr;
}

bool in_all_cases(const SubjectResult& subject, AioMode mode) {
  return std::all_of(subject.cases.begin(), subject.cases.end(),
                     [mode](const CaseResult& each) { return result_of(each, mode) != nullptr; });
}

double mean_iops(const SubjectResult& subject, AioMode mode) {
  std::vector<double> iops;
  for (const CaseResult& each : subject.cases) iops.push_back(result_of(each, mode)->iops.median);
  return geometric_mean(iops);
}

/// How far runs of the same usually lie apart.
double noise_of(const SubjectResult& subject) {
  std::vector<double> widths;
  for (const CaseResult& each : subject.cases)
    for (const ModeResult& mode : each.modes) widths.push_back(relative_width(mode.iops));
  return std::max(kLeastNoise, spread_of(std::move(widths)).median);
}

struct Candidate {
  AioMode mode;
  double iops;
};

/// The fastest first, and in front those that are as fast, in the order of equals.
std::vector<Candidate> ranked(const SubjectResult& subject) {
  std::vector<Candidate> candidates;
  for (const AioMode mode : kOrderOfEquals)
    if (in_all_cases(subject, mode)) candidates.push_back({mode, mean_iops(subject, mode)});
  if (candidates.empty()) return candidates;
  const auto faster = [](const Candidate& a, const Candidate& b) { return a.iops > b.iops; };
  const double least = std::min_element(candidates.begin(), candidates.end(), faster)->iops * (1 - noise_of(subject));
  const auto slower = std::stable_partition(candidates.begin(), candidates.end(),
                                            [least](const Candidate& each) { return each.iops >= least; });
  std::stable_sort(slower, candidates.end(), faster);
  return candidates;
}

void find_widest_lead(const SubjectResult& subject, AioMode first, AioMode last, MeasuredProfile& profile) {
  profile.widest_lead = 0;
  for (const CaseResult& each : subject.cases) {
    const double lead = result_of(each, first)->iops.median / result_of(each, last)->iops.median;
    if (lead <= profile.widest_lead) continue;
    profile.widest_lead = lead;
    profile.widest_case = describe(each.load);
  }
}

/// Names the modes that the order of equals, and not speed alone, has put behind the first.
std::string tie(const std::vector<Candidate>& candidates, double noise) {
  std::vector<std::string_view> equals;
  for (const Candidate& each : candidates)
    if (each.iops >= candidates.front().iops * (1 - noise) && each.mode != candidates.front().mode)
      equals.push_back(to_string(each.mode));
  if (equals.empty()) return {};
  return fmt::format("{} {} as fast within {:.0f} %, by which runs of the same differ", fmt::join(equals, " and "),
                     equals.size() == 1 ? "is" : "are", noise * 100);
}

Json to_json(const ModeResult& result) {
  return {{"iops", measure::to_json(result.iops)},
          {"p50_us", measure::to_json(result.p50_us)},
          {"p99_us", measure::to_json(result.p99_us)},
          {"in_guest", result.in_guest}};
}

Json to_json(const CaseResult& result) {
  Json object = measure::to_json(result.load);
  object["modes"] = Json::object();
  for (const ModeResult& each : result.modes) object["modes"][std::string(to_string(each.mode))] = to_json(each);
  object["limit"] = result.limit ? Json({{"iops", measure::to_json(*result.limit)}}) : Json(nullptr);
  return object;
}

Json to_json(const SubjectResult& subject, const Report& report) {
  Json cases = Json::array();
  for (const CaseResult& each : subject.cases) cases.push_back(to_json(each));
  const auto profile = profile_of(subject, report);
  return {{"name", subject.name},      {"storage", aiolos::to_json(subject.storage)},
          {"cases", std::move(cases)}, {"profile", profile ? aiolos::to_json(*profile) : Json(nullptr)},
          {"probes", subject.probes},  {"notes", subject.notes}};
}

Json to_json(const EventLoopResult& result) {
  return {{"mode", to_string(result.mode)},
          {"neighbour", to_string(result.neighbour)},
          {"p50_us", measure::to_json(result.p50_us)},
          {"p99_us", measure::to_json(result.p99_us)},
          {"max_us", measure::to_json(result.max_us)},
          {"written_iops", measure::to_json(result.written_iops)}};
}

Json to_json(const Conditions& conditions) {
  return {{"seconds", conditions.seconds},
          {"repetitions", conditions.repetitions},
          {"image_size", conditions.image_size},
          {"limit_engine", conditions.limit_engine},
          {"load_average", conditions.load_average},
          {"iothreads", conditions.iothreads},
          {"guest", conditions.guest ? Json(to_string(*conditions.guest)) : Json(nullptr)}};
}

}  // namespace

std::string_view to_string(Accelerator accelerator) { return accelerator == Accelerator::tcg ? "tcg" : "kvm"; }

std::string_view to_string(Neighbour neighbour) {
  switch (neighbour) {
    case Neighbour::none:
      return "none";
    case Neighbour::preallocated:
      return "preallocated";
    case Neighbour::sparse:
      break;
  }
  return "sparse";
}

std::string describe_engines(const Conditions& conditions) {
  std::string_view qemu = "qemu-storage-daemon";
  if (conditions.guest) qemu = *conditions.guest == Accelerator::kvm ? kGuestQemu : kEmulatedGuestQemu;
  if (conditions.iothreads == 0) return fmt::format("the main loop of {}", qemu);
  return fmt::format("{} iothread{} of {}", conditions.iothreads, conditions.iothreads == 1 ? "" : "s", qemu);
}

std::string_view caveat(const Conditions& conditions) {
  if (conditions.guest != Accelerator::tcg) return {};
  return "the guest is emulated: where its processor and not the storage sets the pace the modes look alike, and no "
         "figure is one of a guest under KVM";
}

Json to_json(const Report& report) {
  Json subjects = Json::array();
  for (const SubjectResult& each : report.subjects) subjects.push_back(to_json(each, report));
  Json event_loop = Json::array();
  for (const EventLoopResult& each : report.event_loop) event_loop.push_back(to_json(each));
  return {{"date", report.date},
          {"path", report.path},
          {"host", aiolos::to_json(report.host)},
          {"conditions", to_json(report.conditions)},
          {"subjects", std::move(subjects)},
          {"event_loop", std::move(event_loop)}};
}

std::optional<MeasuredProfile> profile_of(const SubjectResult& subject, const Report& report) {
  if (subject.cases.empty()) return std::nullopt;
  const std::vector<Candidate> candidates = ranked(subject);
  if (candidates.size() < 2) return std::nullopt;
  MeasuredProfile profile;
  profile.storage = subject.storage;
  profile.date = report.date;
  profile.kernel = report.host.kernel;
  profile.qemu = report.host.qemu;
  profile.through = describe_engines(report.conditions);
  profile.cases = static_cast<unsigned>(subject.cases.size());
  for (const Candidate& each : candidates) profile.modes.push_back({each.mode, each.iops / candidates.back().iops});
  find_widest_lead(subject, candidates.front().mode, candidates.back().mode, profile);
  profile.tie_broken_by = tie(candidates, noise_of(subject));
  return profile;
}

}  // namespace aiolos::measure
