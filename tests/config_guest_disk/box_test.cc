// SPDX-License-Identifier: Apache-2.0
// Box and Extra: value semantics, and what a disk costs that uses none.
#include "aiolos/disk/box.h"

#include <gtest/gtest.h>

#include "aiolos/disk/disk_config.h"

namespace aiolos::disk {
namespace {

TEST(Box, IsEmptyUntilSetAndCostsOnePointer) {
  Box<IoTune> box;
  EXPECT_FALSE(box);
  EXPECT_EQ(sizeof(box), sizeof(void*));
  box.ensure().read_iops_sec = 5;
  EXPECT_TRUE(box.has_value());
  EXPECT_EQ(box->read_iops_sec, 5U);
  EXPECT_EQ(&box.ensure(), &*box);
  box.reset();
  EXPECT_FALSE(box);
}

TEST(Box, CopiesDeeply) {
  Box<IoTune> box = IoTune{.read_iops_sec = 5};
  Box<IoTune> copy = box;
  copy->read_iops_sec = 6;
  EXPECT_EQ(box->read_iops_sec, 5U);
  copy = box;
  EXPECT_EQ(copy->read_iops_sec, 5U);
  copy = Box<IoTune>();
  EXPECT_FALSE(copy);
  const Box<IoTune>& itself = box;
  box = itself;
  EXPECT_EQ(box->read_iops_sec, 5U);
}

TEST(Box, HoldsItsOwnKind) {
  DiskConfig disk;
  disk.backing_store = BackingStore{.type = SourceType::file};
  disk.backing_store->backing_store = BackingStore{};
  const DiskConfig copy = disk;
  disk.backing_store->backing_store.reset();
  EXPECT_TRUE(copy.backing_store->backing_store);
}

TEST(Extra, ForgetsByName) {
  Extra extra;
  EXPECT_FALSE(extra.present());
  EXPECT_TRUE(extra.items().empty());
  extra.add({ExtraItem::Kind::attribute, ExtraItem::kAtStart, 0, "colour", "red"});
  extra.add({ExtraItem::Kind::element, ExtraItem::kAtStart, 0, "paper", "<paper/>"});
  extra.forget("colour");
  ASSERT_EQ(extra.items().size(), 1U);
  EXPECT_EQ(extra.items()[0].name, "paper");
  extra.clear();
  EXPECT_FALSE(extra.present());
}

TEST(DiskConfig, StaysSmall) { EXPECT_LE(sizeof(DiskConfig), 1536U) << "put rare elements in a Box"; }

}  // namespace
}  // namespace aiolos::disk
