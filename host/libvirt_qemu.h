// SPDX-License-Identifier: Apache-2.0
// libvirt's functions that are QEMU's alone: a library of their own, loaded when one is first needed.
#pragma once

#include <libvirt/libvirt-qemu.h>

#include "aiolos/core/result.h"

namespace aiolos {

/// A function of libvirt-qemu.so.0, which every package of libvirt has beside libvirt.so.0. @return
/// ErrorKind::configuration if it cannot be loaded.
Result<void*> libvirt_qemu_function(const char* name);

}  // namespace aiolos
