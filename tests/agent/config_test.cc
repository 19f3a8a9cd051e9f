// SPDX-License-Identifier: Apache-2.0
#include "aiolos/agent/config.h"

#include <fstream>
#include <iterator>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aiolos {
namespace {

using ::testing::HasSubstr;

TEST(Config, MayBeMarkedAsADocument) { EXPECT_TRUE(parse_config("---\naio: {}\n---\n", "x.yaml")); }

TEST(Config, EmptyIsAllDefaults) {
  for (const char* text : {"", "# only a comment\n", "{}", "aio:\n"}) {
    const auto config = parse_config(text, "x.yaml");
    ASSERT_TRUE(config) << text << ": " << describe(config.error());
    EXPECT_EQ(config->state.dir, "/var/lib/aiolos");
    EXPECT_EQ(config->aio.profile, AioProfile::automatic);
    EXPECT_EQ(config->aio.prefer, AioMode::native);
    EXPECT_EQ(config->aio.measured_max_age, 180U);
    EXPECT_TRUE(config->disk_cachemodes.empty());
  }
}

TEST(Config, ReadsEveryKey) {
  const auto config = parse_config(R"(
libvirt: {uri: "qemu:///system", virt_type: kvm}
plugins: {path: [/a, /b]}
state: {dir: /state}
aio: {profile: nova, prefer: io_uring, measured_max_age: 30}
disk_cachemodes: {file: none, block: directsync, network: writeback}
images: {preallocate: space}
iscsi: {use_multipath: true, scan_attempts: 7, iface: "7"}
plan: {automatic: false, max_iothreads: 2, max_threads: 128, aio_max_batch: 16, storage: {nfs: {iops: 5000, latency_ms: 2.5}}}
migration: {peer: "ssh x", uri: "tcp://10.0.0.2", downtime_limit_ms: 400, downtime_steps: 4, downtime_step_delay_s: 5,
            bandwidth_mib_s: 500, connections: 2, compression: [zstd], auto_converge: true, post_copy: true,
            post_copy_after_s: 60, tls: true, tls_destination: b, zero_copy: true, persistent: false, max_drain_ms: 20,
            deadline_s: 90}
)",
                                   "x.yaml");
  ASSERT_TRUE(config) << describe(config.error());
  EXPECT_EQ(config->libvirt.uri, "qemu:///system");
  EXPECT_EQ(config->libvirt.virt_type, VirtType::kvm);
  EXPECT_EQ(config->plugins.path, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(config->state.dir, "/state");
  EXPECT_EQ(config->aio.profile, AioProfile::nova);
  EXPECT_EQ(config->aio.prefer, AioMode::io_uring);
  EXPECT_EQ(config->aio.measured_max_age, 30U);
  EXPECT_EQ(config->disk_cachemodes.at(SourceKind::block), CacheMode::directsync);
  EXPECT_EQ(config->images.preallocate, Preallocate::space);
  EXPECT_FALSE(config->plan.automatic);
  EXPECT_EQ(config->plan.limits.max_iothreads, 2U);
  EXPECT_EQ(config->plan.limits.max_threads, 128U);
  EXPECT_EQ(config->plan.limits.aio_max_batch, 16U);
  EXPECT_EQ(config->plan.storage.at("nfs").iops, 5000);
  EXPECT_EQ(config->plan.storage.at("nfs").latency_ms, 2.5);
  EXPECT_EQ(config->plan.storage.at("nfs").source, "plan.storage.nfs");
  EXPECT_EQ(config->migration.peer, "ssh x");
  EXPECT_EQ(config->migration.max_drain, std::chrono::milliseconds(20));
  EXPECT_EQ(config->migration.post_copy_after, std::chrono::seconds(60));
  EXPECT_EQ(config->migration.deadline, std::chrono::seconds(90));
  const MigrationSettings& migration = config->migration.settings;
  EXPECT_EQ(migration.uri, "tcp://10.0.0.2");
  EXPECT_EQ(migration.downtime_limit_ms, 400U);
  EXPECT_EQ(migration.downtime_steps, 4U);
  EXPECT_EQ(migration.downtime_step_delay, std::chrono::seconds(5));
  EXPECT_EQ(migration.bandwidth_mib_s, 500U);
  EXPECT_EQ(migration.connections, 2U);
  EXPECT_EQ(migration.compression, std::vector<std::string>{"zstd"});
  EXPECT_TRUE(migration.auto_converge && migration.post_copy && migration.tls && migration.zero_copy);
  EXPECT_EQ(migration.tls_destination, "b");
  EXPECT_FALSE(migration.persistent);
  EXPECT_EQ(config->sections.at("iscsi").value, (Json{{"use_multipath", true}, {"scan_attempts", 7}, {"iface", "7"}}));
}

struct Mistake {
  const char* text;
  const char* where;
  const char* says;
};

class ConfigMistake : public ::testing::TestWithParam<Mistake> {};

TEST(Config, ATimeForPostCopyAllowsIt) {
  const auto config = parse_config("migration: {post_copy_after_s: 60}", "x.yaml");
  ASSERT_TRUE(config) << describe(config.error());
  EXPECT_TRUE(config->migration.settings.post_copy);
}

TEST_P(ConfigMistake, IsNamedWithItsLine) {
  const auto config = parse_config(GetParam().text, "x.yaml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, ErrorKind::configuration);
  EXPECT_EQ(config.error().where, GetParam().where);
  EXPECT_THAT(config.error().message + " | " + config.error().next, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Table, ConfigMistake,
    ::testing::Values(Mistake{"aio: {profil: auto}", "x.yaml:1:7", "did you mean 'profile'?"},
                      Mistake{"state: {}\naio:\n  prefer: threads\n", "x.yaml:3:11", "use native | io_uring"},
                      Mistake{"aio: auto", "x.yaml:1:6", "must be a mapping"},
                      Mistake{"aio: {profile: [auto]}", "x.yaml:1:16", "found a list"},
                      Mistake{"plugins: {path: /a}", "x.yaml:1:17", "expected a list of folders"},
                      Mistake{"plugins: {path: [a]}", "x.yaml:1:18", "'a' is not an absolute path"},
                      Mistake{"disk_cachemodes: {tape: none}", "x.yaml:1:19", "unknown kind of source 'tape'"},
                      Mistake{"disk_cachemodes: {file: fast}", "x.yaml:1:25", "unknown cache mode 'fast'"},
                      Mistake{"plan: {max_threads: 63}", "x.yaml:1:21", "'63' is not a number from 64 to 65536"},
                      Mistake{"plan: {max_threads: many}", "x.yaml:1:21", "'many' is not a number"},
                      Mistake{"plan: {storage: {nfs: 5}}", "x.yaml:1:23", "must be a mapping"},
                      Mistake{"plan: {storage: {nfs: {iops: 0}}}", "x.yaml:1:30", "'0' is no number above 0"},
                      Mistake{"plan: {storage: {nfs: {iop: 1}}}", "x.yaml:1:24", "known keys: iops, latency_ms"},
                      Mistake{"state: {dir: ''}", "x.yaml:1:14", "'' is not an absolute path"},
                      Mistake{"state: {dir: state}", "x.yaml:1:14", "'state' is not an absolute path"},
                      Mistake{"state: {dir: ~}", "x.yaml:1:14", "found nothing"},
                      Mistake{"aio: {}\nstate: {}\naio: {}\n", "x.yaml:3:1", "the key 'aio' is given twice"},
                      Mistake{"nfs: {}\nnfs: {}\n", "x.yaml:2:1", "the key 'nfs' is given twice"},
                      Mistake{"aio:\n  prefer: native\n  prefer: io_uring\n", "x.yaml:3:3", "'prefer' is given twice"},
                      Mistake{"nfs:\n  deep: {a: 1, a: 1}\n", "x.yaml:2:16", "the key 'a' is given twice"},
                      Mistake{"a: 1\nb: &x [*x]\n", "x.yaml:2:4", "nested more than 64 deep"},
                      Mistake{"a: &x {k: *x}", "x.yaml:1:4", "nested more than 64 deep"},
                      Mistake{"aio: &x {profile: *x}", "x.yaml:1:6", "nested more than 64 deep"},
                      Mistake{"aio: {}\n---\nnfs: {}\n", "x.yaml:3:1", "more than one YAML document"},
                      Mistake{"- a\n", "x.yaml:1:1", "must be a mapping"},
                      Mistake{"aio: {profile: auto\n", "x.yaml:2:1", "not valid YAML"}));

/// A list in a list in a list, `depth` of them.
std::string nested(std::size_t depth) { return "a: " + std::string(depth, '[') + std::string(depth, ']'); }

TEST(Config, TakesNoValuesWithoutEnd) {
  EXPECT_TRUE(parse_config(nested(64), "x.yaml").has_value());
  EXPECT_THAT(parse_config(nested(66), "x.yaml").error().message, HasSubstr("nested more than 64 deep"));
  EXPECT_EQ(parse_config(nested(100'000), "x.yaml").error().kind, ErrorKind::configuration);
  // Ten lists of ten aliases each, one in the other: ten thousand million values.
  std::string laughs = "l0: &l0 x\n";
  for (int i = 1; i <= 10; ++i) {
    laughs += fmt::format("l{}: &l{} [", i, i);
    for (int n = 0; n < 10; ++n) laughs += fmt::format("*l{}, ", i - 1);
    laughs += "]\n";
  }
  EXPECT_THAT(parse_config(laughs, "x.yaml").error().message, HasSubstr("more than 100000 values"));
}

TEST(CompleteSection, FillsInDefaultsAndKeepsTypes) {
  const auto config = parse_config("nfs: {mount_options: vers=4.2}\nempty:\n", "x.yaml");
  const Json defaults = {{"mount_options", ""}, {"mount_point_base", "/mnt"}, {"anything", nullptr}};
  EXPECT_EQ(*complete_section(*config, "nfs", defaults),
            (Json{{"mount_options", "vers=4.2"}, {"mount_point_base", "/mnt"}, {"anything", nullptr}}));
  EXPECT_EQ(*complete_section(*config, "absent", defaults), defaults);
  EXPECT_EQ(*complete_section(*config, "empty", defaults), defaults);
}

TEST(CompleteSection, NamesMistakesWithTheirLine) {
  const Json defaults = {{"scan_attempts", 5}, {"use_multipath", false}};
  const auto error = [&](const char* text) {
    return complete_section(*parse_config(text, "x.yaml"), "iscsi", defaults).error();
  };
  EXPECT_EQ(error("iscsi:\n  use_multipat: true\n").where, "x.yaml:2:3");
  EXPECT_EQ(error("iscsi:\n  use_multipat: true\n").next, "did you mean 'use_multipath'?");
  EXPECT_EQ(error("iscsi: {scan_attempts: many}").message, "'iscsi.scan_attempts' must be an integer, not a string");
  EXPECT_EQ(error("iscsi: {use_multipath: 1}").next, "the default is false");
  EXPECT_EQ(error("iscsi:\n  scan_attempts: -3\n").message, "'iscsi.scan_attempts' must not be negative: -3");
  EXPECT_EQ(error("iscsi:\n  scan_attempts: -3\n").where, "x.yaml:2:3");
  EXPECT_EQ(error("iscsi: {scan_attempts: }").message, "'iscsi.scan_attempts' must be an integer, not nothing");
  EXPECT_THAT(error("iscsi: [1]").message, HasSubstr("must be a mapping"));
}

TEST(LoadConfig, NamesAFileThatIsNotThere) {
  const auto config = load_config("/no/such/file.yaml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, ErrorKind::configuration);
  EXPECT_THAT(config.error().message, HasSubstr("/no/such/file.yaml"));
}

TEST(LoadConfig, NamesADirectory) {
  const auto config = load_config("/tmp");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, ErrorKind::configuration);
  EXPECT_EQ(config.error().message, "cannot read the configuration file /tmp: Is a directory");
}

TEST(CompleteSection, LetsNumbersBeNegativeWhereTheDefaultIs) {
  const auto config = parse_config("a: {nice: -5, real: -0.5}", "x.yaml");
  EXPECT_TRUE(complete_section(*config, "a", {{"nice", -1}, {"real", -1.0}}));
  EXPECT_FALSE(complete_section(*config, "a", {{"nice", -1}, {"real", 0.5}}));
}

TEST(ExampleConfig, ParsesAndDocumentsEveryFrameworkSection) {
  const auto config = load_config(EXAMPLE_CONFIG);
  ASSERT_TRUE(config) << describe(config.error());
  for (const std::string& section : framework_sections()) EXPECT_TRUE(config->sections.contains(section)) << section;
}

}  // namespace
}  // namespace aiolos
