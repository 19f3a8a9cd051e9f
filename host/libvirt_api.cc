// SPDX-License-Identifier: Apache-2.0
// Loads libvirt at first use and runs its event loop.
#include "libvirt_api.h"

#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <system_error>
#include <thread>

namespace aiolos {
namespace {

constexpr const char* kLibrary = "libvirt.so.0";

Result<LibvirtApi> load() {
  void* library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);  // never closed: its threads run until the process ends
  if (library == nullptr)
    return fail(ErrorKind::configuration, std::string("cannot load libvirt: ") + ::dlerror(),
                "install it: apt-get install libvirt0 libvirt-daemon-driver-qemu");
  LibvirtApi api;
  const char* missing = nullptr;
#define AIOLOS_LOAD(name)                                                                      \
  api.name = decltype(api.name)(reinterpret_cast<decltype(&::name)>(::dlsym(library, #name))); \
  if (!api.name) missing = #name;
  AIOLOS_LIBVIRT_FUNCTIONS(AIOLOS_LOAD)
#undef AIOLOS_LOAD
  if (missing != nullptr)
    return fail(ErrorKind::configuration, std::string(kLibrary) + " has no function " + missing,
                "install libvirt 6.0 or newer");
  return api;
}

/// Errors are read with virGetLastError and reported once, by us.
void say_nothing(void*, virErrorPtr) {}

/// LIBVIRT_LOG_OUTPUTS while it lives, unless the user said something of their own.
class LogOutputs {
 public:
  explicit LogOutputs(const std::string& outputs)
      : set_(!outputs.empty() && std::getenv(kVariable) == nullptr && std::getenv("LIBVIRT_DEBUG") == nullptr) {
    if (set_) ::setenv(kVariable, outputs.c_str(), 1);
  }
  LogOutputs(const LogOutputs&) = delete;
  LogOutputs& operator=(const LogOutputs&) = delete;
  ~LogOutputs() {
    if (set_) ::unsetenv(kVariable);
  }

 private:
  static constexpr const char* kVariable = "LIBVIRT_LOG_OUTPUTS";
  bool set_;
};

Result<void> initialise(const LibvirtApi& api, const std::string& log) {
  const LogOutputs outputs(log);
  if (api.virInitialize() == 0) return {};
  return fail(ErrorKind::hypervisor, "libvirt could not initialise itself",
              "see that LIBVIRT_LOG_OUTPUTS, if set, is right");
}

Result<void> start_event_loop(const LibvirtApi& api) {
  if (api.virEventRegisterDefaultImpl() != 0)
    return fail(ErrorKind::hypervisor, "libvirt's event loop could not be registered", "restart this process");
  const SignalBlock signals_stay_with_the_caller;
  try {
    std::thread([run = api.virEventRunDefaultImpl] {
      while (true)
        if (run() < 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));  // a failing loop must not spin
    }).detach();
  } catch (const std::system_error& error) {
    return fail(ErrorKind::retry, std::string("cannot start libvirt's event loop: ") + error.what(),
                "this host is short of threads; try again when it has some");
  }
  return {};
}

Result<LibvirtApi> load_and_start(const std::string& log) {
  Result<LibvirtApi> api = load();
  if (!api) return api;
  if (const Result<void> ready = initialise(*api, log); !ready) return tl::unexpected(ready.error());
  api->virSetErrorFunc(nullptr, say_nothing);
  if (const Result<void> started = start_event_loop(*api); !started) return tl::unexpected(started.error());
  return api;
}

}  // namespace

Result<const LibvirtApi*> libvirt_api(const std::string& log) {
  static const Result<LibvirtApi> api = load_and_start(log);
  if (!api) return tl::unexpected(api.error());
  return &*api;
}

}  // namespace aiolos
