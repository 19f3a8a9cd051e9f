// SPDX-License-Identifier: Apache-2.0
// libvirt behind core's interfaces. libvirt.so.0 is loaded when the first call needs it, not at process start: linked
// the usual way, it and its 50 libraries cost every command 8.5 ms, of the 20 ms that `aiolos disk-xml` may take.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "aiolos/core/interfaces.h"

namespace aiolos {

struct LibvirtOptions {
  std::string uri;                 ///< "qemu:///embed?root=/var/lib/aiolos/libvirt", "qemu:///system", ...
  std::string virt_type = "qemu";  ///< Domain type for questions about QEMU itself: "qemu" or "kvm".
  /// How long to wait for another process that uses the same embedded root; then ErrorKind::retry.
  std::chrono::milliseconds lock_timeout{60'000};
  /// How often a guest that has not released a disk is asked again. Nova asks every 20 s; a guest that was still
  /// booting loses requests, so sooner is better. libvirt itself waits up to 5 s in each request.
  std::chrono::milliseconds detach_again{5'000};
};

/// One connection, opened by the first call that needs it and opened again if it broke. Shared by a hypervisor and a
/// secret store; safe from several threads.
///
/// On `qemu:///embed?root=DIR` (libvirt's QEMU driver inside this process):
/// - One process at a time may use a DIR; guests keep running between processes. The driver stays in this process until
///   it ends, so a long-lived process keeps others out. Waiting is bounded by lock_timeout.
/// - One process can use one DIR in its life.
/// - DIR is created with its parents. DIR/etc/qemu.conf is read if it exists. libvirt's warnings go to
///   DIR/log/libvirt.log and not to standard error, unless LIBVIRT_LOG_OUTPUTS or LIBVIRT_DEBUG is set. To say so the
///   first call sets that variable for a moment: make it before other threads use getenv(3).
/// - DIR is at most 50 bytes long, or the sockets below it become longer than Linux allows.
class LibvirtConnection;

/// Opens nothing yet.
std::shared_ptr<LibvirtConnection> make_libvirt_connection(LibvirtOptions options);

/// libvirt's domains. Errors carry libvirt's own text; see interfaces.h for the kinds.
std::unique_ptr<Hypervisor> make_hypervisor(std::shared_ptr<LibvirtConnection> connection);

/// libvirt's secrets; answers "none" where the driver has no secrets at all.
std::unique_ptr<SecretStore> make_secret_store(std::shared_ptr<LibvirtConnection> connection);

}  // namespace aiolos
