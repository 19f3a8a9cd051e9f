// SPDX-License-Identifier: Apache-2.0
// Waits for a guest to release a disk: libvirt's device-removed event, with the live XML as the last word.
#pragma once

#include <chrono>
#include <string>

#include "libvirt_connection.h"

namespace aiolos {

/// Takes the disk at `target` away from a running domain. Success if it is not there (any more), or if the guest ended.
///
/// A guest releases a disk when its operating system answers the request; one that boots, hangs or has none does not.
/// The request is therefore made again every `again`, as Nova does, until `timeout`.
/// @return ErrorKind::retry if it still has the disk then (the last request stays pending in QEMU: the disk may go
/// later). Takes up to `timeout` plus the 5 s that libvirt waits within a request.
Result<void> remove_live_disk(const LibvirtConnection::Open& libvirt, virDomainPtr domain, const std::string& disk_xml,
                              const std::string& target, std::chrono::milliseconds timeout,
                              std::chrono::milliseconds again);

/// The domain's XML; `flags` VIR_DOMAIN_XML_*. @param name for the error.
Result<std::string> xml_of(const LibvirtApi& api, virDomainPtr domain, unsigned flags);

}  // namespace aiolos
