// SPDX-License-Identifier: Apache-2.0
// libvirt's errors as this project's.
#include "libvirt_error.h"

#include <array>
#include <string>
#include <string_view>

namespace aiolos {
namespace {

struct CodeRow {
  int code;
  ErrorKind kind;
  std::string_view next;
};

// What libvirt itself says is wrong stays ErrorKind::hypervisor; the others can be mended without looking at QEMU.
constexpr std::array kCodes{
    CodeRow{VIR_ERR_NO_DOMAIN, ErrorKind::bad_input, "check the guest's name: virsh list --all"},
    CodeRow{VIR_ERR_NO_SECRET, ErrorKind::configuration,
            "define the secret and its value in libvirt (virsh secret-define, secret-set-value), or correct its UUID"},
    CodeRow{VIR_ERR_AUTH_FAILED, ErrorKind::configuration,
            "give this user the right to manage libvirt, or run as root"},
    CodeRow{VIR_ERR_AUTH_CANCELLED, ErrorKind::configuration,
            "give this user the right to manage libvirt, or run as root"},
    CodeRow{VIR_ERR_AUTH_UNAVAILABLE, ErrorKind::configuration,
            "give this user the right to manage libvirt, or run as root"},
    CodeRow{VIR_ERR_ACCESS_DENIED, ErrorKind::configuration, "let libvirt's access rules allow it for this user"},
    CodeRow{VIR_ERR_NO_CONNECT, ErrorKind::configuration, "correct libvirt.uri"},
    CodeRow{VIR_ERR_OPERATION_TIMEOUT, ErrorKind::retry,
            "libvirt is busy with this guest: try again when its other job has ended (virsh domjobinfo)"},
    CodeRow{VIR_ERR_RPC, ErrorKind::retry, "the connection to libvirt broke: see that its daemon runs, then try again"},
    CodeRow{VIR_ERR_INVALID_CONN, ErrorKind::retry, "the connection to libvirt broke: try again"},
    CodeRow{VIR_ERR_OPERATION_INVALID, ErrorKind::hypervisor,
            "the guest's state does not allow it: see 'virsh dominfo', start or resume the guest first"},
    CodeRow{VIR_ERR_CONFIG_UNSUPPORTED, ErrorKind::hypervisor,
            "this libvirt or QEMU can't do what the disk's XML asks: take that setting out, or use a newer version"},
    CodeRow{VIR_ERR_NO_SUPPORT, ErrorKind::hypervisor,
            "this libvirt driver can't do that: name another in libvirt.uri"},
    CodeRow{VIR_ERR_XML_ERROR, ErrorKind::hypervisor, "correct the disk's XML as libvirt says"},
    CodeRow{VIR_ERR_XML_DETAIL, ErrorKind::hypervisor, "correct the disk's XML as libvirt says"},
    CodeRow{VIR_ERR_DEVICE_MISSING, ErrorKind::hypervisor, "look at the guest's disks: virsh domblklist"},
    CodeRow{VIR_ERR_INVALID_ARG, ErrorKind::hypervisor, "correct the value that libvirt names"},
};

// What QEMU answers to a LUKS passphrase that opens nothing; libvirt hands it on as an internal error. Source: QEMU,
// crypto/block-luks.c.
constexpr std::string_view kWrongPassphrase = "Invalid password, cannot unlock any keyslot";

constexpr std::string_view kSeeLog = "see the guest's own log (qemu/NAME.log in libvirt's log folder) for QEMU's words";

}  // namespace

Error libvirt_error(int code, int domain, const std::string& text, const std::string& what) {
  Error error{ErrorKind::hypervisor, "cannot " + what + ": " + text, std::string(kSeeLog), {}};
  for (const CodeRow& row : kCodes)
    if (row.code == code) {
      error.kind = row.kind;
      error.next = row.next;
    }
  if (text.find(kWrongPassphrase) != std::string::npos) {
    error.kind = ErrorKind::configuration;
    error.next =
        "give the volume's libvirt secret the passphrase that the volume was encrypted with: virsh secret-set-value";
  }
  // A daemon that can't be reached is reported by the RPC client as a "system error" of socket calls.
  if (code == VIR_ERR_SYSTEM_ERROR && domain == VIR_FROM_RPC) {
    error.kind = ErrorKind::configuration;
    error.next =
        "start libvirt's daemon (systemctl start libvirtd), or name another hypervisor in libvirt.uri or --uri";
  }
  return error;
}

Error last_libvirt_error(const LibvirtApi& api, const std::string& what) {
  const virError* error = api.virGetLastError();
  if (error == nullptr || error->code == VIR_ERR_OK)
    return libvirt_error(VIR_ERR_OK, VIR_FROM_NONE, "no reason given", what);
  return libvirt_error(error->code, error->domain, error->message != nullptr ? error->message : "no reason given",
                       what);
}

int last_libvirt_code(const LibvirtApi& api) {
  const virError* error = api.virGetLastError();
  return error == nullptr ? VIR_ERR_OK : error->code;
}

}  // namespace aiolos
