// SPDX-License-Identifier: Apache-2.0
// libvirt's errors as this project's: its own text, who can mend it, and what to do.
#pragma once

#include <string>

#include "libvirt_api.h"

namespace aiolos {

/// @param code,domain VIR_ERR_* and VIR_FROM_*. @param text libvirt's message. @param what "attach disk vdb to guest".
/// Pure. Source of the codes: libvirt/virterror.h.
Error libvirt_error(int code, int domain, const std::string& text, const std::string& what);

/// The calling thread's last libvirt error. Read it before any other libvirt call: even virDomainGetName clears it.
Error last_libvirt_error(const LibvirtApi& api, const std::string& what);

/// The code of the calling thread's last error; VIR_ERR_OK if there is none.
int last_libvirt_code(const LibvirtApi& api);

}  // namespace aiolos
