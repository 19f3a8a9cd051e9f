// SPDX-License-Identifier: Apache-2.0
// A guest that is still on another host, as the hypervisor of this one: its XML in memory, to which disks are attached
// by the ordinary flow before it comes.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "aiolos/agent/agent.h"
#include "aiolos/agent/migrate.h"
#include "guest_disks.h"

namespace aiolos {

/// The disk as the destination decided it, with all that the guest sees of it as it was: libvirt and QEMU refuse a
/// device whose state would not fit. @return ErrorKind::refused if they are different devices.
Result<disk::DiskConfig> keep_front_end(const disk::DiskConfig& before, disk::DiskConfig decided);

/// For one thread. Everything that is not about this guest is asked of the real one.
class IncomingDomain final : public Hypervisor {
 public:
  /// @param real borrowed. @param disks of the guest's XML, read. The volumes' disks are not attached yet.
  IncomingDomain(Hypervisor& real, const MovingGuest& guest, GuestDisks disks);

  Result<HostFacts> facts() override { return real_.facts(); }
  Result<DomainState> find_domain(const std::string& domain) override;
  Result<std::string> domain_xml(const std::string& domain) override;
  Result<std::optional<int>> domain_pid(const std::string& domain) override;
  tl::expected<void, AttachFailure> attach_disk(const std::string& domain, const std::string& disk_xml) override;
  Result<void> release_leftovers(const std::string& domain, const std::string& disk_xml) override;
  Result<void> detach_disk(const std::string& domain, const std::string& disk_xml, const std::string& target,
                           std::chrono::milliseconds timeout) override;
  Result<void> resize_disk(const std::string& domain, const std::string& target, std::uint64_t bytes) override;
  Result<void> set_iotune(const std::string& domain, const std::string& target,
                          const std::map<std::string, std::uint64_t>& limits, const std::string& group) override;
  Result<std::vector<DomainState>> running_domains() override { return real_.running_domains(); }
  Result<DomainEngines> domain_engines(const std::string& domain, bool ask_qemu) override;
  Result<void> add_iothread(const std::string& domain, unsigned id) override;
  Result<void> set_engine(const std::string& domain, unsigned engine, EngineProperty property,
                          std::uint64_t value) override;
  Result<std::string> native_arguments(const std::string& domain_xml) override {
    return real_.native_arguments(domain_xml);
  }

  /// The disk at that target as it was attached here; empty if it is not.
  const std::string& attached(const std::string& target) const { return disks_.at(target); }

 private:
  bool is_guest(const std::string& domain) const { return domain == name_ || domain == uuid_; }
  Result<void> set_of_running(const std::string& domain) const;

  Hypervisor& real_;
  const std::string name_;
  const std::string uuid_;
  const std::string xml_;
  const GuestDisks before_;
  std::map<std::string, std::string> disks_;  ///< XML of the volumes' disks by target; empty: not attached yet.
};

/// This machine with that guest.
class IncomingMachine final : public Machine {
 public:
  /// Both borrowed.
  IncomingMachine(Machine& real, Hypervisor& hypervisor) : real_(real), hypervisor_(hypervisor) {}

  Clock& clock() override { return real_.clock(); }
  CommandRunner& commands() override { return real_.commands(); }
  BlockDevices& block_devices() override { return real_.block_devices(); }
  MountTable& mounts() override { return real_.mounts(); }
  HostProbe& host_probe() override { return real_.host_probe(); }
  Hypervisor& hypervisor() override { return hypervisor_; }
  SecretStore& secrets() override { return real_.secrets(); }
  DataPlane& data_plane() override { return real_.data_plane(); }
  Migrations& migrations() override { return real_.migrations(); }
  DiskStatistics& disk_statistics() override { return real_.disk_statistics(); }
  GuestAgent& guest_agent() override { return real_.guest_agent(); }

 private:
  Machine& real_;
  Hypervisor& hypervisor_;
};

}  // namespace aiolos
