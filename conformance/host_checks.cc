// SPDX-License-Identifier: Apache-2.0
// Checks that connect the volume to this host: each leaves it as it was, or has failed.
#include <fmt/format.h>

#include "suite.h"

namespace aiolos::conformance {
namespace {

using Steps = std::optional<Finding>;

const char* const kIdempotent = "verbs are idempotent: look whether it is done before doing it";

/// A check for drivers with a capability only.
/// @param promise the capability's name, for the reason why it is skipped.
Verdict if_capable(Suite& suite, std::uint32_t capability, std::string_view promise,
                   const std::function<Verdict()>& check) {
  const auto done = suite.in_process(1, [](Bench& bench, Progress&) -> Steps {
    bench.answer = bench.driver().capabilities();
    return std::nullopt;
  });
  if (done.finding) return failed(*done.finding);
  if ((done.answer.get<std::uint32_t>() & capability) == 0)
    return skipped(fmt::format("the driver does not promise {}", promise), "nothing needs doing");
  return suite.on_host(check);
}

Verdict if_connects(Suite& suite, const std::function<Verdict()>& check) {
  return if_capable(suite, AIOLOS_CAN_CONNECT, "AIOLOS_CAN_CONNECT", check);
}

/// Runs works in a process each, one after the other, until one has a finding.
Verdict in_turn(Suite& suite, const std::vector<std::pair<int, Suite::Work>>& works) {
  for (const auto& [verbs, work] : works)
    if (const auto done = suite.in_process(verbs, work); done.finding) return failed(*done.finding);
  return passed();
}

/// Connects a new volume of the journal; the record and the attachment are the answer.
Steps connect_new(Bench& bench, Record& record, Attachment& attachment) {
  const auto made = bench.new_record();
  if (!made) return unexpected("writing to the journal", made.error());
  record = *made;
  auto connected = bench.connect(record);
  if (!connected) return unexpected("connect", connected.error());
  attachment = *std::move(connected);
  return std::nullopt;
}

/// Disconnects a volume that this record has never connected.
Steps disconnect_new(Bench& bench, Progress&) {
  const auto record = bench.new_record();
  if (!record) return unexpected("writing to the journal", record.error());
  if (const auto done = bench.disconnect(*record, nullptr); !done)
    return unexpected("disconnect of what is not connected", done.error());
  return std::nullopt;
}

// --- connect ---

Verdict never_connected(Suite& suite) {
  return if_connects(suite, [&] { return in_turn(suite, {{1, disconnect_new}}); });
}

Steps connect_twice(Bench& bench, Progress& progress) {
  Record record = 0;
  Attachment first;
  if (auto finding = connect_new(bench, record, first)) return finding;
  progress.now("connecting again");
  const auto second = bench.connect(record);
  if (!second) return unexpected("connecting again", second.error());
  bench.answer = {{"record", record}, {"attachment", to_json(first)}};
  if (to_json(first) == to_json(*second)) return std::nullopt;
  return Finding{fmt::format("connecting again answers {} and not {}", to_json(*second).dump(), to_json(first).dump()),
                 kIdempotent};
}

/// Connects what another process has connected, and disconnects it. @param earlier that one's answer.
Suite::Work connect_once_more(const Json& earlier) {
  return [earlier](Bench& bench, Progress&) -> Steps {
    const Record record = earlier.at("record");
    const auto again = bench.connect(record);
    if (!again) return unexpected("connecting again in another process", again.error());
    if (to_json(*again) != earlier.at("attachment"))
      return Finding{fmt::format("connecting again in another process answers {} and not {}", to_json(*again).dump(),
                                 earlier.at("attachment").dump()),
                     kIdempotent};
    if (const auto done = bench.disconnect(record, &*again); !done) return unexpected("disconnect", done.error());
    return std::nullopt;
  };
}

Verdict connect_repeat(Suite& suite) {
  return if_connects(suite, [&] {
    const auto first = suite.in_process(2, connect_twice);
    if (first.finding) return failed(*first.finding);
    return in_turn(suite, {{2, connect_once_more(first.answer)}});
  });
}

// --- a connected volume ---

/// Connects, does something with the volume, and disconnects it.
Verdict while_connected(Suite& suite, int verbs, const std::function<Steps(Bench&, Record, const Attachment&)>& use) {
  return in_turn(suite, {{verbs + 2, [&use](Bench& bench, Progress&) -> Steps {
                            Record record = 0;
                            Attachment attachment;
                            if (auto finding = connect_new(bench, record, attachment)) return finding;
                            if (auto finding = use(bench, record, attachment)) return finding;
                            if (const auto done = bench.disconnect(record, &attachment); !done)
                              return unexpected("disconnect", done.error());
                            return std::nullopt;
                          }}});
}

Verdict verify_connected(Suite& suite) {
  return suite.on_host([&] {
    return while_connected(suite, 2, [](Bench& bench, Record, const Attachment& attachment) -> Steps {
      for (const char* during : {"verify of the connected volume", "verify once more"})
        if (const auto same = bench.verify(attachment); !same) return unexpected(during, same.error());
      return std::nullopt;
    });
  });
}

Verdict facts_connected(Suite& suite) {
  return suite.on_host([&] {
    return while_connected(suite, 1, [](Bench& bench, Record, const Attachment& attachment) -> Steps {
      const auto facts = bench.facts(attachment);
      if (!facts) return unexpected("facts of the connected volume", facts.error());
      if (attachment.source.kind != SourceKind::network && facts->chain.empty())
        return Finding{"facts of a file or block device hold no layer", "leave facts NULL: the host probes it"};
      const auto advice = bench.driver().aio_mode(attachment, &*facts);
      if (!advice) return unexpected("aio_mode of the connected volume", advice.error());
      return contradiction(*advice);
    });
  });
}

std::optional<std::uint64_t> size_of(Bench& bench, const Attachment& attachment) {
  const auto facts = bench.facts(attachment);
  return facts && !facts->chain.empty() ? facts->chain.front().virtual_size : std::nullopt;
}

/// The present size is asked for twice, and then a smaller one.
Steps extend_to_present_size(Bench& bench, Record record, const Attachment& attachment) {
  constexpr std::uint64_t kSector = 512;
  const auto size = size_of(bench, attachment);
  if (!size) return std::nullopt;
  for (const char* during : {"extending to the present size", "extending to it again"}) {
    const auto now = bench.extend(record, attachment, *size);
    if (!now) return unexpected(during, now.error());
    if (*now < *size)
      return Finding{fmt::format("{} ({} bytes) answers {}", during, *size, *now),
                     "answer the size the volume has now"};
  }
  const auto smaller = bench.extend(record, attachment, *size - kSector);
  if (!smaller && smaller.error().kind == ErrorKind::bug) return unexpected("extending to less", smaller.error());
  const auto after = size_of(bench, attachment);
  if ((!smaller || *smaller >= *size) && after == size) return std::nullopt;
  return Finding{fmt::format("extending from {} to {} bytes answers {}, and the volume has {}", *size, *size - kSector,
                             smaller.value_or(0), after.value_or(0)),
                 "refuse it, or answer the present size: a volume is never shrunk"};
}

Verdict extend_same_size(Suite& suite) {
  return if_capable(suite, AIOLOS_CAN_EXTEND, "AIOLOS_CAN_EXTEND",
                    [&] { return while_connected(suite, 6, extend_to_present_size); });
}

// --- disconnect ---

Steps disconnect_twice(Bench& bench, Progress& progress) {
  Record record = 0;
  Attachment attachment;
  if (auto finding = connect_new(bench, record, attachment)) return finding;
  if (const auto done = bench.disconnect(record, &attachment); !done) return unexpected("disconnect", done.error());
  progress.now("disconnecting again");
  if (const auto done = bench.disconnect(record, &attachment); !done)
    return unexpected("disconnecting again", done.error());
  return std::nullopt;
}

Verdict disconnect_repeat(Suite& suite) {
  return if_connects(suite, [&] { return in_turn(suite, {{3, disconnect_twice}, {1, disconnect_new}}); });
}

/// A process that ends between connect and the journal's note of its answer.
Verdict disconnect_without_attachment(Suite& suite) {
  return if_connects(suite, [&] {
    const auto connected = suite.in_process(1, [](Bench& bench, Progress&) -> Steps {
      Record record = 0;
      Attachment lost;
      auto finding = connect_new(bench, record, lost);
      bench.answer = record;
      return finding;
    });
    if (connected.finding) return failed(*connected.finding);
    return in_turn(suite, {{1, [record = connected.answer](Bench& bench, Progress&) -> Steps {
                              if (const auto done = bench.disconnect(record.get<Record>(), nullptr); !done)
                                return unexpected("disconnect without an attachment", done.error());
                              return std::nullopt;
                            }}});
  });
}

// --- several guests ---

Steps share(Bench& bench, Progress& progress) {
  Record one = 0;
  Record other = 0;
  Attachment of_one;
  Attachment of_other;
  if (auto finding = connect_new(bench, one, of_one)) return finding;
  progress.now("connecting it for a second guest");
  if (auto finding = connect_new(bench, other, of_other)) return finding;
  progress.now("disconnecting it from the first");
  if (const auto done = bench.disconnect(one, &of_one); !done)
    return unexpected("disconnect of one guest", done.error());
  if (const auto same = bench.verify(of_other); !same)
    return unexpected("verify for the guest that still has the volume", same.error());
  if (const auto facts = bench.facts(of_other); !facts) {
    Finding finding = unexpected("facts for the guest that still has the volume", facts.error());
    finding.next = "hold what volumes share, and take it away only for the last of its holders";
    return finding;
  }
  if (const auto done = bench.disconnect(other, &of_other); !done)
    return unexpected("disconnect of the last guest", done.error());
  return std::nullopt;
}

Verdict multiattach(Suite& suite) {
  return if_capable(suite, AIOLOS_CAN_MULTIATTACH, "AIOLOS_CAN_MULTIATTACH", [&] {
    return in_turn(suite, {{6, share}});
  });
}

// --- wrong input, now where it could do harm ---

Verdict connect_wrong_input(Suite& suite) {
  return if_connects(suite, [&] {
    const auto done = suite.in_process(
        1,
        [](Bench& bench, Progress& progress) -> Steps {
          for (const Variation& variation : variations(bench.connection_info())) {
            progress.now("connect without services, with " + variation.what);
            const auto result = bench.driver().connect(variation.document);
            if (!result && result.error().kind == ErrorKind::bug)
              return Finding{fmt::format("connect with {}: {}", variation.what, describe(result.error())),
                             "check each value's type before it is used"};
          }
          return std::nullopt;
        },
        Fault::absent);
    return done.finding ? failed(*done.finding) : passed();
  });
}

}  // namespace

std::vector<NamedCheck> host_checks() {
  return {{"disconnect.never-connected", never_connected},
          {"connect.repeat", connect_repeat},
          {"connect.wrong-input", connect_wrong_input},
          {"verify.connected", verify_connected},
          {"facts.connected", facts_connected},
          {"extend.same-size", extend_same_size},
          {"disconnect.repeat", disconnect_repeat},
          {"disconnect.without-attachment", disconnect_without_attachment},
          {"multiattach.two-guests", multiattach}};
}

}  // namespace aiolos::conformance
