// SPDX-License-Identifier: Apache-2.0
// What a check found, and the report of all of them, for people and as JSON.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/json.h"

namespace aiolos::conformance {

/// A rule that the plugin broke.
struct Finding {
  std::string reason;  ///< What happened, with the values.
  std::string next;    ///< What the plugin's author should do.
};

enum class Outcome { pass, fail, skip };

/// How a check ended.
struct Verdict {
  Outcome outcome = Outcome::pass;
  std::string reason;              ///< Empty for a check that passed.
  std::string next;                ///< What the author should do; empty for a check that passed.
  std::vector<std::string> notes;  ///< What is no fault, but for the author to look at.
};

Verdict passed(std::vector<std::string> notes = {});
Verdict failed(Finding finding);
Verdict skipped(std::string reason, std::string next);

/// A check by its name, such as "disconnect.repeat".
struct Check {
  std::string name;
  Verdict verdict;
};

/// One line: "FAIL name: reason; next".
std::string to_line(const Check& check);

/// The checks of one plugin, in the order they ran.
class Report {
 public:
  explicit Report(std::string plugin) : plugin_(std::move(plugin)) {}
  void add(Check check) { checks_.push_back(std::move(check)); }

  const std::vector<Check>& checks() const { return checks_; }
  std::size_t count(Outcome outcome) const;
  /// "PLUGIN: 21 passed, 0 failed, 2 skipped"
  std::string summary() const;
  /// {"plugin", "checks": [{"name", "result", "reason", "next", "notes"}], "passed", "failed", "skipped"}
  Json to_json() const;

 private:
  std::string plugin_;
  std::vector<Check> checks_;
};

}  // namespace aiolos::conformance
