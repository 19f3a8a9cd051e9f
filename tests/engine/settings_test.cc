// SPDX-License-Identifier: Apache-2.0
// What the daemon is told, and how it says what is wrong with it.
#include "settings.h"

#include <gmock/gmock.h>

#include <fstream>

#include "storage.h"

namespace aiolos::engine {
namespace {

using testing::HasSubstr;

TEST(EngineSettings, ReadsADiskOfTheCommandLine) {
  const auto disk =
      parse_disk("path=/a,,b.raw,socket=/s,aio=native,group=vm,readonly=on,direct=off,queues=2,weight=3,serial=x");
  ASSERT_TRUE(disk.has_value()) << disk.error().message;
  EXPECT_EQ(disk->path, "/a,b.raw");
  EXPECT_EQ(disk->aio, AioMode::native);
  EXPECT_EQ(disk->group, "vm");
  EXPECT_TRUE(disk->read_only);
  EXPECT_FALSE(disk->direct);
  EXPECT_EQ(disk->queues, 2U);
  EXPECT_EQ(disk->weight, 3.0);
  EXPECT_EQ(disk->name, "/s") << "the socket's path unless it has one";
}

TEST(EngineSettings, WhatIsWrittenIsReadAgain) {
  const auto disk = parse_disk("path=/a,socket=/s,aio=threads,name=n,readonly=on,queues=9");
  ASSERT_TRUE(disk.has_value());
  const Json written = to_json(*disk);
  const auto again = read_disk(JsonView(written));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(to_json(*again), written);
}

TEST(EngineSettings, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> wrong[] = {
      {"path=/a", "without 'socket'"},
      {"socket=/s", "without 'path'"},
      {"path=/a,socket=/s,aoi=native", "unknown setting 'aoi'"},
      {"path=/a,socket=/s,aio=posix", "threads, native or io_uring"},
      {"path=/a,socket=/s,readonly=maybe", "on or off"},
      {"path=/a,socket=/s,queues=0", "1 to 64"},
      {"path=/a,socket=/s,queues=65", "1 to 64"},
      {"path", "no key=value"},
      {"", "no key=value"},
  };
  for (const auto& [text, message] : wrong) {
    const auto disk = parse_disk(text);
    ASSERT_FALSE(disk.has_value()) << text;
    EXPECT_THAT(describe(disk.error()), HasSubstr(message)) << text;
  }
}

TEST(EngineSettings, TheExampleShowsTheDefaults) {
  const auto settings = load_settings(AIOLOS_ENGINE_EXAMPLE);
  ASSERT_TRUE(settings.has_value()) << describe(settings.error());
  EXPECT_EQ(settings->reactors, Settings{}.reactors);
  EXPECT_EQ(settings->capacity, Settings{}.capacity);
  EXPECT_EQ(settings->metrics, "");
  EXPECT_TRUE(settings->disks.empty());
}

TEST(EngineSettings, AFileThatIsWrongIsNamed) {
  const Folder folder;
  const std::string path = folder / "engine.yaml";
  std::ofstream(path) << "disks:\n- {path: /a, socket: /s, queues: many}\n";
  const auto settings = load_settings(path);
  ASSERT_FALSE(settings.has_value());
  EXPECT_EQ(settings.error().kind, ErrorKind::configuration);
  EXPECT_THAT(settings.error().where, HasSubstr(path + ":/disks/0/queues"));
  std::ofstream(path) << "disks: [";
  EXPECT_FALSE(load_settings(path).has_value());
  EXPECT_FALSE(load_settings(folder / "none").has_value());
}

}  // namespace
}  // namespace aiolos::engine
