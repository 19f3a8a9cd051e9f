// SPDX-License-Identifier: Apache-2.0
#include "suite.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <csignal>

namespace aiolos::conformance {
namespace {

using namespace std::chrono_literals;

// For loading the plugin and the journal's writes, beside the verbs.
constexpr auto kBesides = 5s;

Json to_json(const std::optional<Finding>& finding) {
  if (!finding) return nullptr;
  return {{"reason", finding->reason}, {"next", finding->next}};
}

std::optional<Finding> finding_from(const Json& json) {
  if (json.is_null()) return std::nullopt;
  return Finding{json.at("reason"), json.at("next")};
}

/// The whole life of a process of the suite.
Json live(const Subject& subject, Fault fault, const Suite::Work& work, Progress& progress) {
  progress.now("loading the plugin");
  const auto bench = Bench::open(subject, fault);
  if (!bench) return {{"finding", to_json(unexpected("loading the plugin", bench.error()))}};
  progress.now("");
  const std::optional<Finding> finding = work(**bench, progress);
  return {{"finding", to_json(finding)}, {"answer", (*bench)->answer}, {"observations", (*bench)->observations()}};
}

void insert_all(std::set<std::string>& into, const Json& texts) {
  for (const Json& text : texts) into.insert(text.get<std::string>());
}

}  // namespace

Finding unexpected(const std::string& during, const Error& error) {
  return {fmt::format("{} failed ({}): {}", during, to_string(error.kind), describe(error)), error.next};
}

Suite::Done Suite::in_process(int verbs, const Work& work, Fault fault) {
  const ChildEnd end = run_in_child(subject_.deadline * verbs + kBesides,
                                    [&](Progress& progress) { return live(subject_, fault, work, progress); });
  if (end.how == ChildEnd::How::overran) slow_.insert(describe(end));
  if (end.how != ChildEnd::How::answered)
    return {Finding{describe(end), "nothing that a plugin is given may crash or hang it"},
            {},
            end.how == ChildEnd::How::killed && end.signal == SIGKILL};
  if (end.answer.contains("observations")) keep(end.answer.at("observations"));
  return {finding_from(end.answer.at("finding")), end.answer.value("answer", Json()), false};
}

Suite::Done Suite::killed_at_write(std::size_t number, const Work& work) {
  return in_process(2, [number, &work](Bench& bench, Progress& progress) {
    bench.at_journal_write([number, count = std::size_t{0}](const JournalWrite&) mutable {
      if (count++ == number) ::kill(::getpid(), SIGKILL);
    });
    return work(bench, progress);
  });
}

Verdict Suite::on_host(const std::function<Verdict()>& check) {
  Verdict verdict = check();
  if (verdict.outcome == Outcome::pass)
    if (auto left = host_as_before("after this check")) verdict = failed(*std::move(left));
  if (verdict.outcome == Outcome::fail) restore();
  return verdict;
}

std::optional<Finding> Suite::host_as_before(const std::string& after) const {
  const std::vector<std::string> left = wait_until_as(before_, subject_.settle);
  if (left.empty()) return std::nullopt;
  return Finding{
      fmt::format("{} the host is not as before: {}", after, fmt::join(left, ", ")),
      "disconnect has to undo what connect did, from the connection_info, what is held and what the host shows"};
}

void Suite::restore() {
  in_process(2, [](Bench& bench, Progress&) -> std::optional<Finding> {
    const auto records = bench.open_records();
    if (!records) return unexpected("reading the journal", records.error());
    for (const Record record : *records) (void)bench.disconnect(record, nullptr);
    return std::nullopt;
  });
  wait_until_as(before_, subject_.settle);
}

void Suite::keep(const Json& observations) {
  insert_all(leaks_, observations.at("leaks"));
  insert_all(outside_, observations.at("outside"));
  insert_all(slow_, observations.at("slow"));
  insert_all(descriptors_, observations.at("descriptors"));
}

Report run_suite(const Subject& subject, const std::function<void(const Check&)>& each) {
  Report report(subject.plugin.filename().native());
  Suite suite(subject);
  bool go_on = true;
  const auto run_all = [&](const std::vector<NamedCheck>& checks) {
    for (const NamedCheck& check : checks) {
      if (!go_on) return;
      report.add({check.name, check.run(suite)});
      each(report.checks().back());
      // Nothing else can be asked of a plugin that does not load.
      if (report.count(Outcome::fail) != 0) go_on = go_on && check.name != "load" && !subject.fail_fast;
    }
  };
  run_all(still_checks());
  if (subject.connect) {
    run_all(host_checks());
    if (go_on) run_all(crash_checks(suite));
    run_all(fault_checks());
  }
  run_all(overall_checks(subject));
  return report;
}

}  // namespace aiolos::conformance
