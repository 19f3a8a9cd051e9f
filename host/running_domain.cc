// SPDX-License-Identifier: Apache-2.0
#include "running_domain.h"

#include <fmt/format.h>

#include "libvirt_error.h"

namespace aiolos {

Result<RunningDomain> find_running(LibvirtConnection& connection, const std::string& uuid) {
  const Result<LibvirtConnection::Open> libvirt = connection.open();
  if (!libvirt) return tl::unexpected(libvirt.error());
  virDomainPtr found = libvirt->api->virDomainLookupByUUIDString(libvirt->connection, uuid.c_str());
  if (found == nullptr)
    return tl::unexpected(last_libvirt_error(*libvirt->api, fmt::format("look up guest '{}'", uuid)));
  return RunningDomain{*libvirt, DomainHandle(found, DomainRelease{libvirt->api})};
}

}  // namespace aiolos
