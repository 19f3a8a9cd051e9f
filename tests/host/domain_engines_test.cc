// SPDX-License-Identifier: Apache-2.0
// Engines and controllers as libvirt's XML and QEMU's answers have them.
#include "domain_engines.h"

#include <gtest/gtest.h>

namespace aiolos {
namespace {

TEST(EnginesOf, ReadsADomain) {
  const DomainEngines found = engines_of(R"(<domain>
  <vcpu placement='static' current='2'>4</vcpu><iothreads>3</iothreads>
  <iothreadids><iothread id='2' thread_pool_min='8' thread_pool_max='200'/><iothread id='5'><poll max='123'/></iothread>
  </iothreadids>
  <defaultiothread thread_pool_max='96'/>
  <devices><controller type='usb' index='0'/>
  <controller type='scsi' index='0' model='virtio-scsi'><driver queues='4' iothread='5' cmd_per_lun='32'/></controller>
  <controller type='scsi' index='1' model='lsilogic'/></devices></domain>)");
  EXPECT_EQ(found.vcpus, 4U);
  ASSERT_EQ(found.engines.size(), 4U) << "the main loop, two that are named, and the third that is only counted";
  EXPECT_EQ(found.engines[0].id, kMainLoop);
  EXPECT_EQ(found.engines[0].pool_max, 96U);
  EXPECT_EQ(found.engines[1].id, 2U);
  EXPECT_EQ(found.engines[1].pool_min, 8U);
  EXPECT_EQ(found.engines[1].pool_max, 200U);
  EXPECT_EQ(found.engines[2].poll_max_ns, 123U);
  EXPECT_EQ(found.engines[3].id, 1U);
  ASSERT_EQ(found.controllers.size(), 2U);
  EXPECT_TRUE(found.controllers[0].virtio_scsi);
  EXPECT_EQ(found.controllers[0].iothread, 5U);
  EXPECT_EQ(found.controllers[0].queues, 4U);
  EXPECT_EQ(found.controllers[0].cmd_per_lun, 32U);
  EXPECT_EQ(found.controllers[0].max_sectors, std::nullopt);
  EXPECT_FALSE(found.controllers[1].virtio_scsi);
}

TEST(EnginesOf, SaysWhetherTheMemoryIsShared) {
  const auto shared = [](const std::string& inside) {
    return engines_of("<domain>" + inside + "</domain>").shared_memory;
  };
  const auto cells = [](const std::string& all) { return "<cpu><numa>" + all + "</numa></cpu>"; };
  EXPECT_TRUE(shared("<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"));
  EXPECT_FALSE(shared("<memoryBacking><source type='memfd'/><access mode='private'/></memoryBacking>"));
  EXPECT_TRUE(shared(cells("<cell id='0' memAccess='shared'/><cell id='1' memAccess='shared'/>")));
  EXPECT_FALSE(shared(cells("<cell id='0' memAccess='shared'/><cell id='1'/>"))) << "a part of it is enough to refuse";
  EXPECT_FALSE(shared(""));
}

TEST(EnginesOf, AGuestWithoutAnythingHasItsMainLoop) {
  for (const char* xml : {"", "<domain/>", "<domain><vcpu>no number</vcpu></domain>", "no XML"}) {
    const DomainEngines found = engines_of(xml);
    ASSERT_EQ(found.engines.size(), 1U) << xml;
    EXPECT_EQ(found.engines[0].id, kMainLoop);
    EXPECT_EQ(found.vcpus, 1U);
  }
}

TEST(PutIothread, FindsItsEngineByQemusName) {
  DomainEngines engines = engines_of("<domain><iothreads>2</iothreads></domain>");
  EXPECT_TRUE(put_iothread({{"id", "iothread2"}, {"poll-max-ns", 0}, {"aio-max-batch", 16}}, engines));
  EXPECT_EQ(engines.engines[2].poll_max_ns, 0U);
  EXPECT_FALSE(put_iothread({{"id", "iothread7"}, {"poll-max-ns", 0}}, engines));
  EXPECT_FALSE(put_iothread({{"id", "objects"}}, engines));
}

}  // namespace
}  // namespace aiolos
