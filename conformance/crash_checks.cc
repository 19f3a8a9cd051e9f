// SPDX-License-Identifier: Apache-2.0
// Crash points: a process killed at each of a driver's writes to the journal, and another that cleans up after it.
//
// The points are those of a first run, in which nothing is killed: no list is kept by hand.
#include <fmt/format.h>

#include "suite.h"

namespace aiolos::conformance {
namespace {

using Steps = std::optional<Finding>;

/// Calls `verb` and gives the texts of its writes as the answer's `member`.
template <typename Verb>
auto recorded(Bench& bench, const char* member, Verb verb) {
  auto texts = std::make_shared<Json>(Json::array());
  bench.at_journal_write([texts](const JournalWrite& write) { texts->push_back(describe(write)); });
  auto result = verb();
  bench.answer[member] = *texts;
  bench.at_journal_write([](const JournalWrite&) {});
  return result;
}

/// Connects and disconnects once; {"connect": [...], "disconnect": [...]} is the answer.
Steps record_writes(Bench& bench, Progress&) {
  const auto record = bench.new_record();
  if (!record) return unexpected("writing to the journal", record.error());
  const auto attachment = recorded(bench, "connect", [&] { return bench.connect(*record); });
  if (!attachment) return unexpected("connect", attachment.error());
  const auto done = recorded(bench, "disconnect", [&] { return bench.disconnect(*record, &*attachment); });
  if (!done) return unexpected("disconnect", done.error());
  return std::nullopt;
}

Steps connect(Bench& bench, Progress&) {
  const auto record = bench.new_record();
  if (!record) return unexpected("writing to the journal", record.error());
  bench.answer["record"] = *record;
  const auto attachment = bench.connect(*record);
  if (!attachment) return unexpected("connect", attachment.error());
  bench.answer["attachment"] = to_json(*attachment);
  return std::nullopt;
}

/// Disconnects a connected volume. @param connected {"record", "attachment"}.
Suite::Work disconnect(const Json& connected) {
  return [connected](Bench& bench, Progress&) -> Steps {
    const auto attachment = attachment_from_json(connected.at("attachment"));
    if (!attachment) return unexpected("reading the attachment back", attachment.error());
    if (const auto done = bench.disconnect(connected.at("record"), &*attachment); !done)
      return unexpected("disconnect after the crash", done.error());
    return std::nullopt;
  };
}

/// A finding if the process was not killed where it should have been.
Steps not_killed(const Suite::Done& done) {
  if (done.killed) return std::nullopt;
  if (done.finding) return done.finding;
  return Finding{"this time it did not write that to the journal",
                 "make what it does depend on the host's state alone"};
}

/// Cleans up as another process does after a crash in connect, which the journal has no attachment of.
Steps disconnect_what_is_open(Bench& bench, Progress&) {
  const auto records = bench.open_records();
  if (!records) return unexpected("reading the journal", records.error());
  for (const Record record : *records)
    if (const auto done = bench.disconnect(record, nullptr); !done)
      return unexpected("disconnect after the crash, without an attachment", done.error());
  return std::nullopt;
}

Verdict cleaned_up(Suite& suite, const Suite::Work& disconnect_again) {
  if (const auto done = suite.in_process(1, disconnect_again); done.finding) return failed(*done.finding);
  if (auto left = suite.host_as_before("after the crash and disconnect")) return failed(*std::move(left));
  return passed();
}

/// @param unchanged no effect was done before that write.
Verdict crash_in_connect(Suite& suite, std::size_t number, bool unchanged) {
  return suite.on_host([&] {
    const auto crashed = suite.killed_at_write(number, connect);
    if (auto finding = not_killed(crashed)) return failed(*std::move(finding));
    if (const auto changes = suite.changes_now(); unchanged && !changes.empty())
      return failed({"the host had changed before the first effect was begun: " + changes.front(),
                     "let every change of the host stand inside an effect"});
    return cleaned_up(suite, disconnect_what_is_open);
  });
}

Verdict crash_in_disconnect(Suite& suite, std::size_t number) {
  return suite.on_host([&] {
    const auto connected = suite.in_process(1, connect);
    if (connected.finding) return failed(*connected.finding);
    const auto crashed = suite.killed_at_write(number, disconnect(connected.answer));
    if (auto finding = not_killed(crashed)) return failed(*std::move(finding));
    return cleaned_up(suite, disconnect(connected.answer));
  });
}

}  // namespace

std::vector<NamedCheck> crash_checks(Suite& suite) {
  const auto done = suite.in_process(2, record_writes);
  if (done.finding) return {{"crash-points", [finding = *done.finding](Suite&) { return failed(finding); }}};
  std::vector<NamedCheck> checks;
  const auto named = [](const char* verb, std::size_t number, const Json& what) {
    return fmt::format("crash-points.{}-{} ({})", verb, number + 1, what.get<std::string>());
  };
  const Json connect_writes = done.answer.value("connect", Json::array());
  bool unchanged = true;  // no effect has been begun and done before this write
  for (std::size_t number = 0; number < connect_writes.size(); ++number) {
    unchanged = unchanged && !connect_writes[number].get<std::string>().starts_with("after the effect");
    checks.push_back({named("connect", number, connect_writes[number]),
                      [number, unchanged](Suite& all) { return crash_in_connect(all, number, unchanged); }});
  }
  const Json disconnect_writes = done.answer.value("disconnect", Json::array());
  for (std::size_t number = 0; number < disconnect_writes.size(); ++number)
    checks.push_back({named("disconnect", number, disconnect_writes[number]),
                      [number](Suite& all) { return crash_in_disconnect(all, number); }});
  if (checks.empty())
    checks.push_back({"crash-points", [](Suite&) {
                        return skipped("neither connect nor disconnect writes to the journal",
                                       "nothing needs doing, if they change nothing on the host");
                      }});
  return checks;
}

}  // namespace aiolos::conformance
