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
  /// How long release_leftovers waits for a guest to release a device that libvirt does not know of.
  std::chrono::milliseconds release_timeout{10'000};
};

/// One connection, opened by the first call that needs it and opened again if it broke. Shared by a hypervisor and a
/// secret store; safe from several threads.
///
/// On `qemu:///embed?root=DIR` (libvirt's QEMU driver inside this process):
/// - One process at a time may use a DIR; guests keep running between processes. Waiting is bounded by lock_timeout.
/// - From the first call that reaches libvirt until it exits, this process is the driver and keeps DIR's lock: closing
///   the connection does not give it back, and every other process that wants DIR (a command, virsh) waits in vain. Use
///   it from commands that end soon, or from the one daemon of the host; such a daemon must start and stop guests too.
/// - A process that is killed in the middle of attaching a disk leaves QEMU with a part of it; see
///   Hypervisor::release_leftovers. SIGINT, SIGTERM and SIGHUP wait until libvirt is done: every signal is blocked in
///   the calling thread during calls that change a guest, and in all threads that this library or libvirt starts. Other
///   threads of the program should block these three or handle them, or they end the process all the same.
/// - libvirt takes DIR's guests over in the background after it has opened it. The first call about a guest waits until
///   that is done (30 ms, at most 30 s), or it would see disks that the guest has released since the last process.
/// - One process can use one DIR in its life.
/// - DIR is created with its parents. DIR/etc/qemu.conf is read if it exists. libvirt's warnings go to
///   DIR/log/libvirt.log and not to standard error, unless LIBVIRT_LOG_OUTPUTS or LIBVIRT_DEBUG is set. To say so the
///   first call sets that variable for a moment: make it before other threads use getenv(3).
/// - DIR is at most 50 bytes long, or the sockets below it become longer than Linux allows.
///
/// Time. What is bounded: waiting for DIR (lock_timeout), for a guest to release a disk (timeout of detach_disk,
/// release_timeout, 10 s after a failed attach), for another job on the same guest (30 s, by libvirt), and for a
/// daemon, near or far, that does not answer at all (30 s, keep-alive messages). What has no deadline: a QEMU that
/// takes a command and does not answer, because its storage hangs, say. libvirt waits for it as long as it lives, in
/// its daemon or here; attach_disk, detach_disk, resize_disk and release_leftovers then do not return, and as signals
/// wait only SIGKILL ends this process. Also connecting: to a host that drops packets it takes the kernel's time for
/// TCP (2 min), over ssh what ssh's ConnectTimeout says.
class LibvirtConnection;

/// Opens nothing yet.
std::shared_ptr<LibvirtConnection> make_libvirt_connection(LibvirtOptions options);

/// libvirt's domains. Errors carry libvirt's own text; see interfaces.h for the kinds.
std::unique_ptr<Hypervisor> make_hypervisor(std::shared_ptr<LibvirtConnection> connection);

/// libvirt's secrets; answers "none" where the driver has no secrets at all.
std::unique_ptr<SecretStore> make_secret_store(std::shared_ptr<LibvirtConnection> connection);

}  // namespace aiolos
