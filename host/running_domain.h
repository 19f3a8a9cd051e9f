// SPDX-License-Identifier: Apache-2.0
// A domain with the connection that it came from.
#pragma once

#include <string>

#include "libvirt_connection.h"

namespace aiolos {

struct RunningDomain {
  LibvirtConnection::Open libvirt;
  DomainHandle handle;

  const LibvirtApi& api() const { return *libvirt.api; }
};

/// @param uuid its UUID. @return ErrorKind::bad_input if this libvirt has no such domain.
Result<RunningDomain> find_running(LibvirtConnection& connection, const std::string& uuid);

}  // namespace aiolos
