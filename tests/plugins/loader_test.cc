// SPDX-License-Identifier: Apache-2.0
// Every bad plugin gets its own error, naming its file and what is wrong, and the good ones beside it still load.
#include <set>

#include "testing.h"

namespace aiolos::testing {
namespace {

struct BadPlugin {
  std::string file;
  ErrorKind kind;
  std::string message;  ///< part of it
  std::string next;     ///< part of it
};

constexpr const char* kAuthor = "author of the plugin";

const std::vector<BadPlugin>& bad_plugins() {
  static const std::vector<BadPlugin> all{
      {"no_entry", ErrorKind::configuration, "has no symbol aiolos_plugin_entry", "export the symbol"},
      {"null_table", ErrorKind::configuration, "returned NULL: it cannot serve a host of plugin ABI 1.0",
       "install a build"},
      {"other_major", ErrorKind::configuration, "was built for plugin ABI 2.3; this Aiolos speaks 1.0", "for ABI 1"},
      {"short_table", ErrorKind::bug, "driver table of 64 bytes is too short", kAuthor},
      {"no_describe", ErrorKind::bug, "the slot 'describe' is NULL, but every driver promises it", kAuthor},
      {"no_aio_mode", ErrorKind::bug, "the slot 'aio_mode' is NULL, but every driver promises it", kAuthor},
      {"promised_connect", ErrorKind::bug, "the slot 'connect' is NULL, but AIOLOS_CAN_CONNECT promises it", kAuthor},
      {"promised_disconnect", ErrorKind::bug, "the slot 'disconnect' is NULL, but AIOLOS_CAN_CONNECT", kAuthor},
      {"promised_extend", ErrorKind::bug, "the slot 'extend' is NULL, but AIOLOS_CAN_EXTEND promises it", kAuthor},
      {"promised_target", ErrorKind::bug, "the slot 'target' is NULL, but AIOLOS_PER_TARGET promises it", kAuthor},
      {"null_name", ErrorKind::bug, "the driver's name is NULL", kAuthor},
      {"empty_name", ErrorKind::bug, "the driver's name is empty", kAuthor},
      {"illegal_name", ErrorKind::bug, "'-' and '_': \"../etc/passwd\"", kAuthor},
      {"name_not_utf8", ErrorKind::bug, "the driver's name is not UTF-8: \"b\uFFFDro\"", kAuthor},
      {"summary_not_utf8", ErrorKind::bug, "the summary is not UTF-8", kAuthor},
      {"null_types", ErrorKind::bug, "the list of volume types is empty", kAuthor},
      {"no_types", ErrorKind::bug, "the list of volume types is empty", kAuthor},
      {"empty_type", ErrorKind::bug, "volume type 2 is empty", kAuthor},
      {"illegal_type", ErrorKind::bug, "volume type 1 may hold", kAuthor},
      {"type_not_utf8", ErrorKind::bug, "volume type 1 is not UTF-8", kAuthor},
      {"repeated_type", ErrorKind::bug, "the volume type 'repeated_type' is listed twice", kAuthor},
      {"endless_types", ErrorKind::bug, "has no NULL after 64 entries", kAuthor},
      {"taken_type", ErrorKind::configuration,
       "serves the volume type 'good_c', which " + (kBadPlugins / "0_good_c.so").native() + " serves already",
       "remove one of the two"},
      {"taken_name", ErrorKind::configuration, "is named 'good_c', as " + (kBadPlugins / "0_good_c.so").native(),
       "remove one of the two"},
      {"unknown_thread_model", ErrorKind::bug, "unknown thread model 7", kAuthor},
      {"unknown_capability", ErrorKind::bug, "unknown capability bits 0x40000000", kAuthor},
      {"nova_io_unknown", ErrorKind::bug, "nova_driver_io is no AIO mode: \"aio\"", kAuthor},
      {"defaults_not_json", ErrorKind::bug, "configuration_defaults:1:7: not valid JSON", kAuthor},
      {"defaults_no_object", ErrorKind::bug, "configuration_defaults is no JSON object", kAuthor},
      {"key_without_defaults", ErrorKind::bug, "configuration_defaults are given together", kAuthor},
      {"illegal_key", ErrorKind::bug, "the configuration key may hold", kAuthor},
      {"init_fails", ErrorKind::configuration, "the tool 'zfs' is not there", "install zfsutils-linux"},
      {"init_fails_silently", ErrorKind::bug, "init: it returned 42 without saying why", kAuthor},
      {"init_succeeds_after_failing", ErrorKind::bug, "the array is on fire", kAuthor},
      {"undefined_symbol", ErrorKind::configuration, "undefined symbol: aiolos_tests_nobody_has_this",
       "link the library"},
      {"missing_library", ErrorKind::configuration, "libaiolos_tests_removed.so: cannot open shared object file",
       "install the library"},
      {"executable", ErrorKind::configuration, "position-independent executable", "rebuild the plugin"},
      {"entry_throws", ErrorKind::bug, "aiolos_plugin_entry: an exception escaped it: no licence", kAuthor},
      {"init_throws", ErrorKind::bug, "init: an exception that is no std::exception escaped it", kAuthor},
      {"sdk_init_throws", ErrorKind::bug, "an exception escaped init: sum of angles is not 180", kAuthor},
      {"sdk_constructor_throws", ErrorKind::bug, "an exception escaped init: no such device", kAuthor},
  };
  return all;
}

/// The folder is loaded once; nothing in the tests changes a registry.
const Registry& bad_folder() {
  static const std::unique_ptr<Registry> registry = load({kBadPlugins});
  return *registry;
}

class BadPluginTest : public ::testing::TestWithParam<BadPlugin> {};

TEST_P(BadPluginTest, IsRejectedWithItsOwnError) {
  const Error* error = rejection(bad_folder(), GetParam().file + ".so");
  ASSERT_NE(error, nullptr) << GetParam().file << " was loaded, or is not there";
  EXPECT_EQ(error->kind, GetParam().kind) << describe(*error);
  EXPECT_THAT(describe(*error), ::testing::HasSubstr((kBadPlugins / (GetParam().file + ".so")).native()));
  EXPECT_THAT(describe(*error), ::testing::HasSubstr(GetParam().message));
  EXPECT_THAT(error->next, ::testing::HasSubstr(GetParam().next));
}

INSTANTIATE_TEST_SUITE_P(Loader, BadPluginTest, ::testing::ValuesIn(bad_plugins()),
                         [](const auto& test) { return test.param.file; });

TEST(Loader, GoodPluginsInTheSameFolderStillLoad) {
  std::set<std::string> names;
  for (Driver* driver : bad_folder().drivers()) names.insert(driver->name());
  EXPECT_EQ(names, (std::set<std::string>{"good_c", "good_sdk", "misbehaving", "slot_throws", "sdk_slot_throws"}));
  EXPECT_TRUE(driver(bad_folder(), "good_c")->describe(volume("good_c", {})).has_value());
}

TEST(Loader, EveryBadPluginOfTheFolderIsInTheTable) {
  std::set<std::string> tested;
  for (const BadPlugin& plugin : bad_plugins())
    EXPECT_TRUE(tested.insert(plugin.file).second) << "twice: " << plugin.file;
  for (const RejectedPlugin& plugin : bad_folder().rejected())
    EXPECT_TRUE(tested.contains(plugin.file.stem().native())) << plugin.file << " is rejected and not tested";
}

TEST(Loader, EveryErrorSaysWhatToDo) {
  for (const RejectedPlugin& plugin : bad_folder().rejected()) EXPECT_NE(plugin.error.next, "") << plugin.file;
}

TEST(Loader, ReportsWhatAPluginSaysOfItself) {
  const auto registry = load({kFixtures});
  const Driver* everything = driver(*registry, "all.of-it");
  EXPECT_EQ(everything->name(), "everything");
  EXPECT_EQ(everything->version(), "3.1");
  EXPECT_EQ(everything->summary(), "all of the SDK");
  EXPECT_EQ(everything->types(), (std::vector<std::string>{"everything", "all.of-it"}));
  EXPECT_EQ(everything->file(), kFixtures / "everything.so");
  EXPECT_EQ(everything->capabilities(), static_cast<std::uint32_t>(AIOLOS_CAN_CONNECT | AIOLOS_CAN_EXTEND |
                                                                   AIOLOS_CAN_MULTIATTACH | AIOLOS_CAN_MULTIPATH));
  EXPECT_EQ(everything->thread_model(), AIOLOS_PER_TARGET);
  EXPECT_EQ(everything->nova_driver_io(), AioMode::native);
  EXPECT_EQ(everything->configuration_key(), "everything");
}

TEST(Loader, NullTextsReadAsEmpty) {
  const auto registry = load({kFixtures});
  const Driver* reader = driver(*registry, "reader");
  EXPECT_EQ(reader->version(), "");
  EXPECT_EQ(reader->summary(), "");
  EXPECT_EQ(reader->nova_driver_io(), std::nullopt);
}

TEST(Loader, ConfigurationIsAskedForOnceWithThePluginsDefaults) {
  std::vector<std::string> asked;
  PluginServices services;
  services.section = [&](std::string_view key, const Json& defaults) -> Result<Json> {
    asked.push_back(std::string(key) + " " + defaults.dump());
    return defaults;
  };
  const auto registry = load({kFixtures}, services);
  EXPECT_THAT(asked,
              ::testing::ElementsAre(::testing::StartsWith("everything {\"base\""), "old {\"colour\":\"grey\"}"));
}

TEST(Loader, AWrongConfigurationRejectsThePlugin) {
  PluginServices services;
  services.section = [](std::string_view key, const Json& defaults) -> Result<Json> {
    if (key == "old")
      return fail(ErrorKind::configuration, "unknown key 'colr'", "did you mean 'colour'?", "a.yaml:3:1");
    return defaults;
  };
  const auto registry = load({kFixtures}, services);
  const Error* error = rejection(*registry, "old_plugin.so");
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(describe(*error), (kFixtures / "old_plugin.so").native() + ": a.yaml:3:1: unknown key 'colr'");
  EXPECT_EQ(error->next, "did you mean 'colour'?");
  EXPECT_EQ(registry->drivers().size(), 3u);
}

TEST(Loader, LoadsAgainAfterItWasUnloaded) {
  for (int round = 0; round < 3; ++round) {
    const auto registry = load({kFixtures});
    EXPECT_EQ(registry->drivers().size(), 4u);
    EXPECT_TRUE(driver(*registry, "everything")->describe(volume("everything", {{"name", "a"}})).has_value());
  }
}

TEST(Loader, AThrowingFiniIsLogged) {
  Log log;
  PluginServices services;
  services.log = log.sink();
  load({kBadPlugins}, services).reset();
  EXPECT_THAT(log.lines(), ::testing::Contains("slot_throws: fini: an exception escaped it: too late"));
}

TEST(Find, NamesTheNearestKnownType) {
  const auto registry = load({kFixtures});
  const auto found = registry->find("everythng");
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(found.error().message, "no driver serves the volume type 'everythng'");
  EXPECT_THAT(found.error().next,
              ::testing::StartsWith("did you mean 'everything'? known types: all.of-it, everything"));
  EXPECT_EQ(found.error().where, "/driver_volume_type");
}

TEST(Find, MentionsTheRejectedPluginThatWouldServeIt) {
  TemporaryFolder folder;
  const fs::path file = folder.write("aiolos-zvol.so", "");
  const auto registry = load({folder.path()});
  const auto found = registry->find("zvol");
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().kind, ErrorKind::configuration);
  EXPECT_EQ(found.error().message, "no driver serves the volume type 'zvol': its plugin was not loaded: " +
                                       file.native() + ": the file is empty");
  EXPECT_EQ(found.error().next, "rebuild the plugin on this machine");
}

TEST(Find, SaysWhereToLookIfThereIsNoDriverAtAll) {
  TemporaryFolder folder;
  const auto found = load({folder.path()})->find("nfs");
  ASSERT_FALSE(found.has_value());
  EXPECT_THAT(found.error().next, ::testing::HasSubstr("plugins.path"));
}

}  // namespace
}  // namespace aiolos::testing
