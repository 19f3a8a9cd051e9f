// SPDX-License-Identifier: Apache-2.0
// A guest's AIO engines: what its XML and QEMU say of them, and setting them while it runs.
#pragma once

#include <cstdint>
#include <string>

#include "aiolos/core/json.h"
#include "aiolos/core/queue_plan.h"
#include "aiolos/host/domain_document.h"
#include "libvirt_connection.h"

namespace aiolos {

/// Puts QEMU's own numbers of an iothread in place. @param iothread an element of what query-iothreads returns. Pure;
/// false if it is none of `engines`.
bool put_iothread(const Json& iothread, DomainEngines& engines);

// As Hypervisor has them, for a domain that was looked up.
Result<DomainEngines> read_domain_engines(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool ask_qemu);
Result<void> add_domain_iothread(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool persistent,
                                 unsigned id);
Result<void> set_domain_engine(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool persistent,
                               unsigned engine, EngineProperty property, std::uint64_t value);

}  // namespace aiolos
