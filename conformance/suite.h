// SPDX-License-Identifier: Apache-2.0
// The suite: all checks of one plugin, each in processes of its own.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "bench.h"
#include "check.h"
#include "child.h"
#include "host_snapshot.h"

namespace aiolos::conformance {

/// Runs every check. @param each called with each check when it has ended. @return all of them.
Report run_suite(const Subject& subject, const std::function<void(const Check&)>& each);

/// What the checks share: processes with the plugin, and the host as it was before.
class Suite {
 public:
  /// @param subject borrowed.
  explicit Suite(const Subject& subject) : subject_(subject), before_(take_snapshot()) {}

  const Subject& subject() const { return subject_; }

  /// What a process of the suite does. It may set Bench::answer for the next one.
  using Work = std::function<std::optional<Finding>(Bench&, Progress&)>;

  /// How a process ended: with a finding, or with an answer.
  struct Done {
    std::optional<Finding> finding;
    Json answer;
    /// It killed itself as it was asked to.
    bool killed = false;
  };

  /// Runs `work` in a process of its own, with the plugin loaded over services that fail in one way.
  /// @param verbs how many verbs it calls at most: each has the deadline.
  Done in_process(int verbs, const Work& work, Fault fault = Fault::none);

  /// As in_process, and kills the process at one of its writes to the journal. @param number from 0.
  Done killed_at_write(std::size_t number, const Work& work);

  /// A check that changes the host: it must be as it was afterwards. Where it is not, the suite disconnects what is
  /// left, so that the next check begins anew.
  Verdict on_host(const std::function<Verdict()>& check);

  /// A finding if the host is not as it was when the suite began.
  /// @param after what has happened: "after disconnect".
  std::optional<Finding> host_as_before(const std::string& after) const;
  /// What differs now, without waiting.
  std::vector<std::string> changes_now() const { return differences(before_, take_snapshot()); }

  // What was seen in all processes so far.
  const std::set<std::string>& leaks() const { return leaks_; }
  const std::set<std::string>& outside_of_effects() const { return outside_; }
  const std::set<std::string>& slow_verbs() const { return slow_; }
  const std::set<std::string>& descriptors() const { return descriptors_; }

 private:
  void keep(const Json& observations);
  /// Disconnects the volume, whatever of it is there.
  void restore();

  const Subject& subject_;
  const HostSnapshot before_;
  std::set<std::string> leaks_;
  std::set<std::string> outside_;
  std::set<std::string> slow_;
  std::set<std::string> descriptors_;
};

/// A finding for a verb that failed though it should not. @param during "connecting again".
Finding unexpected(const std::string& during, const Error& error);

/// A named check of the suite.
struct NamedCheck {
  std::string name;
  std::function<Verdict(Suite&)> run;
};

/// Checks that change nothing: loading, describe, target, aio_mode, wrong input, threads.
std::vector<NamedCheck> still_checks();
/// Checks that connect the volume to this host: connect, disconnect, extend, verify, facts, several guests.
std::vector<NamedCheck> host_checks();
/// Processes killed at each write to the journal. The list follows from a first run.
std::vector<NamedCheck> crash_checks(Suite& suite);
/// Services of the host that fail.
std::vector<NamedCheck> fault_checks();
/// What was seen during all the others: secrets, deadlines, descriptors, commands outside of effects.
std::vector<NamedCheck> overall_checks(const Subject& subject);

/// Why a driver's advice cannot be followed; nullopt if it can.
std::optional<Finding> contradiction(const AioAdvice& advice);

/// Every variation of a document by one wrong member: removed, or of another type.
struct Variation {
  std::string what;  ///< "/data/target_nqn replaced by 7"
  Json document;
};
std::vector<Variation> variations(const Json& document);

}  // namespace aiolos::conformance
