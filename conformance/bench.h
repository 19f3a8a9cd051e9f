// SPDX-License-Identifier: Apache-2.0
// One process with the plugin loaded: its verbs are called as the agent calls them, with the real journal, in a folder
// of the suite's own, and everything they do is watched.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "aiolos/agent/agent.h"
#include "aiolos/plugins/registry.h"
#include "check.h"
#include "journal.h"
#include "lock_file.h"
#include "services.h"

namespace aiolos::conformance {

/// What the suite was asked to check.
struct Subject {
  std::filesystem::path plugin;  ///< Absolute.
  Json connection_info;          ///< Of a volume of one of its types.
  Config config;
  std::filesystem::path state;         ///< A folder of the suite's: journal and locks.
  bool connect = false;                ///< The volume exists, and may be connected to this host.
  bool fail_fast = false;              ///< The first check that fails is the last.
  std::chrono::milliseconds deadline;  ///< For each verb.
  std::chrono::milliseconds settle;    ///< What the kernel may take to remove devices after disconnect.

  /// The values in connection_info that are secrets, longer than three characters: shorter ones show by chance.
  std::vector<std::string> secrets() const;
};

/// A volume of the journal, as on one guest; several are several guests.
using Record = std::int64_t;

class Bench {
 public:
  /// Loads the plugin over its services. @param subject borrowed.
  /// @return the loader's error, or that of the state folder.
  static Result<std::unique_ptr<Bench>> open(const Subject& subject, Fault fault);

  Driver& driver() { return *driver_; }
  const Json& connection_info() const { return subject_.connection_info; }

  /// A new volume in the journal.
  Result<Record> new_record();
  /// Those that no disconnect has closed.
  Result<std::vector<Record>> open_records();

  // The verbs. Each is timed, and its error looked through for secrets.
  Result<Attachment> connect(Record record);
  /// With the connection_info that the journal has, without secrets.
  Result<void> disconnect(Record record, const Attachment* attachment);
  Result<std::uint64_t> extend(Record record, const Attachment& attachment, std::uint64_t bytes);
  Result<void> verify(const Attachment& attachment);
  Result<StorageFacts> facts(const Attachment& attachment);

  /// Called at each write to the journal; see WatchedJournal.
  void at_journal_write(std::function<void(const JournalWrite&)> at) { at_ = std::move(at); }

  /// What the next process should know; crosses as JSON.
  Json answer;

  /// {"leaks", "outside", "slow", "descriptors"}: what was seen, all lists of texts.
  Json observations() const;

 private:
  Bench(const Subject& subject, Fault fault);
  /// Runs a verb of the driver with the journal of a step, from its beginning to its end in the journal.
  template <typename Verb>
  auto step(Record record, Step step, Verb verb) -> decltype(verb(nullptr));
  template <typename Verb>
  auto timed(std::string_view name, Verb verb) -> decltype(verb());

  const Subject& subject_;
  const Fault fault_;
  std::unique_ptr<Machine> machine_;
  FileLocks locks_;
  Watch watch_;
  Services services_;
  PluginServices table_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<Driver> driver_;
  std::function<void(const JournalWrite&)> at_;
  int records_ = 0;
  std::set<Step> warm_;  ///< Verbs that have been called.
  std::vector<std::string> slow_;
  std::vector<std::string> descriptors_;
};

}  // namespace aiolos::conformance
