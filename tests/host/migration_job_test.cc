// SPDX-License-Identifier: Apache-2.0
// What a migration is asked for with, and what its job says; against libvirt's own typed parameters.
#include "migration_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace aiolos {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr unsigned kAlways = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_ABORT_ON_ERROR;

unsigned flags_of(const MigrationSettings& settings, bool persistent = false) {
  const auto flags = migration_flags(settings, persistent, version(9, 0));
  EXPECT_TRUE(flags) << flags.error().message;
  return flags.value_or(0);
}

/// The defaults, but for one.
template <typename T>
MigrationSettings with(T MigrationSettings::*member, T value) {
  MigrationSettings settings;
  settings.*member = std::move(value);
  return settings;
}

/// What libvirt is given: name and value as text.
std::multimap<std::string, std::string> parameters_of(const MigrationOrder& order) {
  const auto api = libvirt_api();
  EXPECT_TRUE(api);
  TypedParameters parameters(**api);
  EXPECT_TRUE(add_migration_parameters(order, flags_of(order.settings, /*persistent=*/true), parameters));
  std::multimap<std::string, std::string> given;
  for (int i = 0; i < parameters.size(); ++i) {
    const virTypedParameter& each = parameters.data()[i];
    given.emplace(each.field, each.type == VIR_TYPED_PARAM_STRING ? std::string(each.value.s)
                              : each.type == VIR_TYPED_PARAM_INT  ? std::to_string(each.value.i)
                                                                  : std::to_string(each.value.ul));
  }
  return given;
}

virTypedParameter field(const char* name, unsigned long long value) {
  virTypedParameter parameter{};
  std::snprintf(parameter.field, sizeof(parameter.field), "%s", name);
  parameter.type = VIR_TYPED_PARAM_ULLONG;
  parameter.value.ul = value;
  return parameter;
}

TEST(MigrationFlags, AreOneForEachSetting) {
  EXPECT_EQ(flags_of({}), kAlways);
  EXPECT_EQ(flags_of(with(&MigrationSettings::connections, 4u)), kAlways | VIR_MIGRATE_PARALLEL);
  EXPECT_EQ(flags_of(with(&MigrationSettings::compression, {"zstd"})), kAlways | VIR_MIGRATE_COMPRESSED);
  EXPECT_EQ(flags_of(with(&MigrationSettings::auto_converge, true)), kAlways | VIR_MIGRATE_AUTO_CONVERGE);
  EXPECT_EQ(flags_of(with(&MigrationSettings::post_copy, true)), kAlways | VIR_MIGRATE_POSTCOPY);
  EXPECT_EQ(flags_of(with(&MigrationSettings::tls, true)), kAlways | VIR_MIGRATE_TLS);
  EXPECT_EQ(flags_of(with(&MigrationSettings::zero_copy, true)), kAlways | VIR_MIGRATE_ZEROCOPY);
  EXPECT_EQ(flags_of(with(&MigrationSettings::unsafe, true)), kAlways | VIR_MIGRATE_UNSAFE);
}

TEST(MigrationFlags, MoveTheDefinitionOfAGuestThatHasOne) {
  EXPECT_EQ(flags_of({}, /*persistent=*/true), kAlways | VIR_MIGRATE_PERSIST_DEST | VIR_MIGRATE_UNDEFINE_SOURCE);
  EXPECT_EQ(flags_of(with(&MigrationSettings::persistent, false), /*persistent=*/true), kAlways);
}

TEST(MigrationFlags, RefuseWhatThisLibvirtDoesNotKnow) {
  const auto flags = migration_flags(with(&MigrationSettings::zero_copy, true), false, version(8, 4));
  ASSERT_FALSE(flags);
  EXPECT_EQ(flags.error().kind, ErrorKind::refused);
  EXPECT_THAT(flags.error().message, HasSubstr("migration.zero_copy needs libvirt 8.5.0, and this is 8.4.0"));
  EXPECT_TRUE(migration_flags(with(&MigrationSettings::zero_copy, true), false, version(8, 5)));
}

MigrationOrder order_with(MigrationSettings settings) {
  MigrationOrder order;
  order.xml = "<there/>";
  order.persistent_xml = "<defined/>";
  order.settings = std::move(settings);
  return order;
}

TEST(MigrationParameters, AreWhatIsSetAndNothingElse) {
  MigrationOrder order;
  order.xml = "<there/>";
  EXPECT_THAT(parameters_of(order), ElementsAre(Pair(VIR_MIGRATE_PARAM_DEST_XML, "<there/>")));
}

TEST(MigrationParameters, HaveAllThatCanBeSet) {
  MigrationSettings settings;
  settings.bandwidth_mib_s = 100;
  settings.connections = 4;
  settings.compression = {"xbzrle", "mt"};
  settings.auto_converge = true;
  settings.auto_converge_initial = 20;
  settings.auto_converge_increment = 10;
  settings.tls = true;
  settings.tls_destination = "host.example";
  settings.uri = "tcp://10.0.0.2";
  EXPECT_THAT(
      parameters_of(order_with(settings)),
      UnorderedElementsAre(
          Pair(VIR_MIGRATE_PARAM_DEST_XML, "<there/>"), Pair(VIR_MIGRATE_PARAM_PERSIST_XML, "<defined/>"),
          Pair(VIR_MIGRATE_PARAM_BANDWIDTH, "100"), Pair(VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, "4"),
          Pair(VIR_MIGRATE_PARAM_COMPRESSION, "xbzrle"), Pair(VIR_MIGRATE_PARAM_COMPRESSION, "mt"),
          Pair(VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL, "20"), Pair(VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT, "10"),
          Pair(VIR_MIGRATE_PARAM_TLS_DESTINATION, "host.example"), Pair(VIR_MIGRATE_PARAM_URI, "tcp://10.0.0.2")));
}

TEST(MigrationParameters, LeaveOutWhatNeedsAnotherSetting) {
  MigrationSettings settings;
  settings.auto_converge_initial = 20;
  settings.tls_destination = "host.example";
  settings.persistent = false;
  EXPECT_THAT(parameters_of(order_with(settings)), ElementsAre(Pair(VIR_MIGRATE_PARAM_DEST_XML, "<there/>")));
}

TEST(MigrationJob, CountsDirtyPagesInBytes) {
  const std::vector fields{field(VIR_DOMAIN_JOB_TIME_ELAPSED, 1500),    field(VIR_DOMAIN_JOB_MEMORY_REMAINING, 4096),
                           field(VIR_DOMAIN_JOB_MEMORY_TOTAL, 1 << 20), field(VIR_DOMAIN_JOB_MEMORY_BPS, 1000),
                           field(VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, 10), field(VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, 4096),
                           field(VIR_DOMAIN_JOB_MEMORY_ITERATION, 3)};
  const MigrationProgress progress = progress_of(job_fields(fields.data(), static_cast<int>(fields.size())));
  EXPECT_EQ(progress.elapsed, std::chrono::milliseconds(1500));
  EXPECT_EQ(progress.remaining_bytes, 4096u);
  EXPECT_EQ(progress.total_bytes, 1u << 20);
  EXPECT_EQ(progress.bandwidth, 1000u);
  EXPECT_EQ(progress.dirty_rate, 40960u);
  EXPECT_EQ(progress.iterations, 3u);
  EXPECT_EQ(progress.downtime_ms, std::nullopt);
}

TEST(MigrationJob, KnowsAtItsEndWhatTheDowntimeWas) {
  const std::vector fields{field(VIR_DOMAIN_JOB_TIME_ELAPSED, 900), field(VIR_DOMAIN_JOB_DOWNTIME, 0),
                           field(VIR_DOMAIN_JOB_MEMORY_ITERATION, 2)};
  const MigrationResult result = result_of(job_fields(fields.data(), static_cast<int>(fields.size())));
  EXPECT_EQ(result.total, std::chrono::milliseconds(900));
  EXPECT_EQ(result.downtime_ms, 0u);
  EXPECT_EQ(result.iterations, 2u);
}

TEST(MigrationErrors, AreNeverRetryWhileTheGuestIsKnownToBeHere) {
  for (const int code : {VIR_ERR_OPERATION_TIMEOUT, VIR_ERR_RPC, VIR_ERR_INVALID_CONN, VIR_ERR_OPERATION_ABORTED})
    EXPECT_NE(migration_error(code, VIR_FROM_QEMU, "it failed", "migrate").kind, ErrorKind::retry) << code;
}

TEST(MigrationErrors, OfADestinationThatIsNotThereAreTheConfigurations) {
  const Error error = migration_error(VIR_ERR_SYSTEM_ERROR, VIR_FROM_RPC, "Failed to connect socket", "migrate guest");
  EXPECT_EQ(error.kind, ErrorKind::configuration);
  EXPECT_EQ(error.message, "cannot migrate guest: Failed to connect socket");
  EXPECT_THAT(error.next, HasSubstr("destination"));
}

TEST(MigrationErrors, OfUnsafeDisksAreRefusals) {
  EXPECT_EQ(migration_error(VIR_ERR_MIGRATE_UNSAFE, VIR_FROM_QEMU, "Unsafe migration", "migrate").kind,
            ErrorKind::refused);
}

}  // namespace
}  // namespace aiolos
