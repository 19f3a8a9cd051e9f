// SPDX-License-Identifier: Apache-2.0
// The host's services as the suite gives them to a plugin: the real ones, watched, or such that fail.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/agent/agent.h"
#include "aiolos/core/interfaces.h"
#include "aiolos/plugins/registry.h"

namespace aiolos::conformance {

/// How the services of a process fail.
enum class Fault {
  none,
  absent,            ///< There are none, and no journal.
  commands_fail,     ///< Every command ends with status 1.
  commands_overrun,  ///< Every command overruns its time.
  programs_missing,  ///< No program is installed.
  probe_fails,       ///< No image or device can be probed.
  locks_time_out,    ///< Another process has every lock.
  journal_fails,     ///< Nothing can be written to the journal.
};

/// For people: "every command ends with status 1".
std::string_view describe(Fault fault);
/// For the names of checks: "commands-fail".
std::string_view to_string(Fault fault);

/// What was seen of a driver's work in one process. For one thread.
class Watch {
 public:
  explicit Watch(std::vector<std::string> secrets) : secrets_(std::move(secrets)) {}

  /// Looks for a secret in `text`, which got to `where`: "an argument of mount".
  void look(const std::string& where, std::string_view text);
  void command(const Command& command);
  void effect_begun() { ++open_effects_; }
  void effect_ended() { --open_effects_; }

  /// Places where a secret was seen.
  const std::vector<std::string>& leaks() const { return leaks_; }
  /// Commands that were run with no effect open: right for those that only ask.
  const std::vector<std::string>& outside_of_effects() const { return outside_of_effects_; }

 private:
  std::vector<std::string> secrets_;
  std::vector<std::string> leaks_;
  std::vector<std::string> outside_of_effects_;
  int open_effects_ = 0;
};

/// A write to a volume's journal, at which a process can be killed.
struct JournalWrite {
  enum class Kind { begin, end, hold, release };
  Kind kind = Kind::begin;
  std::string what;
};

/// "before the effect 'mount a at b'", "after ...": where a process stands that is killed at this write.
std::string describe(const JournalWrite& write);

/// A volume's journal, watched. `at` is called where a crash leaves the most for others to find out: when an effect's
/// intent is on disk and nothing is done, when it is done and its end is not on disk, when a hold is on disk, and
/// before a release is.
class WatchedJournal final : public VolumeJournal {
 public:
  WatchedJournal(std::unique_ptr<VolumeJournal> journal, Watch& watch, std::function<void(const JournalWrite&)> at)
      : journal_(std::move(journal)), watch_(watch), at_(std::move(at)) {}
  Result<std::int64_t> begin_effect(std::string_view what) override;
  Result<void> end_effect(std::int64_t effect) override;
  Result<void> hold(std::string_view resource) override;
  Result<void> release(std::string_view resource) override;
  Result<Holders> holders(std::string_view resource) override { return journal_->holders(resource); }

 private:
  std::unique_ptr<VolumeJournal> journal_;
  Watch& watch_;
  std::function<void(const JournalWrite&)> at_;
  std::vector<std::pair<std::int64_t, std::string>> effects_;
};

/// A journal whose folder is full.
std::unique_ptr<VolumeJournal> make_failing_journal();

/// The services of one process. Those that `fault` does not concern are the machine's own, watched.
class Services {
 public:
  /// @param machine, @param locks, @param watch borrowed.
  Services(Fault fault, Machine& machine, HostLocks& locks, Watch& watch);
  /// The table for the plugin, but for `section`.
  PluginServices table();

 private:
  const Fault fault_;
  Machine& machine_;
  HostLocks& locks_;
  Watch& watch_;
  std::unique_ptr<CommandRunner> commands_;
};

}  // namespace aiolos::conformance
