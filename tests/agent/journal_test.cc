// SPDX-License-Identifier: Apache-2.0
#include "journal.h"

#include <sys/stat.h>

#include <fstream>
#include <thread>

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_machine.h"
#include "temporary_folder.h"

namespace aiolos {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class JournalTest : public ::testing::Test {
 protected:
  std::unique_ptr<Journal> open() {
    auto journal = Journal::open(folder_.path(), clock_);
    EXPECT_TRUE(journal) << describe(journal.error());
    return std::move(*journal);
  }
  static AttachmentRecord record(const std::string& target = "vdb") {
    AttachmentRecord made;
    made.hypervisor = "qemu:///system";
    made.domain_uuid = "uuid-1";
    made.domain_name = "guest";
    made.target = target;
    made.volume_type = "file";
    made.serial = "serial-1";
    made.connection_info = {{"data", {{"path", "/x"}}}};
    made.disk_info = {{"dev", target}};
    return made;
  }

  test::TemporaryFolder folder_;
  test::FakeClock clock_;
};

TEST_F(JournalTest, SurvivesReopening) {
  std::int64_t id = 0;
  {
    const auto journal = open();
    id = *journal->open_attachment(record());
    const auto step = journal->begin_step(id, Step::connect);
    ASSERT_TRUE(journal->finish_step(*step, AttachmentState::connected, {{"format", "raw"}}));
    ASSERT_TRUE(journal->keep_disk_xml(id, "<disk/>"));
  }
  const auto found = open()->find("qemu:///system", "uuid-1", "vdb");
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->id, id);
  EXPECT_EQ((*found)->state, AttachmentState::connected);
  EXPECT_EQ((*found)->attachment, (Json{{"format", "raw"}}));
  EXPECT_EQ((*found)->connection_info, record().connection_info);
  EXPECT_EQ((*found)->domain_name, "guest");
  EXPECT_EQ((*found)->hypervisor, "qemu:///system");
  EXPECT_EQ((*found)->disk_xml, "<disk/>");
}

TEST_F(JournalTest, AFailedStepLeavesTheState) {
  const auto journal = open();
  const auto id = *journal->open_attachment(record());
  ASSERT_TRUE(journal->finish_step(*journal->begin_step(id, Step::connect), AttachmentState::connected));
  ASSERT_TRUE(journal->fail_step(*journal->begin_step(id, Step::attach), Error{ErrorKind::hypervisor, "no", "", {}}));
  EXPECT_EQ((**journal->find("qemu:///system", "uuid-1", "vdb")).state, AttachmentState::connected);
}

TEST_F(JournalTest, KnowsWhichStepsAreUnfinished) {
  const auto journal = open();
  const auto id = *journal->open_attachment(record());
  const auto step = *journal->begin_step(id, Step::detach);
  EXPECT_THAT(*journal->unfinished_steps(id), testing::ElementsAre(Step::detach));
  ASSERT_TRUE(journal->fail_step(step, Error{ErrorKind::hypervisor, "no", "", {}}));
  EXPECT_THAT(*journal->unfinished_steps(id), testing::IsEmpty());
}

TEST_F(JournalTest, OneOpenVolumeATarget) {
  const auto journal = open();
  const auto id = *journal->open_attachment(record());
  EXPECT_FALSE(journal->open_attachment(record()));
  EXPECT_TRUE(journal->open_attachment(record("vdc")));
  ASSERT_TRUE(journal->close(id));
  EXPECT_TRUE(journal->open_attachment(record()));
  EXPECT_EQ(journal->open_attachments()->size(), 2u);
}

TEST_F(JournalTest, AHypervisorKnowsItsOwnDomainsOnly) {
  const auto journal = open();
  ASSERT_TRUE(journal->open_attachment(record()));
  EXPECT_FALSE(*journal->find("qemu:///embed?root=/x", "uuid-1", "vdb"));
  AttachmentRecord other = record();
  other.hypervisor = "qemu:///embed?root=/x";
  EXPECT_TRUE(journal->open_attachment(other));
}

TEST_F(JournalTest, ClosedRecordsAreFoundOnlyWhenAskedFor) {
  const auto journal = open();
  const auto id = *journal->open_attachment(record());
  ASSERT_TRUE(journal->close(id));
  EXPECT_FALSE(*journal->find("qemu:///system", "uuid-1", "vdb"));
  EXPECT_EQ((**journal->find("qemu:///system", "uuid-1", "vdb", true)).state, AttachmentState::closed);
  const auto newer = *journal->open_attachment(record());
  EXPECT_EQ((**journal->find("qemu:///system", "uuid-1", "vdb", true)).id, newer);
}

TEST_F(JournalTest, OnlyItsOwnerCanReadIt) {
  const auto journal = open();
  ASSERT_TRUE(journal->open_attachment(record()));
  for (const char* name : {"journal.sqlite", "journal.sqlite-wal"}) {
    struct stat status {};
    ASSERT_EQ(::stat((folder_.path() + "/" + name).c_str(), &status), 0) << name;
    EXPECT_EQ(status.st_mode & 0077, 0u) << name;
  }
}

TEST_F(JournalTest, IsDurable) {
  open();
  SQLite::Database database(folder_.path() + "/journal.sqlite");
  EXPECT_EQ(database.execAndGet("PRAGMA journal_mode").getString(), "wal");
}

TEST_F(JournalTest, DamagedFileIsAnErrorThatNamesIt) {
  std::ofstream(folder_.path() + "/journal.sqlite") << "this is no database, and long enough to be seen as none......";
  const auto journal = Journal::open(folder_.path(), clock_);
  ASSERT_FALSE(journal);
  EXPECT_EQ(journal.error().kind, ErrorKind::configuration);
  EXPECT_THAT(journal.error().where, HasSubstr("journal.sqlite"));
}

TEST_F(JournalTest, KeepsWhatDriversDoAndHold) {
  const auto journal = open();
  const auto first = journal->open_attachment(record("vdb"));
  const auto second = journal->open_attachment(record("vdc"));
  const auto step = journal->begin_step(*first, Step::connect);
  const auto other_step = journal->begin_step(*second, Step::connect);
  const auto mine = journal->volume_journal(*first, *step);
  const auto other = journal->volume_journal(*second, *other_step);

  ASSERT_TRUE(mine->hold("session"));
  ASSERT_TRUE(mine->hold("session")) << "again is once";
  ASSERT_TRUE(other->hold("session"));
  EXPECT_TRUE(mine->holders("session")->held);
  EXPECT_EQ(mine->holders("session")->others, 1u);
  EXPECT_FALSE(mine->holders("mount")->held);
  EXPECT_EQ(journal->held_resources(*first).value(), std::vector<std::string>{"session"});

  const auto done = mine->begin_effect("log in");
  ASSERT_TRUE(mine->end_effect(*done));
  ASSERT_TRUE(mine->begin_effect("scan"));
  EXPECT_EQ(journal->unfinished_effects(*first).value(), std::vector<std::string>{"scan"});

  ASSERT_TRUE(mine->release("session"));
  ASSERT_TRUE(mine->release("session")) << "again is nothing";
  EXPECT_EQ(other->holders("session")->others, 0u);
  ASSERT_TRUE(journal->finish_step(*step, AttachmentState::connected));
  EXPECT_TRUE(journal->unfinished_effects(*first)->empty()) << "the step came to its end";
}

TEST_F(JournalTest, AClosedVolumeHoldsNothing) {
  const auto journal = open();
  const auto by_step = journal->open_attachment(record("vdb"));
  const auto by_close = journal->open_attachment(record("vdc"));
  const auto step = journal->begin_step(*by_step, Step::disconnect);
  ASSERT_TRUE(journal->volume_journal(*by_step, *step)->hold("session"));
  ASSERT_TRUE(journal->volume_journal(*by_close, *step)->hold("session"));
  ASSERT_TRUE(journal->finish_step(*step, AttachmentState::closed));
  EXPECT_TRUE(journal->held_resources(*by_step)->empty());
  EXPECT_EQ(journal->held_resources(*by_close)->size(), 1u);
  ASSERT_TRUE(journal->close(*by_close));
  EXPECT_TRUE(journal->held_resources(*by_close)->empty());
}

TEST_F(JournalTest, TakesOverAJournalOfTheFirstSchema) {
  open();
  {
    SQLite::Database database(folder_.path() + "/journal.sqlite", SQLite::OPEN_READWRITE);
    database.exec(
        "DROP TABLE effects; DROP TABLE holds; DROP TABLE aio_reservations; DROP TABLE lowered_queues; "
        "PRAGMA user_version = 1");
  }
  const auto journal = open();
  const auto id = journal->open_attachment(record("vdb"));
  EXPECT_TRUE(journal->held_resources(*id)) << "the tables are there again";
}

TEST_F(JournalTest, TakesOverAJournalOfTheSecondSchema) {
  open();
  {
    SQLite::Database database(folder_.path() + "/journal.sqlite", SQLite::OPEN_READWRITE);
    database.exec("DROP TABLE aio_reservations; DROP TABLE lowered_queues; PRAGMA user_version = 2");
  }
  EXPECT_TRUE(open()->aio_reservations());
}

TEST_F(JournalTest, KeepsWhatAQueueWasBeforeItWasLoweredFirst) {
  const auto journal = open();
  ASSERT_TRUE(journal->keep_lowered("qemu:///system", "uuid-1", "guest", {{"vdb", "serial-1", "vda", 256, 8}}));
  ASSERT_TRUE(journal->keep_lowered("qemu:///system", "uuid-1", "guest", {{"vdb", "serial-1", "vda", 8, 6}}));
  const auto kept = journal->lowered_queues("qemu:///system");
  ASSERT_TRUE(kept);
  ASSERT_THAT(*kept, SizeIs(1));
  EXPECT_EQ(kept->front().queue.before, 256U);
  EXPECT_EQ(kept->front().queue.lowered, 6U);
  EXPECT_THAT(*journal->lowered_queues("qemu:///session"), IsEmpty());
  ASSERT_TRUE(journal->forget_lowered(kept->front().id));
  EXPECT_THAT(*journal->lowered_queues("qemu:///system"), IsEmpty());
}

TEST_F(JournalTest, KeepsAReservationUntilTheVolumeIsClosed) {
  const auto journal = open();
  const auto first = journal->open_attachment(record("vdb"));
  const auto second = journal->open_attachment(record("vdc"));
  ASSERT_TRUE(journal->reserve_aio(*first, 77, 1));
  ASSERT_TRUE(journal->reserve_aio(*first, 77, 2)) << "again is in place of it";
  ASSERT_TRUE(journal->reserve_aio(*second, std::nullopt, 3));
  const auto held = journal->aio_reservations();
  ASSERT_TRUE(held && held->size() == 2);
  EXPECT_EQ((*held)[0].target, "vdb");
  EXPECT_EQ((*held)[0].domain_uuid, "uuid-1");
  EXPECT_EQ((*held)[0].pid, 77);
  EXPECT_EQ((*held)[0].contexts, 2U);
  EXPECT_EQ((*held)[1].pid, std::nullopt);
  ASSERT_TRUE(journal->close(*first));
  const auto step = journal->begin_step(*second, Step::disconnect);
  ASSERT_TRUE(journal->finish_step(*step, AttachmentState::closed));
  EXPECT_TRUE(journal->aio_reservations()->empty());
}

TEST_F(JournalTest, FolderThatCannotBeMadeIsAnError) {
  const auto journal = Journal::open("/proc/no/such", clock_);
  ASSERT_FALSE(journal);
  EXPECT_EQ(journal.error().kind, ErrorKind::configuration);
}

TEST_F(JournalTest, NewerSchemaIsRefused) {
  open();
  SQLite::Database(folder_.path() + "/journal.sqlite", SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 99");
  const auto journal = Journal::open(folder_.path(), clock_);
  ASSERT_FALSE(journal);
  EXPECT_THAT(journal.error().message, HasSubstr("newer Aiolos"));
}

TEST_F(JournalTest, ServesSeveralThreadsAndProcesses) {
  const auto first = open();
  const auto second = open();  // as another process would
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      Journal& journal = i % 2 ? *first : *second;
      for (int n = 0; n < 10; ++n) {
        const auto id = journal.open_attachment(record(fmt::format("vd{}-{}", i, n)));
        ASSERT_TRUE(id) << describe(id.error());
        ASSERT_TRUE(journal.finish_step(*journal.begin_step(*id, Step::connect), AttachmentState::connected));
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(first->open_attachments()->size(), 40u);
}

TEST_F(JournalTest, IsMadeByAllThatComeFirstAtOnce) {
  for (int round = 0; round < 20; ++round) {
    const test::TemporaryFolder fresh;
    std::vector<std::jthread> openers;
    for (int i = 0; i < 6; ++i)
      openers.emplace_back([&] {
        const auto journal = Journal::open(fresh.path(), clock_);
        EXPECT_TRUE(journal) << describe(journal.error());
      });
  }
}

TEST(Redact, HidesSecretsOnly) {
  const Json info = {{"data",
                      {{"auth_username", "user"},
                       {"auth_password", "a"},
                       {"discovery_auth_password", "b"},
                       {"keyring", "c"},
                       {"Auth_Passwd", "f"},
                       {"secret_uuid", "d"},
                       {"secret_type", "ceph"},
                       {"list", Json::array({Json{{"access_token", "e"}}})},
                       {"password", nullptr}}}};
  const Json redacted = redact(info);
  EXPECT_EQ(redacted["data"]["auth_username"], "user");
  EXPECT_EQ(redacted["data"]["secret_uuid"], "d");
  EXPECT_EQ(redacted["data"]["secret_type"], "ceph");
  EXPECT_EQ(redacted["data"]["password"], nullptr);
  for (const char* key : {"auth_password", "discovery_auth_password", "keyring", "Auth_Passwd"})
    EXPECT_EQ(redacted["data"][key], "***");
  EXPECT_EQ(redacted["data"]["list"][0]["access_token"], "***");
}

}  // namespace
}  // namespace aiolos
