// SPDX-License-Identifier: Apache-2.0
#include "services.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace aiolos::conformance {
namespace {

struct FaultRow {
  Fault fault;
  std::string_view name;
  std::string_view description;
};

constexpr std::array kFaults{
    FaultRow{Fault::none, "none", "all services work"},
    FaultRow{Fault::absent, "absent", "there are no services"},
    FaultRow{Fault::commands_fail, "commands-fail", "every command ends with status 1"},
    FaultRow{Fault::commands_overrun, "commands-overrun", "every command overruns its time"},
    FaultRow{Fault::programs_missing, "programs-missing", "no program is installed"},
    FaultRow{Fault::probe_fails, "probe-fails", "nothing can be probed"},
    FaultRow{Fault::locks_time_out, "locks-time-out", "another process has every lock"},
    FaultRow{Fault::journal_fails, "journal-fails", "nothing can be written to the journal"},
};

const FaultRow& row_of(Fault fault) {
  return *std::find_if(kFaults.begin(), kFaults.end(), [fault](const FaultRow& row) { return row.fault == fault; });
}

class WatchedCommands final : public CommandRunner {
 public:
  WatchedCommands(CommandRunner& commands, Watch& watch) : commands_(commands), watch_(watch) {}
  Result<CommandResult> run(const Command& command) override {
    watch_.command(command);
    return commands_.run(command);
  }

 private:
  CommandRunner& commands_;
  Watch& watch_;
};

class FailingCommands final : public CommandRunner {
 public:
  FailingCommands(Fault fault, Watch& watch) : fault_(fault), watch_(watch) {}
  Result<CommandResult> run(const Command& command) override {
    watch_.command(command);
    const std::string& program = command.argv.front();
    if (fault_ == Fault::programs_missing)
      return fail(ErrorKind::configuration, fmt::format("the program '{}' is not installed", program),
                  "install the package that has it");
    if (fault_ == Fault::commands_overrun)
      return fail(ErrorKind::retry, fmt::format("{} did not end within {} ms", program, command.timeout.count()),
                  "see what it waits for");
    return CommandResult{1, {}, fmt::format("{}: made to fail by the conformance suite\n", program), {}};
  }

 private:
  Fault fault_;
  Watch& watch_;
};

class FailingDevices final : public BlockDevices {
 public:
  Result<StorageFacts> probe(const std::string& path, const std::string&) override {
    return fail(ErrorKind::storage, path + " cannot be probed: input/output error", "check the storage below it");
  }
};

class FailingLocks final : public HostLocks {
 public:
  Result<std::unique_ptr<Held>> acquire(std::string_view key, std::chrono::milliseconds timeout) override {
    return fail(ErrorKind::retry,
                fmt::format("'{}' is being worked on by another process for over {} ms", key, timeout.count()),
                "try again");
  }
};

class FailingJournal final : public VolumeJournal {
 public:
  Result<std::int64_t> begin_effect(std::string_view) override { return full(); }
  Result<void> end_effect(std::int64_t) override { return full(); }
  Result<void> hold(std::string_view) override { return full(); }
  Result<void> release(std::string_view) override { return full(); }
  Result<Holders> holders(std::string_view) override { return full(); }

 private:
  static tl::unexpected<Error> full() {
    return fail(ErrorKind::configuration, "the journal: database or disk is full",
                "check the folder that state.dir names, and its free space");
  }
};

bool fails_commands(Fault fault) {
  return fault == Fault::commands_fail || fault == Fault::commands_overrun || fault == Fault::programs_missing;
}

}  // namespace

std::string_view describe(Fault fault) { return row_of(fault).description; }
std::string_view to_string(Fault fault) { return row_of(fault).name; }

void Watch::look(const std::string& where, std::string_view text) {
  const auto shows = [text](const std::string& secret) { return text.find(secret) != std::string_view::npos; };
  if (std::any_of(secrets_.begin(), secrets_.end(), shows)) leaks_.push_back(where);
}

void Watch::command(const Command& command) {
  for (const std::string& argument : command.argv) look("an argument of " + command.argv.front(), argument);
  if (open_effects_ == 0) outside_of_effects_.push_back(fmt::format("{}", fmt::join(command.argv, " ")));
}

std::string describe(const JournalWrite& write) {
  switch (write.kind) {
    case JournalWrite::Kind::begin:
      return fmt::format("before the effect '{}'", write.what);
    case JournalWrite::Kind::end:
      return fmt::format("after the effect '{}'", write.what);
    case JournalWrite::Kind::hold:
      return fmt::format("after holding '{}'", write.what);
    case JournalWrite::Kind::release:
      break;
  }
  return fmt::format("before releasing '{}'", write.what);
}

Result<std::int64_t> WatchedJournal::begin_effect(std::string_view what) {
  watch_.look("an effect in the journal", what);
  auto begun = journal_->begin_effect(what);
  if (!begun) return begun;
  watch_.effect_begun();
  effects_.emplace_back(*begun, what);
  at_({JournalWrite::Kind::begin, std::string(what)});
  return begun;
}

Result<void> WatchedJournal::end_effect(std::int64_t effect) {
  const auto known =
      std::find_if(effects_.begin(), effects_.end(), [effect](const auto& begun) { return begun.first == effect; });
  at_({JournalWrite::Kind::end, known == effects_.end() ? "?" : known->second});
  watch_.effect_ended();
  return journal_->end_effect(effect);
}

Result<void> WatchedJournal::hold(std::string_view resource) {
  watch_.look("a hold in the journal", resource);
  auto done = journal_->hold(resource);
  if (done) at_({JournalWrite::Kind::hold, std::string(resource)});
  return done;
}

Result<void> WatchedJournal::release(std::string_view resource) {
  at_({JournalWrite::Kind::release, std::string(resource)});
  return journal_->release(resource);
}

std::unique_ptr<VolumeJournal> make_failing_journal() { return std::make_unique<FailingJournal>(); }

Services::Services(Fault fault, Machine& machine, HostLocks& locks, Watch& watch)
    : fault_(fault), machine_(machine), locks_(locks), watch_(watch) {
  if (fails_commands(fault))
    commands_ = std::make_unique<FailingCommands>(fault, watch);
  else
    commands_ = std::make_unique<WatchedCommands>(machine.commands(), watch);
}

PluginServices Services::table() {
  static FailingDevices failing_devices;
  static FailingLocks failing_locks;
  PluginServices table;
  table.log = [this](aiolos_log_level, std::string_view, std::string_view message) { watch_.look("the log", message); };
  if (fault_ == Fault::absent) return table;
  table.commands = commands_.get();
  table.block_devices =
      fault_ == Fault::probe_fails ? static_cast<BlockDevices*>(&failing_devices) : &machine_.block_devices();
  table.mounts = &machine_.mounts();
  table.locks = fault_ == Fault::locks_time_out ? static_cast<HostLocks*>(&failing_locks) : &locks_;
  table.secrets = &machine_.secrets();
  return table;
}

}  // namespace aiolos::conformance
