// SPDX-License-Identifier: Apache-2.0
#include "libvirt_qemu.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace aiolos {
namespace {

constexpr const char* kLibrary = "libvirt-qemu.so.0";

}  // namespace

Result<void*> libvirt_qemu_function(const char* name) {
  static void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);  // never closed, like libvirt itself
  if (library == nullptr)
    return fail(ErrorKind::configuration, fmt::format("cannot load {}, with which QEMU is asked", kLibrary),
                "install it: apt-get install libvirt0");
  if (void* const function = ::dlsym(library, name)) return function;
  return fail(ErrorKind::configuration, fmt::format("{} has no function {}", kLibrary, name),
              "install libvirt 6.0 or newer");
}

}  // namespace aiolos
