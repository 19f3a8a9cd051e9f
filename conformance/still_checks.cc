// SPDX-License-Identifier: Apache-2.0
// Checks that change nothing: the plugin's table, describe, target and aio_mode, wrong input, threads.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "no_touch.h"
#include "suite.h"

namespace aiolos::conformance {
namespace {

const char* const kPure = "compute it from the connection_info and the configuration alone";

/// What a slot answers, as text to compare: its result, or its error.
template <typename T>
std::string text_of(const Result<T>& result) {
  if (!result) return "error: " + describe(result.error());
  if constexpr (std::is_same_v<T, Attachment> || std::is_same_v<T, AioAdvice>)
    return to_json(*result).dump();
  else
    return result->value_or("(none)");
}

Result<Attachment> describe_volume(Bench& bench) { return bench.driver().describe(bench.connection_info()); }
Result<std::optional<std::string>> target_of(Bench& bench) { return bench.driver().target(bench.connection_info()); }

Verdict verdict_of(const Suite::Done& done) { return done.finding ? failed(*done.finding) : passed(); }

// --- load ---

Verdict load(Suite& suite) {
  return verdict_of(suite.in_process(1, [&suite](Bench& bench, Progress&) -> std::optional<Finding> {
    const auto& types = bench.driver().types();
    const std::string type = suite.subject().connection_info.value("driver_volume_type", "");
    if (std::find(types.begin(), types.end(), type) != types.end()) return std::nullopt;
    return Finding{fmt::format("it does not serve the volume type '{}' of the connection_info", type),
                   "give a connection_info of a type that the plugin lists"};
  }));
}

// --- describe and target ---

/// That a slot gives one answer, in one process and in another.
template <typename Slot>
Verdict same_answer(Suite& suite, Slot slot) {
  const Suite::Work ask = [&slot](Bench& bench, Progress& progress) -> std::optional<Finding> {
    progress.now("asking twice");
    const std::string first = text_of(slot(bench));
    const std::string second = text_of(slot(bench));
    bench.answer = first;
    if (first == second) return std::nullopt;
    return Finding{fmt::format("the second answer differs: {} and then {}", first, second), kPure};
  };
  const Suite::Done one = suite.in_process(2, ask, Fault::absent);
  if (one.finding) return failed(*one.finding);
  const Suite::Done other = suite.in_process(2, ask, Fault::absent);
  if (other.finding) return failed(*other.finding);
  if (one.answer == other.answer) return passed();
  return failed({fmt::format("another process is told {} and not {}", other.answer.dump(), one.answer.dump()), kPure});
}

template <typename Slot>
Verdict touches_nothing(Suite& suite, Slot slot) {
  const Subject& subject = suite.subject();
  const ChildEnd end = run_in_child(subject.deadline, [&](Progress& progress) -> Json {
    auto bench = Bench::open(subject, Fault::absent);
    if (!bench) return nullptr;       // the check "load" has said why
    Bench& kept = *bench->release();  // ends with the process: to close its files would touch them
    progress.now("a system call that opens or looks at a file, makes a socket or starts a program");
    if (!forbid_touching_the_host()) return false;
    (void)slot(kept);
    return true;
  });
  if (end.how != ChildEnd::How::answered) return failed({describe(end), kPure});
  return end.answer == false ? skipped("this kernel has no seccomp filters", "run it where it has") : passed();
}

/// Why an answer to wrong input is wrong itself.
std::optional<Finding> judge_wrong_input(std::string_view slot, const Variation& variation, const Error& error) {
  const std::string what = fmt::format("{} with {}", slot, variation.what);
  if (error.kind == ErrorKind::bug)
    return Finding{fmt::format("{}: {}", what, describe(error)), "check each value's type before it is used"};
  if (error.kind != ErrorKind::bad_input)
    return Finding{fmt::format("{} is an error of kind {}: {}", what, to_string(error.kind), describe(error)),
                   "make it bad_input: whoever wrote the connection_info can mend it"};
  if (!error.where.starts_with('/'))
    return Finding{fmt::format("{}: the error does not say where: {}", what, describe(error)),
                   "give the JSON pointer of the member that is wrong"};
  return std::nullopt;
}

template <typename Slot>
Verdict wrong_input(Suite& suite, std::string_view name, Slot slot) {
  return verdict_of(suite.in_process(
      1,
      [&](Bench& bench, Progress& progress) -> std::optional<Finding> {
        for (const Variation& variation : variations(bench.connection_info())) {
          progress.now(fmt::format("{} with {}", name, variation.what));
          const auto result = slot(bench, variation.document);
          if (result) continue;
          if (auto finding = judge_wrong_input(name, variation, result.error())) return finding;
        }
        return std::nullopt;
      },
      Fault::absent));
}

Verdict target_same_answer(Suite& suite) { return same_answer(suite, target_of); }
Verdict target_touches_nothing(Suite& suite) { return touches_nothing(suite, target_of); }
Verdict describe_same_answer(Suite& suite) { return same_answer(suite, describe_volume); }
Verdict describe_touches_nothing(Suite& suite) { return touches_nothing(suite, describe_volume); }

Verdict describe_wrong_input(Suite& suite) {
  return wrong_input(suite, "describe", [](Bench& bench, const Json& info) { return bench.driver().describe(info); });
}

Verdict target_wrong_input(Suite& suite) {
  return wrong_input(suite, "target", [](Bench& bench, const Json& info) { return bench.driver().target(info); });
}

// --- aio_mode ---

/// Facts of every kind that the host's probe gives.
std::vector<StorageFacts> kinds_of_facts() {
  std::vector<StorageFacts> all{{}};
  for (const Allocation allocation : {Allocation::full, Allocation::sparse, Allocation::thin, Allocation::unknown})
    for (const std::optional<bool> o_direct : {std::optional<bool>(), std::optional(true), std::optional(false)}) {
      LayerFacts layer;
      layer.path = "/dev/null";
      layer.format = "raw";
      layer.kind = SourceKind::block;
      layer.allocation = allocation;
      layer.o_direct = o_direct;
      all.push_back({{std::move(layer)}});
    }
  return all;
}

/// The volume's attachment as it can be known without connecting; a block device where it can't.
Attachment known_attachment(Bench& bench) {
  if (auto described = describe_volume(bench)) return *described;
  Attachment attachment;
  attachment.source.path = "/dev/null";
  return attachment;
}

Verdict aio_mode(Suite& suite) {
  return verdict_of(suite.in_process(
      1,
      [](Bench& bench, Progress& progress) -> std::optional<Finding> {
        const Attachment attachment = known_attachment(bench);
        const auto judge = [&](const StorageFacts* facts) -> std::optional<Finding> {
          const std::string given = facts == nullptr ? "null" : to_json(*facts).dump();
          progress.now("aio_mode with facts " + given);
          const auto advice = bench.driver().aio_mode(attachment, facts);
          if (!advice) return unexpected("aio_mode with facts " + given, advice.error());
          auto finding = contradiction(*advice);
          if (finding) finding->reason += " with facts " + given;
          return finding;
        };
        if (auto finding = judge(nullptr)) return finding;
        for (const StorageFacts& facts : kinds_of_facts())
          if (auto finding = judge(&facts)) return finding;
        return std::nullopt;
      },
      Fault::absent));
}

// --- threads ---

constexpr int kThreads = 4;
constexpr int kRounds = 200;

Verdict threads(Suite& suite) {
  return verdict_of(suite.in_process(
      1,
      [](Bench& bench, Progress& progress) -> std::optional<Finding> {
        const Attachment attachment = known_attachment(bench);
        const auto ask = [&] {
          return text_of(describe_volume(bench)) + text_of(bench.driver().aio_mode(attachment, nullptr));
        };
        const std::string alone = ask();
        progress.now(fmt::format("describe and aio_mode in {} threads", kThreads));
        std::atomic<int> different{0};
        std::vector<std::thread> threads;
        for (int thread = 0; thread < kThreads; ++thread)
          threads.emplace_back([&] {
            for (int round = 0; round < kRounds; ++round) different += ask() == alone ? 0 : 1;
          });
        for (std::thread& thread : threads) thread.join();
        if (different == 0) return std::nullopt;
        return Finding{fmt::format("{} of {} answers that threads got side by side differ from the one alone",
                                   different.load(), kThreads * kRounds),
                       "describe and aio_mode run in any thread: keep nothing between calls, or guard it"};
      },
      Fault::absent));
}

}  // namespace

std::optional<Finding> contradiction(const AioAdvice& advice) {
  if (!advice.effective) return std::nullopt;
  if (advice.permitted.empty())
    return Finding{"aio_mode permits no mode", "permit at least threads, which works everywhere"};
  if (advice.preferred && !advice.permits(*advice.preferred))
    return Finding{fmt::format("aio_mode prefers {} and does not permit it", to_string(*advice.preferred)),
                   "prefer one of the permitted modes"};
  if (advice.reasons.empty())
    return Finding{"aio_mode gives no reasons", "say why: operators see it in `aiolos explain`"};
  for (const Rejection& rejected : advice.rejected)
    if (advice.permits(rejected.mode))
      return Finding{fmt::format("aio_mode both permits and rejects {}", to_string(rejected.mode)),
                     "list each mode once"};
  return std::nullopt;
}

std::vector<NamedCheck> still_checks() {
  return {{"load", load},
          {"describe.same-answer", describe_same_answer},
          {"describe.touches-nothing", describe_touches_nothing},
          {"describe.wrong-input", describe_wrong_input},
          {"target.same-answer", target_same_answer},
          {"target.touches-nothing", target_touches_nothing},
          {"target.wrong-input", target_wrong_input},
          {"aio_mode.advice", aio_mode},
          {"threads", threads}};
}

}  // namespace aiolos::conformance
