// SPDX-License-Identifier: Apache-2.0
// libvirt's C functions that this project calls, loaded at first use. Adding one is one line in the list.
//
// Why dlopen and not a module of ours that links libvirt: nothing more to install and to find, no second copy of core
// in the process, and a host without libvirt can still make XML. The types come from libvirt's own header, so a call
// with wrong arguments does not compile; the library's soname and symbol versions have been stable since 2005.
#pragma once

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include <string>

#include "aiolos/core/result.h"
#include "signal_block.h"

namespace aiolos {

#define AIOLOS_LIBVIRT_FUNCTIONS(X)     \
  X(virInitialize)                      \
  X(virSetErrorFunc)                    \
  X(virGetLastError)                    \
  X(virResetLastError)                  \
  X(virEventRegisterDefaultImpl)        \
  X(virEventRunDefaultImpl)             \
  X(virConnectOpen)                     \
  X(virConnectClose)                    \
  X(virConnectIsAlive)                  \
  X(virConnectSetKeepAlive)             \
  X(virConnectGetLibVersion)            \
  X(virConnectGetVersion)               \
  X(virConnectDomainXMLToNative)        \
  X(virConnectListAllDomains)           \
  X(virConnectDomainEventRegisterAny)   \
  X(virConnectDomainEventDeregisterAny) \
  X(virDomainLookupByName)              \
  X(virDomainLookupByUUIDString)        \
  X(virDomainFree)                      \
  X(virDomainGetName)                   \
  X(virDomainGetUUIDString)             \
  X(virDomainIsActive)                  \
  X(virDomainIsPersistent)              \
  X(virDomainGetXMLDesc)                \
  X(virDomainMemoryStats)               \
  X(virDomainListGetStats)              \
  X(virDomainStatsRecordListFree)       \
  X(virDomainAttachDeviceFlags)         \
  X(virDomainDetachDeviceFlags)         \
  X(virDomainBlockResize)               \
  X(virDomainSetBlockIoTune)            \
  X(virDomainAddIOThread)               \
  X(virDomainSetIOThreadParams)         \
  X(virDomainGetState)                  \
  X(virDomainMigrateToURI3)             \
  X(virDomainGetJobStats)               \
  X(virDomainAbortJob)                  \
  X(virDomainMigrateGetMaxDowntime)     \
  X(virDomainMigrateSetMaxDowntime)     \
  X(virDomainMigrateSetMaxSpeed)        \
  X(virDomainMigrateStartPostCopy)      \
  X(virTypedParamsAddInt)               \
  X(virTypedParamsAddULLong)            \
  X(virTypedParamsAddString)            \
  X(virTypedParamsFree)                 \
  X(virConnectListAllSecrets)           \
  X(virSecretLookupByUsage)             \
  X(virSecretGetUsageType)              \
  X(virSecretGetUsageID)                \
  X(virSecretGetUUIDString)             \
  X(virSecretLookupByUUIDString)        \
  X(virSecretGetValue)                  \
  X(virSecretFree)

/// One function of libvirt's, called as itself, and never ended by SIGPIPE. Even closing a connection to a healthy
/// daemon can raise that: once the connection was idle for the keepalive interval, libvirt's client sends a ping behind
/// the closing message, and the daemon may have closed its end by then.
template <typename Function>
class LibvirtFunction;

template <typename Answer, typename... Arguments>
class LibvirtFunction<Answer (*)(Arguments...)> {
 public:
  using Pointer = Answer (*)(Arguments...);

  LibvirtFunction() = default;
  explicit LibvirtFunction(Pointer function) : function_(function) {}

  explicit operator bool() const { return function_ != nullptr; }

  Answer operator()(Arguments... arguments) const {
    const SignalBlock no_sigpipe(SignalBlock::Of::sigpipe);
    return function_(arguments...);
  }

 private:
  Pointer function_ = nullptr;
};

/// The loaded functions, by their own names.
struct LibvirtApi {
#define AIOLOS_DECLARE(name) LibvirtFunction<decltype(&::name)> name;
  AIOLOS_LIBVIRT_FUNCTIONS(AIOLOS_DECLARE)
#undef AIOLOS_DECLARE
};

/// Loads libvirt once for the process, silences its printing of errors and starts its event loop on a thread of its
/// own. The loop must run before a connection is opened: the embedded driver refuses to work without it, and events of
/// removed devices come through it. If this process has registered an event loop before, that one is used and must be
/// running.
///
/// @param log where libvirt's own log goes, as LIBVIRT_LOG_OUTPUTS has it ("3:file:PATH", the folder must exist);
/// empty: to standard error. Only the first call's counts. The environment is the only public way to say it: the
/// variable is set while libvirt initialises itself, and taken away again so that children of this process do not
/// inherit it. Where the variable or LIBVIRT_DEBUG is set already, that stays.
/// @return ErrorKind::configuration if libvirt is not installed or too old. Safe from several threads, but for the
/// first call with a `log` while others use getenv(3). What it gives lives as long as the process.
Result<const LibvirtApi*> libvirt_api(const std::string& log = {});

}  // namespace aiolos
