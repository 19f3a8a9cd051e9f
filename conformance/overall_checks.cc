// SPDX-License-Identifier: Apache-2.0
// What was seen during all other checks.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "suite.h"

namespace aiolos::conformance {
namespace {

Verdict secrets(Suite& suite) {
  if (suite.subject().secrets().empty())
    return skipped("the connection_info holds no secret", "give one with auth_password, if its volumes can have one");
  if (suite.leaks().empty()) return passed();
  return failed({fmt::format("a secret of the connection_info was seen in {}", fmt::join(suite.leaks(), ", ")),
                 "hand it to a command by its standard input, and name its key where people read"});
}

Verdict deadlines(Suite& suite) {
  if (suite.slow_verbs().empty()) return passed();
  return failed(
      {fmt::format("longer than {} ms: {}", suite.subject().deadline.count(), fmt::join(suite.slow_verbs(), ", ")),
       "bound every command and every wait"});
}

Verdict descriptors(Suite& suite) {
  if (suite.descriptors().empty()) return passed();
  return failed({fmt::format("left open by a verb: {}", fmt::join(suite.descriptors(), ", ")),
                 "close what was opened, on the way of an error too"});
}

/// No fault: commands that only ask belong there.
Verdict effects(Suite& suite) {
  std::vector<std::string> notes;
  for (const std::string& command : suite.outside_of_effects())
    notes.push_back("outside of any effect, so it must change nothing: " + command);
  return passed(std::move(notes));
}

}  // namespace

std::vector<NamedCheck> overall_checks(const Subject& subject) {
  std::vector<NamedCheck> checks{{"secrets", secrets}, {"deadlines", deadlines}};
  if (subject.connect) {
    checks.push_back({"descriptors", descriptors});
    checks.push_back({"effects", effects});
  }
  return checks;
}

}  // namespace aiolos::conformance
