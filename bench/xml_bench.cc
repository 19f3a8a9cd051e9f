// SPDX-License-Identifier: Apache-2.0
// From connection_info to XML, and disks through the model.
#include <benchmark/benchmark.h>

#include "aiolos/agent/agent.h"
#include "aiolos/disk/disk_xml.h"

namespace aiolos {
namespace {

// A volume as Cinder's LVM/LIO driver describes it, connected.
constexpr std::string_view kIscsi = R"({"driver_volume_type": "iscsi",
 "serial": "5a1d6d1c-2b6e-4b4c-9a5a-6a1f4b6f1a4e", "multiattach": false,
 "data": {"target_discovered": false, "target_portal": "192.168.122.10:3260",
  "target_iqn": "iqn.2010-10.org.openstack:volume-5a1d6d1c-2b6e-4b4c-9a5a-6a1f4b6f1a4e", "target_lun": 1,
  "volume_id": "5a1d6d1c-2b6e-4b4c-9a5a-6a1f4b6f1a4e", "auth_method": "CHAP", "auth_username": "user",
  "auth_password": "secret", "qos_specs": null, "access_mode": "rw", "encrypted": false, "discard": true,
  "device_path": "/dev/disk/by-id/dm-uuid-mpath-360000000000000000e00000000010001"}})";
constexpr std::string_view kDiskInfo = R"({"bus": "virtio", "dev": "vdb", "type": "disk"})";

// A disk as libvirt shows it for a running guest.
constexpr std::string_view kLiveDisk = R"(<disk type='block' device='disk'>
  <driver name='qemu' type='raw' cache='none' io='native' discard='unmap' iothread='1' queues='4'/>
  <source dev='/dev/disk/by-id/dm-uuid-mpath-360000000000000000e00000000010001' index='2'/>
  <backingStore/>
  <target dev='vdb' bus='virtio'/>
  <iotune>
    <read_bytes_sec>104857600</read_bytes_sec>
    <write_bytes_sec>104857600</write_bytes_sec>
    <read_iops_sec>1000</read_iops_sec>
    <write_iops_sec>1000</write_iops_sec>
  </iotune>
  <serial>5a1d6d1c-2b6e-4b4c-9a5a-6a1f4b6f1a4e</serial>
  <alias name='virtio-disk1'/>
  <address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/>
</disk>
)";

std::unique_ptr<Agent> open_agent(AioProfile profile) {
  Agent::Options options;
  options.config.plugins.path = {BENCH_PLUGINS};
  options.config.aio.profile = profile;
  auto agent = Agent::open(std::move(options));
  return agent ? std::move(*agent) : nullptr;
}

/// The C++ API: documents that the caller holds as values.
void connection_info_to_xml(benchmark::State& state, AioProfile profile) {
  const auto agent = open_agent(profile);
  if (!agent) return state.SkipWithError("the plugins cannot be loaded");
  const Json connection_info = *parse_json(kIscsi, "connection_info");
  const Json disk_info = *parse_json(kDiskInfo, "disk_info");
  for (auto _ : state) {
    auto xml = agent->disk_xml(connection_info, disk_info);
    if (!xml) return state.SkipWithError(xml.error().message.c_str());
    benchmark::DoNotOptimize(*xml);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(connection_info_to_xml, auto, AioProfile::automatic);
BENCHMARK_CAPTURE(connection_info_to_xml, nova, AioProfile::nova);

/// The same from text, as batches have it.
void connection_info_text_to_xml(benchmark::State& state) {
  const auto agent = open_agent(AioProfile::automatic);
  if (!agent) return state.SkipWithError("the plugins cannot be loaded");
  const auto batch = agent->disk_xml_batch();
  JsonDocument connection_info, disk_info;
  std::string xml;
  for (auto _ : state) {
    xml.clear();
    const auto connection = connection_info.parse(kIscsi, "connection_info");
    const auto disk = disk_info.parse(kDiskInfo, "disk_info");
    if (!connection || !disk || !batch->append_json(**connection, **disk, xml)) return state.SkipWithError("refused");
    benchmark::DoNotOptimize(xml);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(connection_info_text_to_xml);

void parse_and_emit(benchmark::State& state) {
  std::string out;
  for (auto _ : state) {
    const auto parsed = disk::parse(kLiveDisk);
    out.clear();
    disk::emit_to(out, parsed->disk);
    benchmark::DoNotOptimize(out);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kLiveDisk.size()));
}
BENCHMARK(parse_and_emit);

}  // namespace
}  // namespace aiolos
