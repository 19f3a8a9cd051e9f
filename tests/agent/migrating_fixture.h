// SPDX-License-Identifier: Apache-2.0
// Two machines in memory, between which a guest migrates.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent_fixture.h"
#include "aiolos/agent/migrate.h"
#include "aiolos/disk/disk_xml.h"

namespace aiolos {

inline const char* const kPlace =
    "<alias name='virtio-disk1'/><address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/></disk>";

/// One of the two hosts.
struct TestHost {
  test::TemporaryFolder state;
  test::World world;
  std::unique_ptr<Agent> agent;

  /// @param more of the configuration.
  void open(const std::string& more) { open_with("{libvirt: {uri: 'qemu:///system'}" + more + "}"); }
  void open_embedded() { open_with(""); }

  void open_with(const std::string& yaml) {
    agent.reset();
    auto config = parse_config(yaml, "test.yaml");
    ASSERT_TRUE(config) << describe(config.error());
    config->plugins.path = {TEST_PLUGINS};
    config->state.dir = state.path();
    Agent::Options options;
    options.config = std::move(*config);
    options.machine = std::make_unique<test::FakeMachine>(world);
    auto opened = Agent::open(std::move(options));
    ASSERT_TRUE(opened) << describe(opened.error());
    agent = std::move(*opened);
  }

  /// "attached", ... of the volumes that the journal holds.
  std::vector<std::string> states() const {
    std::vector<std::string> list;
    const auto attachments = agent->attachments();
    if (!attachments) return {describe(attachments.error())};
    for (const AttachmentListing& each : *attachments) list.push_back(each.state);
    return list;
  }
  /// "kept", ...
  std::vector<std::string> reconciled() const {
    std::vector<std::string> list;
    const auto entries = agent->reconcile();
    if (!entries) return {describe(entries.error())};
    for (const ReconcileEntry& each : *entries) list.emplace_back(to_string(each.outcome));
    return list;
  }
};

class Migrating : public ::testing::Test {
 protected:
  void SetUp() override {
    open("");
    there_.world.gone = true;
    here_.world.migration.ticks = 3;
    here_.world.migration.arrives = [this](const MigrationOrder& order) {
      there_.world.gone = false;
      const auto disks = disk::parse_document(order.xml);
      ASSERT_TRUE(disks) << describe(disks.error());
      for (const disk::FoundDisk& found : *disks)
        there_.world.disks[*found.parsed.disk.target.dev] = disk::emit(found.parsed.disk);
    };
    request_.domain = "guest";
    request_.destination = "qemu+ssh://there/system";
    watch_.show = [this](const MigrationStatus& status) { shown_.push_back(status); };
  }

  void open(const std::string& yaml) {
    here_.open(yaml);
    there_.open(yaml);
  }

  static Json volume(const Json& more = Json::object()) {
    Json info = {{"driver_volume_type", "scripted"}, {"serial", "serial-1"}, {"data", {{"path", "/images/vol"}}}};
    info["data"].update(more);
    return info;
  }

  /// Gives the guest its disk, at a place that nobody has chosen but libvirt.
  void attach(const Json& info = volume()) {
    const auto done = here_.agent->attach("guest", info, {{"bus", "virtio"}, {"dev", "vdb"}, {"type", "disk"}}, false);
    ASSERT_TRUE(done) << describe(done.error());
    std::string& xml = here_.world.disks.at("vdb");
    xml.replace(xml.find("</disk>"), 7, kPlace);
    here_.world.events.clear();
  }

  Result<MigrationReport> migrate() {
    auto arrival = there_.agent->arrival();
    const auto peer = remote_peer([&](const Json& request) -> Result<Json> {
      asked_.push_back(request.at("command"));
      const auto dead = [] { return fail(ErrorKind::retry, "the other host does not answer", "look at it"); };
      if (!arrival) return dead();
      if (asked_.back() == dies_at_) {
        arrival.reset();
        return dead();
      }
      return answer_peer(*arrival, request);
    });
    return here_.agent->migrate(request_, *peer, watch_);
  }

  /// The error of a migration that must fail, with the guest and its volume where they were.
  Error failure() {
    const auto done = migrate();
    EXPECT_FALSE(done);
    EXPECT_FALSE(here_.world.gone);
    EXPECT_THAT(here_.states(), ::testing::ElementsAre("attached"));
    EXPECT_THAT(here_.world.events, ::testing::Not(::testing::Contains("disconnect")));
    return done ? Error{} : done.error();
  }

  TestHost here_;
  TestHost there_;
  MigrationRequest request_;
  MigrationWatch watch_;
  std::vector<MigrationStatus> shown_;
  std::vector<std::string> asked_;
  std::string dies_at_;
};

}  // namespace aiolos
