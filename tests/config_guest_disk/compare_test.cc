// SPDX-License-Identifier: Apache-2.0
// Comparison names each property that differs, and only those.
#include <gtest/gtest.h>

#include "aiolos/disk/disk_xml.h"

namespace aiolos::disk {
namespace {

std::string differences(const std::string& left, const std::string& right) {
  const auto l = parse(left);
  const auto r = parse(right);
  EXPECT_TRUE(l && r);
  std::string out;
  for (const Difference& difference : compare(l->disk, r->disk)) out += describe(difference) + '\n';
  return out;
}

TEST(Compare, FindsNothingWhereOnlyTheSpellingDiffers) {
  EXPECT_EQ(differences("<disk type='file' device='disk'><driver name='qemu' queues='4'/><source file='/a'/>"
                        "<address type='pci' bus='0x03'/></disk>",
                        "<disk device=\"disk\" type=\"file\"><!-- c --><address bus='3' type='pci'/>\n"
                        "<source file='/a'></source><driver queues='04' name='qemu'/></disk>"),
            "");
}

TEST(Compare, NamesThePropertyAndBothValues) {
  EXPECT_EQ(
      differences("<disk><driver cache='none' io='native'/><source><host name='a'/><host name='b'/></source></disk>",
                  "<disk><driver cache='writeback'/><source><host name='a'/><host name='c' port='1'/></source>"
                  "<readonly/></disk>"),
      "disk/driver/@cache: 'none' and 'writeback'\n"
      "disk/driver/@io: 'native' and (not set)\n"
      "disk/source/host[2]/@name: 'b' and 'c'\n"
      "disk/source/host[2]/@port: (not set) and '1'\n"
      "disk/readonly: (not set) and ''\n");
}

TEST(Compare, TellsAnEmptyElementFromNone) {
  EXPECT_EQ(differences("<disk><backingStore/></disk>", "<disk/>"), "disk/backingStore: '' and (not set)\n");
  EXPECT_EQ(differences("<disk><source/></disk>", "<disk/>"), "disk/source: '' and (not set)\n");
  EXPECT_EQ(differences("<disk><source file=''/></disk>", "<disk/>"), "disk/source/@file: '' and (not set)\n");
  EXPECT_EQ(differences("<disk/>", "<disk><iotune><read_iops_sec>0</read_iops_sec></iotune></disk>"),
            "disk/iotune/read_iops_sec: (not set) and '0'\n");
}

TEST(Compare, MindsWhatTheModelDoesNotKnow) {
  EXPECT_EQ(differences("<disk a='1' b='2'><driver cache='odd'/><x/><y/></disk>",
                        "<disk b='2' a='3'><driver cache='even'/><y/><z/></disk>"),
            "disk/driver/@cache: 'odd' and 'even'\n"
            "disk/@a: '1' and (not set)\n"
            "disk/x: '<x/>' and (not set)\n"
            "disk/@a: (not set) and '3'\n"
            "disk/z: (not set) and '<z/>'\n");
  EXPECT_EQ(differences("<disk><target dev='a'>x</target></disk>", "<disk><target dev='a'/></disk>"),
            "disk/target: 'x' and (not set)\n");
}

}  // namespace
}  // namespace aiolos::disk
