// SPDX-License-Identifier: Apache-2.0
// What the host makes of how a slot ends: results, errors, broken rules, and services used on the way.
#include "testing.h"

namespace aiolos::testing {
namespace {

using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Return;

class Misbehaving : public ::testing::Test {
 protected:
  /// The error that `describe` of the misbehaving plugin ends with when told to do `what`.
  Error describe_error(std::string_view what, std::string_view type = "misbehaving") {
    const auto described = driver(*registry_, type)->describe(volume(type, {{"do", what}, {"throw", what}}));
    if (described) ADD_FAILURE() << "\"" << what << "\" was success: " << to_json(*described);
    return described ? Error{} : described.error();
  }

  /// As above for what is the plugin's fault: the error must say so and name the plugin, its file and the slot.
  std::string bug(std::string_view what, std::string_view type = "misbehaving") {
    const Error error = describe_error(what, type);
    EXPECT_EQ(error.kind, ErrorKind::bug);
    EXPECT_EQ(error.next, "report this to the author of the plugin");
    const std::string start = "the plugin '" + std::string(type) + "' (" +
                              (kBadPlugins / (std::string(type) + ".so")).native() + "): describe: ";
    EXPECT_THAT(error.message, ::testing::StartsWith(start));
    return error.message.size() > start.size() ? error.message.substr(start.size()) : error.message;
  }

  std::unique_ptr<Registry> registry_ = load({kBadPlugins});
};

TEST_F(Misbehaving, Results) {
  EXPECT_EQ(bug("fail without a word"), "it returned 3 without saying why (host->fail)");
  EXPECT_EQ(bug("succeed without a result"), "it returned success without a result");
  EXPECT_THAT(bug("publish malformed JSON"), HasSubstr("the plugin's JSON:1:12: not valid JSON"));
  EXPECT_THAT(bug("succeed after malformed JSON"),
              HasSubstr("it returned success after a failure that it did not take back"));
  EXPECT_THAT(bug("publish an unknown member"),
              HasSubstr("its result is wrong: /source/pathh: unknown member 'pathh'"));
  EXPECT_THAT(bug("publish an array"), HasSubstr("its result is wrong: expected an object, found an array"));
  EXPECT_THAT(bug("publish a wrong type"), HasSubstr("its result is wrong: /source/path: expected a string"));
}

TEST_F(Misbehaving, Pointers) {
  EXPECT_EQ(bug("put at no pointer"), "\"source\" cannot be set: a JSON pointer begins with '/'");
  EXPECT_EQ(bug("put at NULL"), "a value cannot be set at the pointer NULL");
  EXPECT_EQ(bug("put below a value"), "\"/format/x\" cannot be set: what holds 'x' is a value already");
  EXPECT_EQ(bug("put past an array's end"), "\"/source/hosts/3/name\" cannot be set: element 3 of an array of 0");
  EXPECT_EQ(bug("put with a bad escape"), "\"/a~2b\" cannot be set: '~' is followed by 0 or 1 in a JSON pointer");
  EXPECT_EQ(bug("put what is not UTF-8"), "the text set at \"/source/path\" is not UTF-8");
}

TEST_F(Misbehaving, Errors) {
  Error error = describe_error("fail without a message");
  EXPECT_EQ(error.message, "the plugin failed without a message");
  EXPECT_EQ(error.kind, ErrorKind::storage);
  EXPECT_NE(error.next, "");
  EXPECT_EQ(bug("fail with an unknown kind"), "odd");
  error = describe_error("fail twice");
  EXPECT_EQ(error, (Error{ErrorKind::retry, "the first", "wait", "/data/do"}));
  EXPECT_EQ(describe_error("fail in Latin-1").message, "B\uFFFDro");
}

TEST_F(Misbehaving, Services) {
  EXPECT_EQ(bug("run nothing"), "the plugin asked to run a command without a name");
  EXPECT_EQ(bug("run without a deadline"), "the plugin asked to run true without a deadline");
  EXPECT_EQ(bug("probe no path"), "the plugin asked to probe no absolute path, or no format");
}

TEST_F(Misbehaving, OtherSlots) {
  Driver* misbehaving = driver(*registry_, "misbehaving");
  const auto aio = misbehaving->aio_mode({}, nullptr);
  ASSERT_FALSE(aio.has_value());
  EXPECT_THAT(aio.error().message, HasSubstr("aio_mode: its result is wrong: /preferred"));
  const auto target = misbehaving->target(volume("misbehaving", {{"do", "name an empty target"}}));
  ASSERT_FALSE(target.has_value());
  EXPECT_THAT(target.error().message, HasSubstr("target: its result is wrong: /target: the target is empty"));
  EXPECT_THAT(misbehaving->target(volume("misbehaving", {})).error().message,
              HasSubstr("/target: this key is required"));
  const auto size = misbehaving->extend({}, {}, 7);
  ASSERT_FALSE(size.has_value());
  EXPECT_THAT(size.error().message, HasSubstr("extend: its result is wrong: /size: expected a non-negative integer"));
}

TEST_F(Misbehaving, Exceptions) {
  EXPECT_EQ(bug("", "slot_throws"), "an exception escaped it: map::at");
  EXPECT_EQ(bug("exception", "sdk_slot_throws"), "an exception escaped describe: ring buffer is square");
  EXPECT_EQ(bug("int", "sdk_slot_throws"), "an exception that is no std::exception escaped describe");
  EXPECT_EQ(bug("bad_alloc", "sdk_slot_throws"), "an exception escaped describe: std::bad_alloc");
}

TEST_F(Misbehaving, GoesOnWorkingAfterwards) {
  bug("succeed without a result");
  EXPECT_TRUE(driver(*registry_, "misbehaving")->describe(volume("misbehaving", {})).has_value());
}

class Services : public ::testing::Test {
 protected:
  Services() {
    PluginServices services;
    services.commands = &commands_;
    services.mounts = &mounts_;
    services.block_devices = &devices_;
    services.locks = &locks_;
    services.secrets = &secrets_;
    services.log = log_.sink();
    registry_ = load({kFixtures}, services);
    driver_ = driver(*registry_, "everything");
  }
  Json info(Json data) const {
    data["name"] = "vol";
    return volume("everything", data);
  }

  MockCommands commands_;
  MockMounts mounts_;
  MockDevices devices_;
  MockSecrets secrets_;
  LocksOnPaper locks_;
  Log log_;
  std::unique_ptr<Registry> registry_;
  Driver* driver_ = nullptr;
};

TEST_F(Services, Log) { EXPECT_THAT(log_.lines(), ElementsAre("everything: init")); }

TEST_F(Services, ACommandsArgumentsInputAndResult) {
  Command seen;
  EXPECT_CALL(commands_, run(_)).WillOnce([&](const Command& command) -> Result<CommandResult> {
    seen = command;
    return CommandResult{3, "out", "err", {}};
  });
  ASSERT_TRUE(driver_->connect(info({{"do", "run"}, {"password", "s3cret"}})).has_value());
  EXPECT_THAT(seen.argv, ElementsAre("tool", "--in"));
  EXPECT_EQ(seen.input, "s3cret");
  EXPECT_EQ(seen.timeout, std::chrono::milliseconds(1500));
  EXPECT_EQ(log_.lines().back(), "everything: the tool said outerr3");
}

TEST_F(Services, ACommandThatCannotRunFailsTheCallAsItIs) {
  const Error error{ErrorKind::configuration, "no program 'tool'", "install it", ""};
  EXPECT_CALL(commands_, run(_)).WillOnce(Return(tl::unexpected(error)));
  const auto connected = driver_->connect(info({{"do", "run"}, {"password", "x"}}));
  ASSERT_FALSE(connected.has_value());
  EXPECT_EQ(connected.error(), error);
}

TEST_F(Services, ADriverCanGetOverAFailedService) {
  EXPECT_CALL(commands_, run(_)).WillOnce(Return(fail(ErrorKind::retry, "too slow", "wait")));
  EXPECT_TRUE(driver_->connect(info({{"do", "get over it"}})).has_value());
  EXPECT_EQ(log_.lines().back(), "everything: got over: too slow");
}

TEST_F(Services, ACheckedCommandTellsItsLastLine) {
  EXPECT_CALL(commands_, run(_)).WillOnce(Return(CommandResult{5, "", "warning: x\ntool: no LUN\n\n", {}}));
  const auto connected = driver_->connect(info({{"do", "run checked"}}));
  ASSERT_FALSE(connected.has_value());
  EXPECT_EQ(connected.error(),
            (Error{ErrorKind::storage, "tool: exit status 5: tool: no LUN", "look at the array", ""}));
}

TEST_F(Services, ASecretGoesFromLibvirtToTheCommandAndNowhereElse) {
  Command seen;
  EXPECT_CALL(secrets_, value("secret-uuid")).WillOnce([](auto) { return Result<Secret>(Secret("key\xff")); });
  EXPECT_CALL(commands_, run(_)).WillOnce([&](const Command& command) -> Result<CommandResult> {
    seen = command;
    return CommandResult{};
  });
  ASSERT_TRUE(driver_->connect(info({{"do", "run with secret"}})).has_value());
  EXPECT_EQ(seen.input, "a2V5/w==\n");
  EXPECT_THAT(seen.argv, ElementsAre("tool"));
}

TEST_F(Services, ASecretThatCannotBeReadRunsNothing) {
  EXPECT_CALL(secrets_, value(_)).WillOnce([](auto) -> Result<Secret> {
    return fail(ErrorKind::configuration, "no such secret", "define it");
  });
  EXPECT_CALL(commands_, run(_)).Times(0);
  EXPECT_EQ(driver_->connect(info({{"do", "run with secret"}})).error().message, "no such secret");
}

TEST_F(Services, LocksAreTheDriversOwnAndGivenBack) {
  ASSERT_TRUE(driver_->connect(info({{"do", "lock"}})).has_value());
  EXPECT_THAT(locks_.events,
              ElementsAre("lock everything/session 250", "lock everything/mount 60000", "unlock everything/session",
                          "lock everything/session 60000", "unlock everything/session", "unlock everything/mount"));
}

TEST_F(Services, ALockIsNotTakenTwice) {
  const auto connected = driver_->connect(info({{"do", "lock twice"}}));
  ASSERT_FALSE(connected.has_value());
  EXPECT_EQ(connected.error().kind, ErrorKind::bug);
  EXPECT_THAT(connected.error().message, HasSubstr("has the lock 'session' already"));
  EXPECT_THAT(locks_.events, ElementsAre("lock everything/session 60000", "unlock everything/session"));
}

TEST_F(Services, EffectsAndHoldsGoToTheJournal) {
  JournalOnPaper journal;
  ASSERT_TRUE(driver_->connect(info({{"do", "journal"}}), &journal).has_value());
  EXPECT_THAT(journal.lines, ElementsAre("hold everything: session", "begin log in", "end 1", "begin mount",
                                         "release everything: session"));
  EXPECT_EQ(log_.lines().back(), "everything: not mounted, held and by 2 others");
}

TEST_F(Services, WithoutAJournalNothingIsDone) {
  EXPECT_EQ(driver_->connect(info({{"do", "journal"}})).error().message, "the journal is not available here");
}

TEST_F(Services, Mounts) {
  EXPECT_CALL(mounts_, list())
      .WillOnce(Return(std::vector<Mount>{{"h:/e", "/mnt/a b", "nfs4", "rw"}, {"/dev/sda1", "/", "ext4", "ro"}}));
  ASSERT_TRUE(driver_->connect(info({{"do", "mounts"}})).has_value());
  EXPECT_THAT(log_.lines(),
              ElementsAre("everything: init", "everything: h:/e /mnt/a b nfs4 rw", "everything: /dev/sda1 / ext4 ro"));
}

TEST_F(Services, ConfigurationErrorsNameTheKey) {
  const auto connected = driver_->connect(info({{"do", "configuration"}}));
  ASSERT_FALSE(connected.has_value());
  EXPECT_EQ(connected.error(), (Error{ErrorKind::configuration, "this key is required and missing",
                                      "add /everything/deep/nothing", "/everything/deep/nothing"}));
  EXPECT_EQ(log_.lines().back(), R"(everything: {"base":"/srv","deep":{"list":[1,2.5,true,null,"x"]}})");
  EXPECT_EQ(driver_->connect(info({{"do", "no base"}})).error().where, "/everything/base");
}

TEST_F(Services, FactsGoToThePluginAndBack) {
  StorageFacts facts;
  facts.chain.resize(1);
  facts.chain[0].path = "/srv/vol";
  facts.chain[0].allocation = Allocation::sparse;
  facts.chain[0].o_direct = true;
  EXPECT_CALL(devices_, probe("/srv/vol", "qcow2")).WillOnce(Return(facts));
  Attachment attachment;
  attachment.source.kind = SourceKind::file;
  attachment.source.path = "/srv/vol";
  attachment.format = "qcow2";
  const auto got = driver_->facts(info({}), attachment);
  ASSERT_TRUE(got.has_value()) << describe(got.error());
  EXPECT_EQ(got->allocation(), Allocation::sparse);
  EXPECT_EQ(got->o_direct(), true);
  EXPECT_THAT(got->chain.at(0).probes, ElementsAre("seen by the driver"));
}

TEST_F(Services, WithoutAFactsSlotTheHostProbes) {
  EXPECT_CALL(devices_, probe("/x", "raw")).WillOnce(Return(fail(ErrorKind::storage, "gone", "look")));
  Attachment attachment;
  attachment.source.path = "/x";
  EXPECT_EQ(driver(*registry_, "reader")->facts({}, attachment).error().message, "gone");
  attachment.source.kind = SourceKind::network;
  EXPECT_THAT(driver(*registry_, "reader")->facts({}, attachment)->chain, ::testing::IsEmpty());
}

TEST(NoServices, EachIsAClearConfigurationError) {
  const auto registry = load({kFixtures});
  Driver* everything = driver(*registry, "everything");
  const auto connect = [&](std::string_view what) {
    return everything->connect(volume("everything", {{"name", "v"}, {"do", what}, {"password", "x"}})).error();
  };
  EXPECT_EQ(connect("run").message, "running tool is not available here");
  EXPECT_EQ(connect("run").kind, ErrorKind::configuration);
  EXPECT_EQ(connect("mounts").message, "the mount table is not available here");
  Attachment attachment;
  attachment.source.path = "/srv/v";
  EXPECT_EQ(everything->facts({}, attachment).error().message, "probing /srv/v is not available here");
  EXPECT_EQ(driver(*registry, "reader")->facts({}, attachment).error().message, "probing /srv/v is not available here");
}

TEST_F(Services, Defaults) {
  Driver* reader = driver(*registry_, "reader");
  EXPECT_EQ(reader->connect(volume("reader", {}))->source.path, "/x") << "no connect: where describe says";
  EXPECT_TRUE(reader->disconnect({}, nullptr, false).has_value());
  const auto extended = reader->extend({}, {}, 1024);
  ASSERT_FALSE(extended.has_value());
  EXPECT_EQ(extended.error().kind, ErrorKind::refused);
  EXPECT_EQ(extended.error().message, "the driver 'reader' cannot extend a volume");
}

TEST_F(Services, TargetsFollowTheThreadModel) {
  EXPECT_EQ(driver_->target(info({})).value(), "everything:vol");
  EXPECT_EQ(driver_->target(volume("everything", {{"name", 7}})).value(), "everything:7");
  EXPECT_EQ(driver(*registry_, "reader")->target(volume("reader", {})).value(), "reader") << "serialize-all: one lock";
  EXPECT_EQ(driver(*registry_, "newer_minor")->target({}).value(), std::nullopt) << "parallel: none";
}

}  // namespace
}  // namespace aiolos::testing
