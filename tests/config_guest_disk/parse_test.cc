// SPDX-License-Identifier: Apache-2.0
// Parsing: positions, what is kept and how it is reported, and the values that code sees.
#include <gtest/gtest.h>

#include "aiolos/disk/disk_xml.h"
#include "xml_text.h"

namespace aiolos::disk {
namespace {

DiskConfig disk_of(const std::string& xml) {
  auto parsed = parse(xml);
  EXPECT_TRUE(parsed) << (parsed ? "" : describe(parsed.error()));
  return parsed ? parsed->disk : DiskConfig{};
}

TEST(Parse, ReadsValuesAndLeavesTheRestUnset) {
  const DiskConfig disk = disk_of(
      "<disk type='network' device='disk'><driver name='qemu' cache='none' io='io_uring' ioeventfd='off'/>"
      "<source protocol='rbd' name='p/i'><host name='h' port='0'/><auth username='u'>"
      "<secret type='ceph' uuid='x'/></auth></source><target dev='vda' bus='virtio'/><shareable/></disk>");
  EXPECT_EQ(disk.type, SourceType::network);
  EXPECT_EQ(disk.driver.cache, CacheMode::none);
  EXPECT_EQ(disk.driver.io, AioMode::io_uring);
  EXPECT_EQ(disk.driver.ioeventfd, false);
  EXPECT_EQ(disk.driver.event_idx, std::nullopt);
  EXPECT_EQ(disk.source.protocol, Protocol::rbd);
  ASSERT_EQ(disk.source.hosts.size(), 1U);
  EXPECT_EQ(disk.source.hosts[0].port, 0U);
  ASSERT_TRUE(disk.source.auth);
  EXPECT_EQ(disk.source.auth->secret.type, SecretType::ceph);
  EXPECT_TRUE(disk.shareable);
  EXPECT_FALSE(disk.readonly);
  EXPECT_FALSE(disk.iotune);
}

TEST(Parse, ReportsTheUnknownWithItsPlace) {
  const auto parsed = parse(
      "<disk>\n"
      "  <driver cache='warm' shade='dark'/>\n"
      "  <source>\n"
      "    <host name='a'/><host name='b' colour='red'/>\n"
      "    <glue/>text</source>\n"
      "  <serial kind='x'>1</serial>\n"
      "  <serial>2</serial>\n"
      "</disk>\n");
  ASSERT_TRUE(parsed);
  std::string said;
  for (const Unknown& unknown : parsed->unknown) said += describe(unknown) + '\n';
  EXPECT_EQ(said,
            "2:11: unknown value of disk/driver/@cache='warm'\n"
            "2:24: unknown attribute disk/driver/@shade='dark'\n"
            "4:36: unknown attribute disk/source/host[2]/@colour='red'\n"
            "5:6: unknown element disk/source/glue\n"
            "5:12: text in disk/source='text'\n"
            "6:11: unknown attribute disk/serial/@kind='x'\n"
            "7:4: repeated element disk/serial\n");
  EXPECT_EQ(parsed->disk.serial, "1");
  EXPECT_EQ(parsed->disk.driver.cache, std::nullopt);
}

TEST(Parse, AcceptsAByteOrderMarkAndADeclaration) {
  EXPECT_EQ(disk_of("\xEF\xBB\xBF<?xml version='1.0' encoding='utf-8'?>\n<disk type='file'/>").type, SourceType::file);
  EXPECT_EQ(disk_of("<!DOCTYPE disk [<!ELEMENT disk ANY>]><disk type='file'/><!-- end -->\n").type, SourceType::file);
}

TEST(Parse, ReadsBehindADocumentTypeOfAnyForm) {
  EXPECT_EQ(disk_of("<!DOCTYPE disk SYSTEM 'a>b'><disk type='file'/>").type, SourceType::file);
  EXPECT_EQ(disk_of("<!DOCTYPE disk [<!ENTITY a ']>'><!-- it's ]> --><?p ]>?>] ><disk type='file'/>").type,
            SourceType::file);
}

TEST(Parse, RefusesReferencesItCannotRead) {
  for (const std::string_view text : {"&amp;&lt;&gt;&quot;&apos;", "&#9;&#x20;&#00065;&#x1F600;", "<![CDATA[& &a;]]>"})
    EXPECT_TRUE(parse("<disk><serial>" + std::string(text) + "</serial><!-- & --><?p &?></disk>")) << text;
  for (const std::string_view text : {"a & b", "&", "&nbsp;", "&#0;", "&#1;", "&#xD800;", "&#x110000;",
                                      "&#99999999999;", "&#;", "&#x;", "&#-1;", "&#65", "&amp"}) {
    for (const std::string& xml : {"<disk><serial>" + std::string(text) + "</serial></disk>",
                                   "<disk><unread>" + std::string(text) + "</unread></disk>"}) {
      const auto parsed = parse(xml);
      ASSERT_FALSE(parsed) << xml;
      EXPECT_EQ(parsed.error().where, "1:" + std::to_string(xml.find('&') + 1)) << xml;
    }
  }
  EXPECT_FALSE(parse("<!DOCTYPE disk [<!ENTITY a 'b&c;'>]><disk><serial>&a;</serial></disk>"));
}

TEST(Parse, SaysWhereXmlIsBroken) {
  const auto parsed = parse("<disk>\n  <source file='/a'>\n</disk>");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(parsed.error().where.substr(0, 2), "3:");
  EXPECT_FALSE(parsed.error().next.empty());
}

TEST(Parse, ReadsADeepBackingChainAndStopsWhereLibvirtDoes) {
  const auto chain = [](int links) {
    std::string xml = "<disk>";
    for (int i = 0; i < links; ++i) xml += "<backingStore>";
    for (int i = 0; i < links; ++i) xml += "</backingStore>";
    return xml + "</disk>";
  };
  EXPECT_TRUE(parse(chain(255)));
  EXPECT_FALSE(parse(chain(256)));
  EXPECT_FALSE(parse(chain(100000)));
}

TEST(XmlText, FindsTheEndOfMarkup) {
  const auto slice = [](std::string_view xml) { return std::string(xml.substr(0, end_of_markup(xml, 0))); };
  EXPECT_EQ(slice("<a/><b/>"), "<a/>");
  EXPECT_EQ(slice("<a b='/>'><c/>></a><d/>"), "<a b='/>'><c/>></a>");
  EXPECT_EQ(slice("<a><!-- </a> --><![CDATA[</a>]]><?p </a>?></a >x"),
            "<a><!-- </a> --><![CDATA[</a>]]><?p </a>?></a >");
  EXPECT_EQ(slice("<!-- > -->x"), "<!-- > -->");
  EXPECT_EQ(slice("<a b='"), "<a b='");
}

TEST(XmlText, KnowsWhatIsNoCharacter) {
  EXPECT_EQ(find_bad_character("plain \t\r\n é € 😀"), std::nullopt);
  for (const std::string_view bad :
       {"\x01", "\x80", "\xC0\x80", "\xED\xA0\x80", "\xE2\x82", "\xF5\x80\x80\x80", "\xF4\x90\x80\x80", "\xE0\x80\x80"})
    EXPECT_EQ(find_bad_character("ok" + std::string(bad)), 2U);
}

}  // namespace
}  // namespace aiolos::disk
