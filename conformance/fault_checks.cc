// SPDX-License-Identifier: Apache-2.0
// Services of the host that fail: the verbs end with an error that helps, and what they left can be undone.
#include <fmt/format.h>

#include "suite.h"

namespace aiolos::conformance {
namespace {

using Steps = std::optional<Finding>;

constexpr Fault kFaults[] = {Fault::commands_fail, Fault::commands_overrun, Fault::programs_missing,
                             Fault::probe_fails,   Fault::locks_time_out,   Fault::journal_fails};

/// Why an error is none that helps.
Steps judge(std::string_view verb, const Error& error) {
  if (error.kind == ErrorKind::bug) return unexpected(std::string(verb), error);
  if (error.message.empty())
    return Finding{fmt::format("the error of {} has no message", verb), "name what failed, with its values"};
  if (error.next.empty())
    return Finding{fmt::format("the error of {} does not say what to do: {}", verb, describe(error)),
                   "say what its reader can do about it"};
  return std::nullopt;
}

/// Connects with services that fail; then disconnects with those that work.
Verdict connect_with(Suite& suite, Fault fault) {
  return suite.on_host([&suite, fault] {
    const auto tried = suite.in_process(
        1,
        [](Bench& bench, Progress& progress) -> Steps {
          const auto record = bench.new_record();
          if (!record) return unexpected("writing to the journal", record.error());
          bench.answer = *record;
          progress.now("connect");
          const auto attachment = bench.connect(*record);
          return attachment ? std::nullopt : judge("connect", attachment.error());
        },
        fault);
    if (tried.finding) return failed(*tried.finding);
    const auto undone = suite.in_process(1, [record = tried.answer](Bench& bench, Progress&) -> Steps {
      if (const auto done = bench.disconnect(record.get<Record>(), nullptr); !done)
        return unexpected("disconnect after a connect that failed", done.error());
      return std::nullopt;
    });
    return undone.finding ? failed(*undone.finding) : passed();
  });
}

/// Disconnects a connected volume with services that fail; then with those that work.
Verdict disconnect_with(Suite& suite, Fault fault) {
  return suite.on_host([&suite, fault] {
    const auto connected = suite.in_process(1, [](Bench& bench, Progress&) -> Steps {
      const auto record = bench.new_record();
      if (!record) return unexpected("writing to the journal", record.error());
      const auto attachment = bench.connect(*record);
      if (!attachment) return unexpected("connect", attachment.error());
      bench.answer = {{"record", *record}, {"attachment", to_json(*attachment)}};
      return std::nullopt;
    });
    if (connected.finding) return failed(*connected.finding);
    const Suite::Work disconnect = [&connected](Bench& bench, Progress& progress) -> Steps {
      progress.now("disconnect");
      const auto attachment = attachment_from_json(connected.answer.at("attachment"));
      if (!attachment) return unexpected("reading the attachment back", attachment.error());
      const auto done = bench.disconnect(connected.answer.at("record"), &*attachment);
      bench.answer = done.has_value();
      return done ? std::nullopt : judge("disconnect", done.error());
    };
    const auto tried = suite.in_process(1, disconnect, fault);
    if (tried.finding) return failed(*tried.finding);
    if (tried.answer == true) {
      auto left = suite.host_as_before("disconnect answered success, and");
      return left ? failed(*std::move(left)) : passed();
    }
    const auto again = suite.in_process(1, disconnect);
    if (again.finding) return failed(*again.finding);
    return again.answer == true ? passed()
                                : failed({"disconnect fails for good after it failed once",
                                          "let disconnect go by what the host shows, and be repeated"});
  });
}

}  // namespace

std::vector<NamedCheck> fault_checks() {
  std::vector<NamedCheck> checks;
  for (const Fault fault : kFaults)
    checks.push_back({fmt::format("failing-services.connect ({})", describe(fault)),
                      [fault](Suite& suite) { return connect_with(suite, fault); }});
  for (const Fault fault : kFaults)
    checks.push_back({fmt::format("failing-services.disconnect ({})", describe(fault)),
                      [fault](Suite& suite) { return disconnect_with(suite, fault); }});
  return checks;
}

}  // namespace aiolos::conformance
