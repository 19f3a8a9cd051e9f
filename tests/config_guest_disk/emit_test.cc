// SPDX-License-Identifier: Apache-2.0
// Emitting disks that code has built: layout, escaping, and absent, empty and zero kept apart.
#include <gtest/gtest.h>

#include "aiolos/core/json.h"
#include "aiolos/disk/disk_xml.h"

namespace aiolos::disk {
namespace {

DiskConfig iscsi_volume() {
  DiskConfig disk;
  disk.type = SourceType::block;
  disk.device = DeviceKind::disk;
  disk.driver.name = "qemu";
  disk.driver.type = "raw";
  disk.driver.cache = CacheMode::none;
  disk.driver.io = AioMode::native;
  disk.source.dev = "/dev/sdb";
  disk.target = {.dev = "vdb", .bus = Bus::virtio};
  disk.serial = "17a5a8c6";
  return disk;
}

TEST(Emit, WritesWhatIsSetInLibvirtsOrder) {
  EXPECT_EQ(emit(iscsi_volume()),
            "<disk type='block' device='disk'>\n"
            "  <driver name='qemu' type='raw' cache='none' io='native'/>\n"
            "  <source dev='/dev/sdb'/>\n"
            "  <target dev='vdb' bus='virtio'/>\n"
            "  <serial>17a5a8c6</serial>\n"
            "</disk>\n");
}

TEST(Emit, LaysOutAsAsked) {
  DiskConfig disk;
  disk.source.file = "/a";
  EXPECT_EQ(emit(disk, {.width = 0}), "<disk><source file='/a'/></disk>");
  EXPECT_EQ(emit(disk, {.width = 4, .level = 1}), "    <disk>\n        <source file='/a'/>\n    </disk>\n");
  EXPECT_EQ(emit(disk, {.final_newline = false}), "<disk>\n  <source file='/a'/>\n</disk>");
  std::string out = "before ";
  emit_to(out, disk, {.width = 0});
  EXPECT_EQ(out, "before <disk><source file='/a'/></disk>");
}

TEST(Emit, WritesAJsonString) {
  const auto json = [](const std::string& serial, Indent indent) {
    DiskConfig disk;
    disk.serial = serial;
    std::string out = "before ";
    emit_json_to(out, disk, indent);
    EXPECT_EQ(out, "before " + Json(emit(disk, indent)).dump(-1, ' ', false, Json::error_handler_t::replace)) << serial;
    return out;
  };
  EXPECT_EQ(json("a", {.width = 0}), R"(before "<disk><serial>a</serial></disk>")");
  EXPECT_EQ(json("a", {.final_newline = false}), R"(before "<disk>\n  <serial>a</serial>\n</disk>")");
  json(R"(a"b\c'd<e>&f)", {});
  json("seven77", {});
  json("", {});
  json("tab\tline\nbell\x07 del\x7f", {});
  json("gr\xc3\xbc\xc3\x9f", {});
  EXPECT_EQ(json("bad\xff", {.width = 0}), "before \"<disk><serial>bad\xef\xbf\xbd</serial></disk>\"");
}

TEST(Emit, KeepsZeroEmptyAndAbsentApart) {
  DiskConfig disk;
  disk.iotune.ensure().read_iops_sec = 0;
  disk.serial = "";
  disk.source.file = "";
  disk.driver.extra.mark_present();
  EXPECT_EQ(emit(disk, {.width = 0}),
            "<disk><driver/><source file=''/><iotune><read_iops_sec>0</read_iops_sec></iotune><serial/></disk>");
}

TEST(Emit, EscapesWhatXmlReadsAsSomethingElse) {
  DiskConfig disk;
  disk.source.file = "a&b<c>d'e\"f\n\t\rg";
  disk.serial = "a&b<c>d'e\"f\n\t\rg";
  const std::string xml = emit(disk, {.width = 0});
  EXPECT_EQ(xml,
            "<disk><source file='a&amp;b&lt;c&gt;d&apos;e\"f&#10;&#9;&#13;g'/>"
            "<serial>a&amp;b&lt;c&gt;d'e\"f\n\t&#13;g</serial></disk>");
  const auto parsed = parse(xml);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->disk.source.file, disk.source.file);
  EXPECT_EQ(parsed->disk.serial, disk.serial);
}

TEST(Emit, WritesAddressesAsTheirTypeHasThem) {
  DiskConfig disk;
  disk.address = Address{.type = AddressType::pci, .domain = 0, .bus = 3, .slot = 31, .function = 7};
  EXPECT_EQ(emit(disk, {.width = 0}),
            "<disk><address type='pci' domain='0x0000' bus='0x03' slot='0x1f' function='0x7'/></disk>");
  disk.address = Address{.type = AddressType::drive, .controller = 0, .bus = 3, .target = 0, .unit = 31};
  EXPECT_EQ(emit(disk, {.width = 0}),
            "<disk><address type='drive' controller='0' bus='3' target='0' unit='31'/></disk>");
}

TEST(Emit, ANewValueReplacesTheSpellingThatWasParsed) {
  auto parsed = parse("<disk><driver queues='04' cache='brandnew'/></disk>");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(emit(parsed->disk, {.width = 0}), "<disk><driver cache='brandnew' queues='04'/></disk>");
  parsed->disk.driver.queues = 5;
  parsed->disk.driver.cache = CacheMode::none;
  EXPECT_EQ(emit(parsed->disk, {.width = 0}), "<disk><driver cache='none' queues='5'/></disk>");
  parsed->disk.driver.queues.reset();
  parsed->disk.driver.cache.reset();
  parsed->disk.driver.extra.forget("cache");
  EXPECT_EQ(emit(parsed->disk, {.width = 0}), "<disk><driver/></disk>");
  parsed->disk.driver.extra.clear();
  EXPECT_EQ(emit(parsed->disk, {.width = 0}), "<disk/>");
}

TEST(Emit, UnknownContentStaysNearWhatIsLeftOfItsNeighbours) {
  auto parsed = parse("<disk><source><host name='a'/><!--1--><host name='b'/><!--2--></source></disk>");
  ASSERT_TRUE(parsed);
  parsed->disk.source.hosts.pop_back();
  EXPECT_EQ(emit(parsed->disk, {.width = 0}), "<disk><source><host name='a'/><!--1--><!--2--></source></disk>");
  parsed->disk.source.hosts.clear();
  EXPECT_EQ(emit(parsed->disk, {.width = 0}), "<disk><source><!--1--><!--2--></source></disk>");
}

}  // namespace
}  // namespace aiolos::disk
