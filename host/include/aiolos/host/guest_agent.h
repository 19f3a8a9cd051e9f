// SPDX-License-Identifier: Apache-2.0
// The agents inside guests, through libvirt.
#pragma once

#include <memory>

#include "aiolos/core/guest_agent.h"
#include "aiolos/host/hypervisor.h"

namespace aiolos {

/// By virDomainQemuAgentCommand: a guest without the channel org.qemu.guest_agent.0 has none. libvirt has one question
/// at a time in each guest, beside all that it does with QEMU.
std::unique_ptr<GuestAgent> make_guest_agent(std::shared_ptr<LibvirtConnection> connection);

}  // namespace aiolos
