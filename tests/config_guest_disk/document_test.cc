// SPDX-License-Identifier: Apache-2.0
// Finding disks in whole documents: domains, snapshots, backups.
#include <gtest/gtest.h>

#include "aiolos/disk/disk_xml.h"

namespace aiolos::disk {
namespace {

TEST(Document, ALoneDiskIsADomainsDisk) {
  const auto found = parse_document("<disk type='file'/>");
  ASSERT_TRUE(found);
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ((*found)[0].path, "disk");
  EXPECT_TRUE((*found)[0].is_domain_disk);
}

TEST(Document, FindsEveryDiskInOrder) {
  const auto found = parse_document(
      "<domainsnapshot>\n<disks>\n<disk name='vda' snapshot='external'/>\n</disks>\n<domain>\n<devices>\n"
      "<disk type='file'><metadata><disk/></metadata></disk>\n<disk type='block'/>\n</devices>\n</domain>\n"
      "</domainsnapshot>");
  ASSERT_TRUE(found);
  ASSERT_EQ(found->size(), 3U);
  EXPECT_EQ((*found)[0].path, "domainsnapshot/disks/disk");
  EXPECT_EQ((*found)[0].line, 3U);
  EXPECT_FALSE((*found)[0].is_domain_disk);
  EXPECT_EQ((*found)[1].path, "domainsnapshot/domain/devices/disk");
  EXPECT_TRUE((*found)[1].is_domain_disk);
  EXPECT_EQ((*found)[2].parsed.disk.type, SourceType::block);
}

TEST(Document, SaysWhenThereIsNone) {
  const auto found = parse_document("<domain><devices><?disk no?><interface/></devices></domain>");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(found.error().message, "there is no <disk> below <domain>");
  EXPECT_EQ(found.error().where, "1:1");
}

TEST(Document, ADiskTakesTheNameSpacesItUsesAlong) {
  const auto found = parse_document(
      "<domain xmlns:a='urn:a' xmlns:b='urn:b' xmlns:c='urn:c'><devices>"
      "<disk><a:x/><y b:z='1'/></disk><disk xmlns:a='urn:own'><a:x/></disk><disk type='file'/></devices></domain>");
  ASSERT_TRUE(found);
  EXPECT_EQ(emit((*found)[0].parsed.disk, {.width = 0}),
            "<disk xmlns:a='urn:a' xmlns:b='urn:b'><a:x/><y b:z='1'/></disk>");
  EXPECT_EQ(emit((*found)[1].parsed.disk, {.width = 0}), "<disk xmlns:a='urn:own'><a:x/></disk>");
  EXPECT_EQ(emit((*found)[2].parsed.disk, {.width = 0}), "<disk type='file'/>");
}

TEST(Document, ADiskTakesTheDefaultNameSpaceAlong) {
  const auto found = parse_document(
      "<domain xmlns='urn:a'><devices><disk/><disk xmlns=''/></devices><disks xmlns=''><disk/></disks></domain>");
  ASSERT_TRUE(found);
  EXPECT_EQ(emit((*found)[0].parsed.disk, {.width = 0}), "<disk xmlns='urn:a'/>");
  EXPECT_EQ(emit((*found)[1].parsed.disk, {.width = 0}), "<disk xmlns=''/>");
  EXPECT_EQ(emit((*found)[2].parsed.disk, {.width = 0}), "<disk/>");
}

TEST(Document, OneBrokenDiskFailsItWithItsPlace) {
  const auto found = parse_document("<domain>\n<disk/>\n<disk type='file' type='block'/>\n</domain>");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().where, "3:19");
}

}  // namespace
}  // namespace aiolos::disk
