// SPDX-License-Identifier: Apache-2.0
// QEMU's own words about a running guest, asked through libvirt.
#pragma once

#include <string>

#include "aiolos/core/json.h"
#include "libvirt_connection.h"

namespace aiolos {

/// QMP of one domain. libvirt marks a domain that was asked so as tainted ("custom-monitor" in its log and in
/// `virsh dominfo`), so ask only what the XML can't tell. libvirt runs each command between the domain's other jobs,
/// never in the middle of an attach or detach; it waits at most 30 s for its turn.
class QemuMonitor {
 public:
  /// Loads libvirt-qemu.so.0, which every package of libvirt has beside libvirt.so.0.
  /// @param domain must outlive this. @return ErrorKind::configuration if it can't be loaded.
  static Result<QemuMonitor> open(const LibvirtApi& api, virDomainPtr domain);

  /// One QMP command. @return what QEMU returned; ErrorKind::hypervisor with its words if it refused, otherwise
  /// libvirt's error (another hypervisor than QEMU, connection lost, domain not running or busy).
  Result<Json> run(const std::string& command, const Json& arguments = Json::object()) const;

 private:
  using Function = int (*)(virDomainPtr, const char*, char**, unsigned);
  QemuMonitor(const LibvirtApi& api, virDomainPtr domain, Function function);

  const LibvirtApi* api_;
  virDomainPtr domain_;
  Function function_;
  std::string name_;
};

}  // namespace aiolos
