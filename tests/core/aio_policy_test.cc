// SPDX-License-Identifier: Apache-2.0
// The AIO policy as a table: one row a rule, each with the mode it gives and the words that explain it.
#include "aiolos/core/aio_policy.h"

#include <functional>
#include <regex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aiolos {
namespace {

using ::testing::HasSubstr;

HostFacts good_host() {
  HostFacts host;
  host.kernel = version(6, 1, 0);
  host.libvirt = version(9, 0, 0);
  host.qemu = version(7, 2, 22);
  host.qemu_has_io_uring = true;
  host.io_uring_disabled = 0;
  host.io_uring_works = true;
  host.aio_nr = 0;
  host.aio_max_nr = 65536;
  return host;
}

StorageFacts image(Allocation allocation, std::optional<bool> o_direct = true) {
  LayerFacts layer;
  layer.path = "/images/vol";
  layer.format = "raw";
  layer.allocation = allocation;
  layer.o_direct = o_direct;
  StorageFacts facts;
  facts.chain.push_back(layer);
  return facts;
}

/// A preallocated image on a good host with cache=none: everything in favour of native.
AioQuestion image_question(Allocation allocation = Allocation::full) {
  AioQuestion question;
  question.storage = image(allocation);
  question.advice = advise_by_allocation(&question.storage, "the image");
  question.host = good_host();
  question.source = SourceKind::file;
  question.cache = CacheMode::none;
  return question;
}

AioQuestion block_question() {
  AioQuestion question;
  question.advice = advise_remote_block(nullptr, "the iSCSI volume");
  question.host = good_host();
  question.cache = CacheMode::none;
  return question;
}

AioQuestion changed(AioQuestion question, const std::function<void(AioQuestion&)>& change) {
  change(question);
  return question;
}

AioQuestion prefer_uring(AioQuestion question) {
  question.settings.prefer = AioMode::io_uring;
  return question;
}

AioQuestion nova(AioQuestion question, std::optional<AioMode> driver_io, std::optional<CacheMode> cache) {
  question.settings.profile = AioProfile::nova;
  question.nova_driver_io = driver_io;
  question.cache = cache;
  return question;
}

/// Profile measured, with a measurement that has these modes in this order.
AioQuestion measured(AioQuestion question, const std::vector<AioMode>& order) {
  question.settings.profile = AioProfile::measured;
  MeasuredProfile profile;
  profile.storage = {"file", "raw", question.storage.allocation(), "ext4"};
  profile.date = "2026-11-22T10:00:00Z";
  profile.cases = 12;
  profile.widest_case = "random write 4 KiB, depth 64, 1 disk";
  profile.widest_lead = 1.9;
  for (std::size_t i = 0; i < order.size(); ++i)
    profile.modes.push_back({order[i], 1 + 0.25 * static_cast<double>(order.size() - 1 - i)});
  question.measured = std::move(profile);
  return question;
}

struct Row {
  std::string name;
  AioQuestion question;
  std::optional<AioMode> mode;
  std::string says;  ///< Must stand in a reason or a rejection.
};

std::vector<Row> rows() {
  using Q = AioQuestion;
  const auto with = [](Q question, const std::function<void(Q&)>& change) {
    return changed(std::move(question), change);
  };
  std::vector<Row> table;

  // 1. In-QEMU network clients.
  table.push_back({"network_client_gets_no_mode",
                   with(block_question(),
                        [](Q& q) {
                          q.advice = advise_network_client("rbd");
                          q.source = SourceKind::network;
                        }),
                   std::nullopt, "QEMU's own rbd client does the I/O"});
  table.push_back({"network_source_gets_no_mode_whatever_the_driver_says",
                   with(block_question(), [](Q& q) { q.source = SourceKind::network; }), std::nullopt,
                   "has no effect"});

  // 2. native needs O_DIRECT.
  for (const CacheMode cache : {CacheMode::none, CacheMode::directsync})
    table.push_back({"native_with_cache_" + std::string(to_string(cache)),
                     with(image_question(), [&](Q& q) { q.cache = cache; }), AioMode::native,
                     "opens the image with O_DIRECT"});
  for (const CacheMode cache : {CacheMode::default_, CacheMode::writethrough, CacheMode::writeback, CacheMode::unsafe})
    table.push_back({"threads_with_cache_" + std::string(to_string(cache)),
                     with(image_question(), [&](Q& q) { q.cache = cache; }), AioMode::threads,
                     "which cache=" + std::string(to_string(cache)) + " does not use"});
  table.push_back({"threads_without_cache_mode", with(image_question(), [](Q& q) { q.cache.reset(); }),
                   AioMode::threads, "no cache mode (QEMU's writeback)"});
  table.push_back({"threads_where_a_layer_refuses_o_direct",
                   with(image_question(),
                        [](Q& q) {
                          q.storage.chain.push_back(image(Allocation::full, false).chain[0]);
                          q.storage.chain[1].path = "/images/base";
                        }),
                   AioMode::threads, "O_DIRECT, which /images/base refuses"});
  table.push_back({"threads_where_o_direct_was_not_tried",
                   with(image_question(), [](Q& q) { q.storage.chain[0].o_direct.reset(); }), AioMode::threads,
                   "could not be tried on /images/vol"});

  // 3. Never native where a write can allocate.
  table.push_back({"sparse_image_never_native", image_question(Allocation::sparse), AioMode::threads,
                   "io_submit(2) can block QEMU"});
  table.push_back(
      {"thin_device_never_native", image_question(Allocation::thin), AioMode::threads, "thinly provisioned"});
  table.push_back(
      {"unknown_allocation_never_native", image_question(Allocation::unknown), AioMode::threads, "is not known"});
  table.push_back({"discard_unmap_punches_holes", with(image_question(), [](Q& q) { q.discard_unmap = true; }),
                   AioMode::threads, "discard=unmap lets the guest punch holes"});
  table.push_back({"detect_zeroes_unmap_punches_holes",
                   with(image_question(), [](Q& q) { q.detect_zeroes_unmap = true; }), AioMode::threads,
                   "detect_zeroes=unmap turns written zeros into holes"});
  table.push_back({"discard_on_a_block_device_is_the_arrays_business",
                   with(block_question(), [](Q& q) { q.discard_unmap = true; }), AioMode::native,
                   "its target allocates"});
  table.push_back({"io_uring_is_allowed_on_sparse_where_preferred", prefer_uring(image_question(Allocation::sparse)),
                   AioMode::io_uring, "the configuration prefers io_uring"});
  table.push_back({"io_uring_is_not_chosen_on_sparse_unasked", image_question(Allocation::sparse), AioMode::threads,
                   "the configuration prefers native"});

  // 4. native where nothing can block.
  table.push_back({"preallocated_image_native", image_question(), AioMode::native, "fully allocated"});
  table.push_back({"iscsi_native", block_question(), AioMode::native, "is a block device"});
  table.push_back({"remote_block_on_local_thin_pool_is_not_native",
                   with(block_question(),
                        [](Q& q) {
                          q.storage = image(Allocation::thin);
                          q.advice = advise_remote_block(&q.storage, "the volume");
                        }),
                   AioMode::threads, "thinly provisioned"});

  // 5. io_uring: wanted, and everything it needs.
  const auto uring = [&](const char* name, const std::function<void(HostFacts&)>& change, const char* says) {
    table.push_back({name, with(prefer_uring(image_question()), [&](Q& q) { change(q.host); }), AioMode::native, says});
  };
  table.push_back({"io_uring_where_preferred", prefer_uring(image_question()), AioMode::io_uring,
                   "the configuration prefers io_uring"});
  uring(
      "io_uring_needs_libvirt_6_3", [](HostFacts& h) { h.libvirt = version(6, 2, 999); }, "libvirt 6.2.999 is older");
  uring(
      "io_uring_needs_qemu_5_0", [](HostFacts& h) { h.qemu = version(4, 2, 1); }, "QEMU 4.2.1 is older");
  uring(
      "io_uring_needs_qemu_built_with_it", [](HostFacts& h) { h.qemu_has_io_uring = false; }, "not known to be built");
  uring(
      "io_uring_needs_to_know_qemu_built_with_it", [](HostFacts& h) { h.qemu_has_io_uring.reset(); },
      "not known to be built");
  uring(
      "io_uring_disabled_for_all", [](HostFacts& h) { h.io_uring_disabled = 2; }, "kernel.io_uring_disabled=2");
  uring(
      "io_uring_disabled_for_unprivileged", [](HostFacts& h) { h.io_uring_disabled = 1; },
      "io_uring_disabled=0 allows");
  uring(
      "io_uring_setup_fails", [](HostFacts& h) { h.io_uring_works = false; }, "refused io_uring_setup(2)");
  uring(
      "io_uring_needs_known_versions", [](HostFacts& h) { h.kernel.reset(); }, "are not known");
  uring(
      "io_uring_known_bad_kernel", [](HostFacts& h) { h.kernel = version(5, 12, 19); }, "hang on LVM");
  uring(
      "io_uring_known_bad_qemu", [](HostFacts& h) { h.qemu = version(7, 1, 0); }, "disks on an iothread hang");

  // 6. Budget.
  const auto budget = [](std::uint64_t used, unsigned contexts) {
    return [=](Q& q) {
      q.host.aio_nr = used;
      q.new_contexts = contexts;
    };
  };
  table.push_back(
      {"last_context_is_taken", with(image_question(), budget(65536 - 1024, 1)), AioMode::native, "O_DIRECT"});
  table.push_back({"budget_used_up_falls_back_to_io_uring", with(image_question(), budget(65536 - 1023, 1)),
                   AioMode::io_uring, "1023 of fs.aio-max-nr=65536 are left; sysctl fs.aio-max-nr=131072 helps"});
  table.push_back({"budget_used_up_without_io_uring_falls_back_to_threads",
                   with(image_question(),
                        [&](Q& q) {
                          budget(65536, 1)(q);
                          q.host.qemu_has_io_uring = false;
                        }),
                   AioMode::threads, "0 of fs.aio-max-nr=65536 are left"});
  table.push_back({"a_guest_that_has_its_context_needs_none", with(image_question(), budget(65536, 0)), AioMode::native,
                   "native is safe"});
  table.push_back({"over_committed_budget_does_not_wrap_around", with(image_question(), budget(70000, 1)),
                   AioMode::io_uring, "0 of fs.aio-max-nr=65536 are left"});
  table.push_back({"sparse_is_not_rescued_by_the_budget_rule",
                   with(image_question(Allocation::sparse), budget(65536, 1)), AioMode::threads, "sparse"});
  table.push_back({"no_budget_known_is_no_obstacle", with(image_question(), [](Q& q) { q.host.aio_nr.reset(); }),
                   AioMode::native, "native is safe"});

  // The storage's own preference.
  table.push_back({"storage_that_prefers_threads_gets_them",
                   with(block_question(), [](Q& q) { q.advice.preferred = AioMode::threads; }), AioMode::threads,
                   "the storage's driver prefers threads"});
  table.push_back({"mode_that_the_driver_does_not_permit",
                   with(block_question(),
                        [](Q& q) {
                          q.advice.permitted = {AioMode::threads};
                          q.advice.preferred = AioMode::threads;
                        }),
                   AioMode::threads, "the storage's driver does not permit native"});

  // Profile measured: what was fastest, of what the rules above leave.
  const std::vector native_first{AioMode::native, AioMode::io_uring, AioMode::threads};
  const std::vector uring_first{AioMode::io_uring, AioMode::native, AioMode::threads};
  const std::vector threads_first{AioMode::threads, AioMode::native, AioMode::io_uring};
  table.push_back(
      {"measured_fastest_is_taken", measured(image_question(), uring_first), AioMode::io_uring,
       "measured 2026-11-22T10:00:00Z on this class of storage (file, raw, full, ext4): io_uring gives 1.50"});
  table.push_back({"measured_names_the_case_that_tells_most", measured(image_question(), uring_first),
                   AioMode::io_uring, "most in random write 4 KiB, depth 64, 1 disk (1.90 times)"});
  table.push_back({"measured_says_how_slow_the_others_were", measured(image_question(), uring_first), AioMode::io_uring,
                   "1.25 times the requests a second of threads"});
  table.push_back({"measured_threads_are_taken_where_native_is_safe", measured(image_question(), threads_first),
                   AioMode::threads, "threads gives 1.50"});
  table.push_back({"measured_native_is_still_never_taken_on_sparse",
                   measured(image_question(Allocation::sparse), native_first), AioMode::io_uring,
                   "io_submit(2) can block QEMU"});
  table.push_back({"measured_native_is_still_never_taken_without_o_direct",
                   measured(with(image_question(), [](Q& q) { q.cache = CacheMode::writeback; }), native_first),
                   AioMode::io_uring, "native needs O_DIRECT"});
  table.push_back({"measured_native_is_still_never_taken_where_the_guest_punches_holes",
                   measured(with(image_question(), [](Q& q) { q.discard_unmap = true; }), native_first),
                   AioMode::io_uring, "discard=unmap"});
  table.push_back({"measured_native_needs_budget_too", measured(with(image_question(), budget(65536, 1)), native_first),
                   AioMode::io_uring, "0 of fs.aio-max-nr=65536 are left"});
  table.push_back({"measured_io_uring_needs_a_host_that_can",
                   measured(with(image_question(), [](Q& q) { q.host.io_uring_works = false; }), uring_first),
                   AioMode::native, "refused io_uring_setup(2)"});
  table.push_back({"measured_goes_before_prefer", measured(prefer_uring(image_question()), native_first),
                   AioMode::native, "profile measured: measured"});
  table.push_back({"measured_with_another_kernel_still_decides",
                   measured(with(image_question(), [](Q& q) { q.host.kernel = version(9, 9); }), threads_first),
                   AioMode::threads, "threads gives 1.50"});
  table.push_back({"measured_without_that_mode", measured(image_question(), {AioMode::native, AioMode::threads}),
                   AioMode::native, "was not measured"});
  table.push_back({"measured_but_nothing_of_it_can_be_used",
                   measured(with(image_question(Allocation::sparse), [](Q& q) { q.host.io_uring_works = false; }),
                            {AioMode::native, AioMode::io_uring}),
                   AioMode::threads, "none of the modes measured can be used here"});
  table.push_back({"not_measured_falls_back_to_auto",
                   with(image_question(),
                        [](Q& q) {
                          q.settings.profile = AioProfile::measured;
                          q.unmeasured = "nothing was measured of its class";
                        }),
                   AioMode::native, "decided by facts alone, as nothing was measured of its class"});
  table.push_back({"measured_has_no_say_in_network_clients",
                   measured(with(block_question(), [](Q& q) { q.source = SourceKind::network; }), uring_first),
                   std::nullopt, "has no effect"});

  // Profile nova: bit for bit.
  table.push_back({"nova_native_whatever_the_allocation",
                   nova(image_question(Allocation::sparse), AioMode::native, CacheMode::none), AioMode::native,
                   "Nova's driver for this storage sets driver_io=native"});
  table.push_back({"nova_native_falls_back_with_writeback",
                   nova(block_question(), AioMode::native, CacheMode::writeback), AioMode::threads,
                   "Nova falls back to threads without O_DIRECT"});
  table.push_back({"nova_native_stays_with_directsync", nova(block_question(), AioMode::native, CacheMode::directsync),
                   AioMode::native, "driver_io=native"});
  table.push_back({"nova_native_stays_without_cache_mode", nova(block_question(), AioMode::native, std::nullopt),
                   AioMode::native, "driver_io=native"});
  table.push_back({"nova_sets_nothing_for_local", nova(block_question(), std::nullopt, CacheMode::none), std::nullopt,
                   "sets no driver_io"});
  table.push_back({"nova_ignores_the_budget",
                   nova(with(image_question(), budget(65536, 1)), AioMode::native, CacheMode::none), AioMode::native,
                   "driver_io=native"});
  return table;
}

class AioPolicyTable : public ::testing::TestWithParam<Row> {};

TEST_P(AioPolicyTable, DecidesAndExplains) {
  const Row& row = GetParam();
  const AioDecision decision = decide_aio(row.question);
  EXPECT_EQ(decision.mode, row.mode) << to_json(decision).dump(2);
  EXPECT_THAT(to_json(decision).dump(), HasSubstr(row.says));
  EXPECT_EQ(decide_aio_mode(row.question), row.mode);
}

TEST_P(AioPolicyTable, EveryDecisionHasReasonsAndNeverRejectsWhatItChose) {
  const AioDecision decision = decide_aio(GetParam().question);
  EXPECT_FALSE(decision.reasons.empty());
  for (const Rejection& rejection : decision.rejected) {
    EXPECT_NE(decision.mode, rejection.mode);
    EXPECT_FALSE(rejection.because.empty());
  }
}

TEST_P(AioPolicyTable, ProfileAutoAccountsForEveryMode) {
  const AioQuestion& question = GetParam().question;
  if (question.settings.profile == AioProfile::nova) return;  // Nova knows no alternatives to reject
  const AioDecision decision = decide_aio(question);
  EXPECT_EQ(decision.rejected.size() + (decision.mode ? 1 : 0), 3u) << to_json(decision).dump(2);
}

INSTANTIATE_TEST_SUITE_P(Rules, AioPolicyTable, ::testing::ValuesIn(rows()),
                         [](const auto& row) { return row.param.name; });

TEST(KnownBadIoUring, RangesAreHalfOpen) {
  const std::vector<KnownBadIoUring> table{
      {version(5, 4), version(5, 6), version(6, 0), version(6, 1), "hangs", "source", "2030-01-01"}};
  AioQuestion question = prefer_uring(image_question());
  const auto mode_on = [&](Version kernel, Version qemu) {
    question.host.kernel = kernel;
    question.host.qemu = qemu;
    return decide_aio(question, table).mode;
  };
  EXPECT_EQ(mode_on(version(5, 4), version(6, 0)), AioMode::native);
  EXPECT_EQ(mode_on(version(5, 5, 999), version(6, 0, 999)), AioMode::native);
  EXPECT_EQ(mode_on(version(5, 6), version(6, 0)), AioMode::io_uring);
  EXPECT_EQ(mode_on(version(5, 4), version(6, 1)), AioMode::io_uring);
  EXPECT_EQ(mode_on(version(5, 3, 18), version(6, 0)), AioMode::io_uring);
}

TEST(KnownBadIoUring, EveryRowHasSourceAndExpiry) {
  for (const KnownBadIoUring& row : known_bad_io_uring()) {
    EXPECT_FALSE(row.what.empty());
    EXPECT_FALSE(row.source.empty());
    EXPECT_TRUE(std::regex_match(std::string(row.expires), std::regex("\\d{4}-\\d{2}-\\d{2}"))) << row.expires;
  }
}

TEST(AioAdvice, SurvivesItsJson) {
  StorageFacts sparse = image(Allocation::sparse);
  for (const AioAdvice& advice : {advise_by_allocation(&sparse, "the image"), advise_remote_block(nullptr, "the LUN"),
                                  advise_network_client("rbd")}) {
    const auto parsed = aio_advice_from_json(to_json(advice));
    ASSERT_TRUE(parsed) << describe(parsed.error());
    EXPECT_EQ(parsed->effective, advice.effective);
    EXPECT_EQ(parsed->permitted, advice.permitted);
    EXPECT_EQ(parsed->preferred, advice.preferred);
    EXPECT_EQ(parsed->reasons, advice.reasons);
    EXPECT_EQ(parsed->rejected, advice.rejected);
  }
}

TEST(AioAdvice, NamesWhatIsWrongInItsJson) {
  const auto where = [](const char* text) {
    const auto advice = aio_advice_from_json(Json::parse(text));
    return advice ? std::string("accepted") : advice.error().where;
  };
  EXPECT_EQ(where(R"({"permitted": ["threads", "fast"]})"), "/permitted/1");
  EXPECT_EQ(where(R"({"permitted": "threads"})"), "/permitted");
  EXPECT_EQ(where(R"({"permitted": ["threads"], "preferred": "native"})"), "/preferred");
  EXPECT_EQ(where(R"({"permitted": ["threads"], "rejected": [{"mode": "native"}]})"), "/rejected/0/because");
  EXPECT_EQ(where(R"({"permitted": ["threads"], "reasons": [1]})"), "/reasons/0");
  EXPECT_EQ(where(R"({"preferred": "threads"})"), "/permitted");
  EXPECT_EQ(where(R"({"permitted": ["threads"]})"), "accepted");
  EXPECT_EQ(where(R"({"effective": false})"), "accepted");
}

}  // namespace
}  // namespace aiolos
