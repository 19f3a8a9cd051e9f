// SPDX-License-Identifier: Apache-2.0
// Attaching a disk, and what is left when that failed.
#pragma once

#include <chrono>
#include <string>

#include "domain_xml.h"
#include "libvirt_connection.h"

namespace aiolos {

/// Where a guest has a disk at some target now.
struct Presence {
  bool live = false;
  bool persistent = false;
};

/// @param persistent whether the domain has a persistent definition. An XML that can't be read is an error, not
/// absence.
Result<Presence> presence(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool persistent,
                          const std::string& target);

/// A failed request.
struct AttachRefusal {
  Error error;
  int code = 0;  ///< VIR_ERR_*
};

/// One request to libvirt, live and, with `persistent`, in the definition too. Signals wait until it is answered.
tl::expected<void, AttachRefusal> request_attach(const LibvirtConnection::Open& libvirt, virDomainPtr domain,
                                                 bool persistent, const std::string& disk_xml,
                                                 const DiskIdentity& wanted);

/// What a failed attach left.
struct Aftermath {
  bool gone = false;   ///< As AttachFailure::gone.
  bool again = false;  ///< QEMU has leftovers of earlier attempts, or had: another request may do better.
};

/// Takes back what a failed request left, and looks whether that was all.
/// @param libvirt,domain looked up after the request: its own connection may be lost. @param code of the refusal.
/// @param error gets said what could not be taken back, and what to do about it.
Aftermath settle_failed_attach(const LibvirtConnection::Open& libvirt, virDomainPtr domain, bool persistent,
                               const std::string& disk_xml, int code, std::chrono::milliseconds detach_again,
                               Error& error);

/// Takes the disk at `target` out of the persistent definition. Success if it is not there.
Result<void> remove_persistent_disk(const LibvirtConnection::Open& libvirt, virDomainPtr domain,
                                    const std::string& disk_xml, const std::string& target);

}  // namespace aiolos
