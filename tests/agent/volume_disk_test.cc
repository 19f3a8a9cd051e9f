// SPDX-License-Identifier: Apache-2.0
// What all storage types share of a volume's disk. That it is what Nova gives is the business of tests/nova.
#include "volume_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "aiolos/disk/disk_xml.h"

namespace aiolos {
namespace {

using ::testing::HasSubstr;

TEST(DiskInfo, ReadsNovasForm) {
  const JsonDocument document(
      Json{{"bus", "scsi"}, {"dev", "sda"}, {"type", "lun"}, {"unit", 300}, {"boot_index", "1"}, {"format", nullptr}});
  const auto info = parse_disk_info(document.root(), AioProfile::automatic);
  ASSERT_TRUE(info) << describe(info.error());
  EXPECT_EQ(info->bus, disk::Bus::scsi);
  EXPECT_EQ(info->type, disk::DeviceKind::lun);
  EXPECT_EQ(info->unit, 300u);
  EXPECT_EQ(info->boot_index, 1u);
}

TEST(DiskInfo, NamesWhatIsWrong) {
  const auto where = [](const char* text) {
    const auto info = parse_disk_info(JsonDocument(Json::parse(text)).root(), AioProfile::automatic);
    return info ? std::string("accepted") : info.error().where;
  };
  EXPECT_EQ(where(R"({"dev": "vdb"})"), "/bus");
  EXPECT_EQ(where(R"({"bus": "pcie", "dev": "vdb"})"), "/bus");
  EXPECT_EQ(where(R"({"bus": "virtio"})"), "/dev");
  EXPECT_EQ(where(R"({"bus": "virtio", "dev": ""})"), "/dev");
  EXPECT_EQ(where(R"({"bus": "virtio", "dev": "vdb", "type": "tape"})"), "/type");
  EXPECT_EQ(where(R"({"bus": "virtio", "dev": "vdb", "unit": -1})"), "/unit");
  EXPECT_EQ(where(R"({"bus": "virtio", "dev": "vdb", "boot_index": 0})"), "/boot_index");
  EXPECT_EQ(where(R"({"bus": "virtio", "dev": "vdb", "unit": 1})"), "/unit");
  EXPECT_EQ(where(R"({"bus": "virtio", "dev": "vdb", "Unit": 1})"), "/Unit");
  EXPECT_EQ(where(R"([])"), "");
  EXPECT_EQ(where(R"([{"bus": "virtio"}])"), "");
  EXPECT_EQ(where(R"({"bus": "virtio", "dev": "vdb"})"), "accepted");
}

TEST(DiskInfo, ProfileNovaPassesOverWhatMeansNothing) {
  const auto read = [](const char* text) {
    return parse_disk_info(JsonDocument(Json::parse(text)).root(), AioProfile::nova).has_value();
  };
  EXPECT_TRUE(read(R"({"bus": "virtio", "dev": "vdb", "unit": 1, "mapping": {}})"));
}

TEST(VolumeInfo, NamesWhatIsWrong) {
  const auto where = [](const char* text) {
    const auto info = parse_volume_info(JsonDocument(Json::parse(text)).root(), AioProfile::automatic);
    return info ? std::string("accepted") : info.error().where;
  };
  EXPECT_EQ(where(R"({})"), "/driver_volume_type");
  EXPECT_EQ(where(R"({"driver_volume_type": 1})"), "/driver_volume_type");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "data": 1})"), "/data");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "serial": 1})"), "/serial");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "data": {"access_mode": "rx"}})"), "/data/access_mode");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "data": {"qos_specs": {"read_iops_sec": "many"}}})"),
            "/data/qos_specs/read_iops_sec");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "data": {"logical_block_size": true}})"), "/data/logical_block_size");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "multiattach": "no"})"), "/multiattach");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "data": {"discard": "true"}})"), "/data/discard");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "data": {"encrypted": 1}})"), "/data/encrypted");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "data": {"qos_specs": []}})"), "/data/qos_specs");
  EXPECT_EQ(where(R"({"driver_volume_type": "x", "data": {"access_mode": ""}})"), "accepted");
}

TEST(VolumeInfo, ProfileNovaReadsFlagsAsPythonDoes) {
  const auto read = [](const char* text) {
    const JsonDocument document(Json::parse(text));
    const auto info = parse_volume_info(document.root(), AioProfile::nova);
    EXPECT_TRUE(info) << text;
    return info ? std::tuple(info->multiattach, info->discard) : std::tuple(false, false);
  };
  EXPECT_EQ(read(R"({"driver_volume_type": "x", "multiattach": "no"})"), std::tuple(true, false));
  EXPECT_EQ(read(R"({"driver_volume_type": "x", "multiattach": "", "data": {"discard": 1}})"),
            std::tuple(false, false));
  EXPECT_EQ(read(R"({"driver_volume_type": "x", "data": {"discard": true, "qos_specs": "x"}})"),
            std::tuple(false, true));
}

TEST(VolumeInfo, QosReadsMoreThanNovaUnlessNovaIsAskedFor) {
  const Json info = {
      {"driver_volume_type", "x"},
      {"data",
       {{"qos_specs",
         {{"read_iops_sec", "500"}, {"read_iops_sec_max_length", 10}, {"group_name", "g"}, {"minIOPS", "x"}}}}}};
  const JsonDocument document(info);
  const auto everything = parse_volume_info(document.root(), AioProfile::automatic);
  ASSERT_TRUE(everything);
  EXPECT_EQ(everything->iotune->read_iops_sec, 500u);
  EXPECT_EQ(everything->iotune->read_iops_sec_max_length, 10u);
  EXPECT_EQ(everything->iotune->group_name, "g");
  const auto nova = parse_volume_info(document.root(), AioProfile::nova);
  ASSERT_TRUE(nova);
  EXPECT_EQ(nova->iotune->read_iops_sec, 500u);
  EXPECT_EQ(nova->iotune->read_iops_sec_max_length, std::nullopt);
}

TEST(CacheModes, FollowNovasRule) {
  Config config;
  EXPECT_EQ(choose_cache_mode(config, SourceKind::network, false), CacheMode::none);
  config.disk_cachemodes[SourceKind::network] = CacheMode::writeback;
  EXPECT_EQ(choose_cache_mode(config, SourceKind::network, false), CacheMode::writeback);
  EXPECT_EQ(choose_cache_mode(config, SourceKind::network, true), CacheMode::none) << "shareable";
  EXPECT_EQ(choose_cache_mode(config, SourceKind::block, false), CacheMode::none);
}

TEST(BuildDisk, PutsEverythingInItsPlace) {
  VolumeInfo volume;
  volume.serial = "s";
  volume.readonly = volume.discard = volume.multiattach = true;
  volume.logical_block_size = 4096;
  volume.iotune.ensure().total_iops_sec = 100;
  DiskInfo info{disk::Bus::scsi, "sdb", disk::DeviceKind::disk, 5, 2, {}};
  Attachment attachment;
  attachment.source.kind = SourceKind::network;
  attachment.source.protocol = "rbd";
  attachment.source.name = "pool/image";
  attachment.source.hosts = {{"mon1", "6789", "", ""}};
  attachment.source.auth = SourceAuth{"cinder", "ceph", "uuid-c"};
  const auto disk = build_disk(std::move(volume), info, std::move(attachment), CacheMode::none, std::nullopt,
                               std::string("uuid-l"), AioProfile::automatic);
  ASSERT_TRUE(disk) << describe(disk.error());
  EXPECT_EQ(disk::emit(*disk), R"(<disk type='network' device='disk'>
  <driver name='qemu' type='raw' cache='none' discard='unmap'/>
  <auth username='cinder'>
    <secret type='ceph' uuid='uuid-c'/>
  </auth>
  <source protocol='rbd' name='pool/image'>
    <host name='mon1' port='6789'/>
  </source>
  <blockio logical_block_size='4096'/>
  <target dev='sdb' bus='scsi'/>
  <iotune>
    <total_iops_sec>100</total_iops_sec>
  </iotune>
  <readonly/>
  <shareable/>
  <serial>s</serial>
  <encryption format='luks'>
    <secret type='passphrase' uuid='uuid-l'/>
  </encryption>
  <boot order='2'/>
  <address type='drive' controller='0' unit='5'/>
</disk>
)");
}

TEST(BuildDisk, RefusesWhatLibvirtDoesNotKnow) {
  Attachment attachment;
  attachment.source.kind = SourceKind::network;
  attachment.source.protocol = "carrier-pigeon";
  const auto build = [&] {
    return build_disk({}, {}, Attachment(attachment), CacheMode::none, std::nullopt, std::nullopt,
                      AioProfile::automatic);
  };
  EXPECT_THAT(build().error().message, HasSubstr("protocol 'carrier-pigeon'"));
  attachment.source.protocol = "rbd";
  attachment.source.hosts = {{"mon1", "port", "", ""}};
  EXPECT_THAT(build().error().message, HasSubstr("port 'port' of host 'mon1'"));
  attachment.source.hosts = {{"mon1", "6789", "smoke", ""}};
  EXPECT_THAT(build().error().message, HasSubstr("transport 'smoke'"));
}

}  // namespace
}  // namespace aiolos
