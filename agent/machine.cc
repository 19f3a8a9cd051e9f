// SPDX-License-Identifier: Apache-2.0
// The real machine: host/'s implementations put together.
#include <memory>

#include "aiolos/agent/agent.h"
#include "aiolos/host/block_devices.h"
#include "aiolos/host/clock.h"
#include "aiolos/host/command_runner.h"
#include "aiolos/host/data_plane.h"
#include "aiolos/host/disk_statistics.h"
#include "aiolos/host/guest_agent.h"
#include "aiolos/host/host_probe.h"
#include "aiolos/host/hypervisor.h"
#include "aiolos/host/migrations.h"
#include "aiolos/host/mount_table.h"
#include "defaults.h"

namespace aiolos {
namespace {

LibvirtOptions libvirt_options(const Config& config) {
  LibvirtOptions options;
  options.uri = hypervisor_uri(config);
  // Each command on an embedded root is done in a second or so; who waits longer than this waits for something stuck.
  options.lock_timeout = std::chrono::seconds(30);
  options.virt_type = config.libvirt.virt_type == VirtType::kvm ? "kvm" : "qemu";
  return options;
}

class RealMachine : public Machine {
 public:
  explicit RealMachine(const Config& config)
      : connection_(make_libvirt_connection(libvirt_options(config))),
        clock_(make_clock()),
        commands_(make_command_runner()),
        mounts_(make_mount_table()),
        block_devices_(make_block_devices(*commands_, *mounts_)),
        host_probe_(make_host_probe()),
        hypervisor_(make_hypervisor(connection_)),
        secrets_(make_secret_store(connection_)),
        data_plane_(make_data_plane(config.data_plane.admin)),
        migrations_(make_migrations(connection_)),
        disk_statistics_(make_disk_statistics(connection_)),
        guest_agent_(make_guest_agent(connection_)) {}

  Clock& clock() override { return *clock_; }
  CommandRunner& commands() override { return *commands_; }
  BlockDevices& block_devices() override { return *block_devices_; }
  MountTable& mounts() override { return *mounts_; }
  HostProbe& host_probe() override { return *host_probe_; }
  Hypervisor& hypervisor() override { return *hypervisor_; }
  SecretStore& secrets() override { return *secrets_; }
  DataPlane& data_plane() override { return *data_plane_; }
  Migrations& migrations() override { return *migrations_; }
  DiskStatistics& disk_statistics() override { return *disk_statistics_; }
  GuestAgent& guest_agent() override { return *guest_agent_; }

 private:
  std::shared_ptr<LibvirtConnection> connection_;
  std::unique_ptr<Clock> clock_;
  std::unique_ptr<CommandRunner> commands_;
  std::unique_ptr<MountTable> mounts_;
  std::unique_ptr<BlockDevices> block_devices_;
  std::unique_ptr<HostProbe> host_probe_;
  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<SecretStore> secrets_;
  std::unique_ptr<DataPlane> data_plane_;
  std::unique_ptr<Migrations> migrations_;
  std::unique_ptr<DiskStatistics> disk_statistics_;
  std::unique_ptr<GuestAgent> guest_agent_;
};

}  // namespace

std::unique_ptr<Machine> real_machine(const Config& config) { return std::make_unique<RealMachine>(config); }

}  // namespace aiolos
