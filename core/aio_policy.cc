// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/aio_policy.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace aiolos {
namespace {

constexpr std::array kModes{AioMode::native, AioMode::io_uring, AioMode::threads};

/// Why a mode can't be used, or nothing if it can.
using Obstacle = std::optional<std::string>;

bool in_range(Version value, Version from, Version to) { return value >= from && (to == 0 || value < to); }

std::string cache_name(std::optional<CacheMode> cache) {
  return cache ? fmt::format("cache={}", to_string(*cache)) : std::string("no cache mode (QEMU's writeback)");
}

Obstacle not_permitted(const AioQuestion& question, AioMode mode) {
  if (question.advice.permits(mode)) return std::nullopt;
  for (const Rejection& rejection : question.advice.rejected)
    if (rejection.mode == mode) return rejection.because;
  return fmt::format("the storage's driver does not permit {}", to_string(mode));
}

// Rule 2: libvirt refuses io=native without O_DIRECT, and Linux AIO is synchronous without it.
Obstacle no_o_direct(const AioQuestion& question) {
  if (!uses_o_direct(question.cache))
    return fmt::format("native needs O_DIRECT, which {} does not use", cache_name(question.cache));
  for (const LayerFacts& layer : question.storage.chain) {
    if (layer.o_direct == false) return fmt::format("native needs O_DIRECT, which {} refuses", layer.path);
    if (!layer.o_direct) return fmt::format("native needs O_DIRECT, which could not be tried on {}", layer.path);
  }
  return std::nullopt;
}

// Rule 3, second sentence: what is preallocated now need not stay so.
Obstacle punches_holes(const AioQuestion& question) {
  if (question.source != SourceKind::file) return std::nullopt;
  if (question.discard_unmap) return "discard=unmap lets the guest punch holes into the file";
  if (question.detect_zeroes_unmap) return "detect_zeroes=unmap turns written zeros into holes in the file";
  return std::nullopt;
}

// Rule 6: QEMU fails to open the disk when io_setup(2) gets EAGAIN.
Obstacle over_budget(const AioQuestion& question) {
  const HostFacts& host = question.host;
  if (!host.aio_nr || !host.aio_max_nr) return std::nullopt;
  const std::uint64_t wanted = question.new_contexts * kAioEventsPerContext;
  const std::uint64_t taken = *host.aio_nr + question.reserved_events;
  const std::uint64_t left = *host.aio_max_nr > taken ? *host.aio_max_nr - taken : 0;
  if (wanted <= left) return std::nullopt;
  const std::string reserved = question.reserved_events == 0
                                   ? ""
                                   : fmt::format(" ({} are reserved by other attaches)", question.reserved_events);
  return fmt::format("native needs {} AIO events and {} of fs.aio-max-nr={} are left{}; sysctl fs.aio-max-nr={} helps",
                     wanted, left, *host.aio_max_nr, reserved, std::max(*host.aio_max_nr * 2, taken + wanted));
}

Obstacle known_bad(const HostFacts& host, const std::vector<KnownBadIoUring>& rows) {
  for (const KnownBadIoUring& row : rows)
    if (in_range(*host.kernel, row.kernel_from, row.kernel_to) && in_range(*host.qemu, row.qemu_from, row.qemu_to))
      return fmt::format("{} (kernel {}, QEMU {}; {})", row.what, version_string(*host.kernel),
                         version_string(*host.qemu), row.source);
  return std::nullopt;
}

// Rule 5 without the operator's wish. What is not known does not hold.
Obstacle io_uring_unusable(const HostFacts& host, const std::vector<KnownBadIoUring>& rows) {
  if (!host.libvirt || !host.qemu || !host.kernel) return "the versions of kernel, libvirt and QEMU are not known";
  if (*host.libvirt < version(6, 3))
    return fmt::format("libvirt {} is older than 6.3.0", version_string(*host.libvirt));
  if (*host.qemu < version(5, 0)) return fmt::format("QEMU {} is older than 5.0.0", version_string(*host.qemu));
  if (host.qemu_has_io_uring != true) return "QEMU is not known to be built with io_uring";
  if (host.io_uring_disabled.value_or(0) != 0)
    return fmt::format("kernel.io_uring_disabled={}; sysctl kernel.io_uring_disabled=0 allows it",
                       *host.io_uring_disabled);
  if (host.io_uring_works != true) return "the kernel refused io_uring_setup(2), or it was not tried";
  return known_bad(host, rows);
}

struct Judgement {
  AioMode mode;
  Obstacle obstacle;
  bool only_budget = false;  ///< The budget is the only thing in the way.
};

Judgement judge_native(const AioQuestion& question) {
  Judgement judgement{AioMode::native, not_permitted(question, AioMode::native)};
  if (!judgement.obstacle) judgement.obstacle = no_o_direct(question);
  if (!judgement.obstacle) judgement.obstacle = punches_holes(question);
  if (!judgement.obstacle) {
    judgement.obstacle = over_budget(question);
    judgement.only_budget = judgement.obstacle.has_value();
  }
  return judgement;
}

Judgement judge_io_uring(const AioQuestion& question, const std::vector<KnownBadIoUring>& rows) {
  Judgement judgement{AioMode::io_uring, not_permitted(question, AioMode::io_uring)};
  if (!judgement.obstacle) judgement.obstacle = io_uring_unusable(question.host, rows);
  return judgement;
}

void reject(AioDecision& decision, const Judgement& judgement, std::string_view otherwise) {
  decision.rejected.push_back({judgement.mode, judgement.obstacle.value_or(std::string(otherwise))});
}

void choose(AioDecision& decision, AioMode mode, std::string reason) {
  decision.mode = mode;
  decision.reasons.push_back(std::move(reason));
}

/// Profile auto for a host-side source: what of preference, storage's choice and fallbacks comes first that can be used.
enum class Choice { preferred_io_uring, safe_native, io_uring_for_the_budget, threads };

Choice choose_by_facts(const AioQuestion& question, const Judgement& native, const Judgement& uring) {
  if (question.settings.prefer == AioMode::io_uring && !uring.obstacle) return Choice::preferred_io_uring;
  if (!native.obstacle && question.advice.preferred != AioMode::threads) return Choice::safe_native;
  if (native.only_budget && !uring.obstacle) return Choice::io_uring_for_the_budget;
  return Choice::threads;
}

AioMode mode_of(Choice choice) {
  switch (choice) {
    case Choice::preferred_io_uring:
    case Choice::io_uring_for_the_budget:
      return AioMode::io_uring;
    case Choice::safe_native:
      return AioMode::native;
    case Choice::threads:
      break;
  }
  return AioMode::threads;
}

AioDecision decide_by_facts(const AioQuestion& question, const std::vector<KnownBadIoUring>& rows) {
  const Judgement native = judge_native(question);
  const Judgement uring = judge_io_uring(question, rows);
  const Choice choice = choose_by_facts(question, native, uring);

  AioDecision decision;
  decision.reasons = question.advice.reasons;
  switch (choice) {
    case Choice::preferred_io_uring:
      choose(decision, mode_of(choice), "the configuration prefers io_uring and this host can use it");
      reject(decision, native, "the configuration prefers io_uring");
      break;
    case Choice::safe_native:
      choose(decision, mode_of(choice),
             fmt::format("native is safe here: {} opens the image with O_DIRECT and nothing that can be written is "
                         "unallocated on this host",
                         cache_name(question.cache)));
      reject(decision, uring, "the configuration prefers native (aio.prefer)");
      break;
    case Choice::io_uring_for_the_budget:
      choose(decision, mode_of(choice), "the host's budget for Linux AIO is used up and io_uring needs none of it");
      reject(decision, native, {});
      break;
    case Choice::threads:
      choose(decision, mode_of(choice), "threads work on any storage and never block QEMU");
      reject(decision, native, "the storage's driver prefers threads");
      reject(decision, uring, "the configuration prefers native (aio.prefer)");
      return decision;
  }
  decision.rejected.push_back({AioMode::threads, "slower: a pool of threads where the kernel can queue by itself"});
  return decision;
}

Judgement judge(const AioQuestion& question, const std::vector<KnownBadIoUring>& rows, AioMode mode) {
  switch (mode) {
    case AioMode::native:
      return judge_native(question);
    case AioMode::io_uring:
      return judge_io_uring(question, rows);
    case AioMode::threads:
      break;
  }
  return {AioMode::threads, std::nullopt};
}

bool was_measured(const MeasuredProfile& measured, AioMode mode) {
  return std::any_of(measured.modes.begin(), measured.modes.end(),
                     [mode](const MeasuredProfile::Mode& each) { return each.mode == mode; });
}

/// A measurement that may hold no longer is still better than none, and a disk's mode is not to change by itself with
/// an update or a birthday: so it decides, and the operator is told.
void warn_of_doubts(const AioQuestion& question, AioDecision& decision) {
  const auto why = doubts(*question.measured, question.host, question.today, question.settings.measured_max_age);
  if (why.empty()) return;
  decision.warnings.push_back(
      fmt::format("the measurement that decided for {} may hold no longer: {}; aiolos measure --save makes it anew",
                  to_string(*decision.mode), fmt::join(why, ", and ")));
}

/// Profile measured: the first mode of the measurement that can be used; nullopt if none can.
std::optional<AioDecision> decide_as_measured(const AioQuestion& question, const std::vector<KnownBadIoUring>& rows) {
  const MeasuredProfile& measured = *question.measured;
  AioDecision decision;
  decision.reasons = question.advice.reasons;
  for (const MeasuredProfile::Mode& each : measured.modes) {
    const Judgement judgement = judge(question, rows, each.mode);
    if (!decision.mode && !judgement.obstacle)
      choose(decision, each.mode, "profile measured: " + describe(measured));
    else
      reject(decision, judgement,
             fmt::format("measured {}: {:.2f} times the requests a second of {}", measured.date, each.times_last,
                         to_string(measured.modes.back().mode)));
  }
  if (!decision.mode) return std::nullopt;
  for (const AioMode mode : kModes)
    if (!was_measured(measured, mode)) decision.rejected.push_back({mode, "was not measured"});
  warn_of_doubts(question, decision);
  return decision;
}

/// Profile measured: by facts alone where nothing that can be used was measured.
AioDecision decide_by_measurement(const AioQuestion& question, const std::vector<KnownBadIoUring>& rows) {
  if (question.measured)
    if (auto decision = decide_as_measured(question, rows)) return *std::move(decision);
  AioDecision decision = decide_by_facts(question, rows);
  decision.reasons.push_back(
      fmt::format("profile measured: decided by facts alone, as {}",
                  question.measured ? "none of the modes measured can be used here" : question.unmeasured));
  return decision;
}

AioDecision decide_as_nova(const AioQuestion& question) {
  AioDecision decision;
  decision.mode = mode_as_nova(question.nova_driver_io, question.cache);
  if (!decision.mode) {
    decision.reasons.emplace_back("profile nova: Nova's driver for this storage sets no driver_io");
  } else if (decision.mode != question.nova_driver_io) {
    decision.rejected.push_back({AioMode::native, fmt::format("{} does not use O_DIRECT", cache_name(question.cache))});
    decision.reasons.emplace_back("profile nova: Nova falls back to threads without O_DIRECT");
  } else {
    decision.reasons.push_back(
        fmt::format("profile nova: Nova's driver for this storage sets driver_io={}", to_string(*decision.mode)));
  }
  return decision;
}

AioDecision no_effect(const AioQuestion& question) {
  AioDecision decision;
  decision.reasons = question.advice.reasons;
  for (const AioMode mode : kModes)
    decision.rejected.push_back({mode, "has no effect: an in-QEMU network client does the I/O"});
  return decision;
}

Json rejections_to_json(const std::vector<Rejection>& rejected) {
  Json list = Json::array();
  for (const Rejection& rejection : rejected)
    list.push_back({{"mode", to_string(rejection.mode)}, {"because", rejection.because}});
  return list;
}

Result<AioMode> mode_from_json(const JsonView& value) {
  const auto text = value.string();
  if (!text) return tl::unexpected(text.error());
  if (const auto mode = aio_mode_from_string(*text)) return *mode;
  return fail(ErrorKind::bad_input, fmt::format("unknown AIO mode '{}'", *text), "use threads, native or io_uring",
              value.pointer());
}

/// Calls `take` with each element of the array member `key`; nothing if it is absent.
template <typename Take>
Result<void> for_each(const JsonView& object, std::string_view key, Take take) {
  const auto list = object.find(key);
  if (!list) return tl::unexpected(list.error());
  if (!*list) return {};
  if (!(*list)->json().is_array()) return (*list)->mismatch("an array");
  for (std::size_t i = 0; i < (*list)->json().size(); ++i) {
    Result<void> done = take(JsonView((*list)->json()[i], fmt::format("{}/{}", (*list)->pointer(), i)));
    if (!done) return done;
  }
  return {};
}

Result<void> read_rejection(const JsonView& value, std::vector<Rejection>& rejected) {
  const auto mode = value.at("mode").and_then(mode_from_json);
  if (!mode) return tl::unexpected(mode.error());
  auto because = value.at("because").and_then([](const JsonView& member) { return member.string(); });
  if (!because) return tl::unexpected(because.error());
  rejected.push_back({*mode, std::move(*because)});
  return {};
}

Result<void> read_permitted(const JsonView& view, AioAdvice& advice) {
  const auto permitted = view.at("permitted");
  if (!permitted) return tl::unexpected(permitted.error());
  advice.permitted.clear();
  return for_each(view, "permitted", [&](const JsonView& value) -> Result<void> {
    const auto mode = mode_from_json(value);
    if (!mode) return tl::unexpected(mode.error());
    advice.permitted.push_back(*mode);
    return {};
  });
}

Result<void> read_preferred(const JsonView& view, AioAdvice& advice) {
  const auto preferred = view.find("preferred");
  if (!preferred) return tl::unexpected(preferred.error());
  if (!*preferred) return {};
  const auto mode = mode_from_json(**preferred);
  if (!mode) return tl::unexpected(mode.error());
  if (!advice.permits(*mode))
    return fail(ErrorKind::bad_input, fmt::format("the preferred mode {} is not among the permitted", to_string(*mode)),
                "permit it or prefer another", (*preferred)->pointer());
  advice.preferred = *mode;
  return {};
}

/// What all storage permits: threads never block QEMU, io_uring does not where it can be used at all.
AioAdvice permit_all_but_native() {
  AioAdvice advice;
  advice.permitted = {AioMode::threads, AioMode::io_uring};
  advice.preferred = AioMode::threads;
  return advice;
}

void permit_native(AioAdvice& advice, std::string reason) {
  advice.permitted.push_back(AioMode::native);
  advice.preferred = AioMode::native;
  advice.reasons.push_back(std::move(reason));
}

void refuse_native(AioAdvice& advice, std::string because) {
  advice.reasons.push_back(because);
  advice.rejected.push_back({AioMode::native, std::move(because)});
}

}  // namespace

bool AioAdvice::permits(AioMode mode) const {
  return std::find(permitted.begin(), permitted.end(), mode) != permitted.end();
}

Json to_json(const AioAdvice& advice) {
  Json permitted = Json::array();
  for (const AioMode mode : advice.permitted) permitted.push_back(to_string(mode));
  Json object = {{"effective", advice.effective},
                 {"permitted", std::move(permitted)},
                 {"reasons", advice.reasons},
                 {"rejected", rejections_to_json(advice.rejected)}};
  if (advice.preferred) object["preferred"] = to_string(*advice.preferred);
  return object;
}

Result<AioAdvice> aio_advice_from_json(const Json& value) {
  const JsonView view(value);
  AioAdvice advice;
  const auto effective = view.find_boolean("effective");
  if (!effective) return tl::unexpected(effective.error());
  advice.effective = effective->value_or(true);
  if (!advice.effective)
    advice.permitted.clear();
  else if (auto done = read_permitted(view, advice); !done)
    return tl::unexpected(done.error());
  Result<void> done = read_preferred(view, advice);
  if (done)
    done = for_each(view, "reasons", [&](const JsonView& reason) {
      return reason.string().map([&](std::string text) { advice.reasons.push_back(std::move(text)); });
    });
  if (done)
    done = for_each(view, "rejected", [&](const JsonView& entry) { return read_rejection(entry, advice.rejected); });
  if (!done) return tl::unexpected(done.error());
  return advice;
}

AioAdvice advise_by_allocation(const StorageFacts* facts, std::string_view storage) {
  AioAdvice advice = permit_all_but_native();
  switch (facts ? facts->allocation() : Allocation::unknown) {
    case Allocation::full:
      permit_native(advice, fmt::format("{} is fully allocated: writing changes no metadata", storage));
      break;
    case Allocation::sparse:
      refuse_native(advice,
                    fmt::format("{} is sparse: io_submit(2) can block QEMU while the file system allocates", storage));
      break;
    case Allocation::thin:
      refuse_native(advice, fmt::format("{} is thinly provisioned on this host: a write may have to allocate, and "
                                        "io_submit(2) can block QEMU meanwhile",
                                        storage));
      break;
    case Allocation::unknown:
      refuse_native(advice, fmt::format("whether {} is fully allocated is not known", storage));
      break;
  }
  return advice;
}

AioAdvice advise_remote_block(const StorageFacts* facts, std::string_view storage) {
  const Allocation allocation = facts ? facts->allocation() : Allocation::unknown;
  if (allocation == Allocation::thin || allocation == Allocation::sparse) return advise_by_allocation(facts, storage);
  AioAdvice advice = permit_all_but_native();
  permit_native(advice,
                fmt::format("{} is a block device: its target allocates, out of this host's file systems", storage));
  return advice;
}

AioAdvice advise_network_client(std::string_view protocol) {
  AioAdvice advice;
  advice.effective = false;
  advice.permitted.clear();
  advice.reasons.push_back(
      fmt::format("QEMU's own {} client does the I/O: AIO mode has no effect, none is set", protocol));
  return advice;
}

bool io_uring_usable(const HostFacts& host) { return !io_uring_unusable(host, known_bad_io_uring()); }

const std::vector<KnownBadIoUring>& known_bad_io_uring() {
  static const std::vector<KnownBadIoUring> rows{
      {0, version(5, 13), 0, 0, "guests hang on LVM and on ZFS over it", "github.com/canonical/lxd/issues/10061",
       "2027-12-31"},
      {0, 0, version(7, 1), version(7, 2), "disks on an iothread hang", "gitlab.com/qemu-project/qemu/-/issues/1193",
       "2027-12-31"},
  };
  return rows;
}

Json to_json(const AioDecision& decision) {
  return {{"mode", decision.mode ? Json(to_string(*decision.mode)) : Json(nullptr)},
          {"reasons", decision.reasons},
          {"rejected", rejections_to_json(decision.rejected)}};
}

std::optional<AioMode> mode_as_nova(std::optional<AioMode> nova_driver_io, std::optional<CacheMode> cache) {
  const bool falls_back = nova_driver_io == AioMode::native && cache && !uses_o_direct(cache);
  return falls_back ? AioMode::threads : nova_driver_io;
}

AioDecision decide_aio(const AioQuestion& question) { return decide_aio(question, known_bad_io_uring()); }

AioDecision decide_aio(const AioQuestion& question, const std::vector<KnownBadIoUring>& known_bad_rows) {
  if (question.settings.profile == AioProfile::nova) return decide_as_nova(question);
  if (!question.advice.effective || question.source == SourceKind::network) return no_effect(question);
  return question.settings.profile == AioProfile::measured ? decide_by_measurement(question, known_bad_rows)
                                                           : decide_by_facts(question, known_bad_rows);
}

std::optional<AioMode> decide_aio_mode(const AioQuestion& question) {
  if (question.settings.profile == AioProfile::nova) return mode_as_nova(question.nova_driver_io, question.cache);
  if (!question.advice.effective || question.source == SourceKind::network) return std::nullopt;
  if (question.settings.profile == AioProfile::measured) return decide_aio(question).mode;
  return mode_of(choose_by_facts(question, judge_native(question), judge_io_uring(question, known_bad_io_uring())));
}

}  // namespace aiolos
