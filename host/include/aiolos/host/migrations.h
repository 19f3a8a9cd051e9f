// SPDX-License-Identifier: Apache-2.0
// Live migrations through libvirt, behind core's interface.
#pragma once

#include <memory>

#include "aiolos/core/migration.h"
#include "aiolos/host/hypervisor.h"

namespace aiolos {

/// Peer to peer: this host's libvirt daemon does it all and reaches the destination's by itself, so the destination in
/// an order is a URI as the daemon sees it, with its keys and its network, and the migration goes on when this process
/// ends. Safe from several threads; each call speaks to the daemon by itself.
///
/// Errors are libvirt's own text with these kinds:
/// - ErrorKind::refused: nothing was begun, and trying again does not help: the embedded driver, which can't migrate; a
///   disk that libvirt does not take for shared (settings.unsafe); a setting that this libvirt does not know.
/// - ErrorKind::configuration: the destination can't be reached from here.
/// - ErrorKind::hypervisor: libvirt or QEMU gave up, abort() included. The guest runs here.
/// - ErrorKind::retry, of migrate() only after it has begun: it is not known where the guest is. The connection to this
///   host's daemon broke; or libvirt has the guest here no more, or stopped for a switchover of which it does not know
///   how it ended; or post-copy broke off. Ask both hosts.
///
/// Time. migrate() has no deadline of its own: whoever watches it ends it with abort(). A daemon that answers nothing
/// for 30 s is given up (ErrorKind::retry). What a destination that is down costs is its own TCP's or ssh's time.
///
/// Downtime limit. migrate() sets the first of settings.downtime_steps before it begins; the others are the caller's,
/// by set_downtime_limit(). libvirt takes back what was set on the way when a migration fails, and migrate() takes back
/// what it set before.
std::unique_ptr<Migrations> make_migrations(std::shared_ptr<LibvirtConnection> connection);

}  // namespace aiolos
