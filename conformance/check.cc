// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include <fmt/format.h>

#include <algorithm>

namespace aiolos::conformance {
namespace {

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::pass:
      return "PASS";
    case Outcome::fail:
      return "FAIL";
    case Outcome::skip:
      break;
  }
  return "SKIP";
}

}  // namespace

Verdict passed(std::vector<std::string> notes) { return {Outcome::pass, {}, {}, std::move(notes)}; }

Verdict failed(Finding finding) { return {Outcome::fail, std::move(finding.reason), std::move(finding.next), {}}; }

Verdict skipped(std::string reason, std::string next) {
  return {Outcome::skip, std::move(reason), std::move(next), {}};
}

std::string to_line(const Check& check) {
  std::string line = fmt::format("{} {}", to_string(check.verdict.outcome), check.name);
  if (!check.verdict.reason.empty()) line += ": " + check.verdict.reason;
  if (!check.verdict.next.empty()) line += "; " + check.verdict.next;
  return line;
}

std::size_t Report::count(Outcome outcome) const {
  return static_cast<std::size_t>(std::count_if(
      checks_.begin(), checks_.end(), [outcome](const Check& check) { return check.verdict.outcome == outcome; }));
}

std::string Report::summary() const {
  return fmt::format("{}: {} passed, {} failed, {} skipped", plugin_, count(Outcome::pass), count(Outcome::fail),
                     count(Outcome::skip));
}

Json Report::to_json() const {
  Json checks = Json::array();
  for (const auto& [name, verdict] : checks_)
    checks.push_back({{"name", name},
                      {"result", to_string(verdict.outcome)},
                      {"reason", verdict.reason},
                      {"next", verdict.next},
                      {"notes", verdict.notes}});
  return {{"plugin", plugin_},
          {"checks", std::move(checks)},
          {"passed", count(Outcome::pass)},
          {"failed", count(Outcome::fail)},
          {"skipped", count(Outcome::skip)}};
}

}  // namespace aiolos::conformance
